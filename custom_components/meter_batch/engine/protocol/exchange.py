"""What a line needs to know of one question and its answer, whatever the protocol."""

from __future__ import annotations

from typing import Protocol


class Exchange[Answer](Protocol):
    """One request and the recognition of its reply. Pure: made once, fed with what arrives, asked for the answer.

    A line sends `request`, then passes every received byte to `feed` until that returns an answer or raises.
    """

    protocol: str
    """"modbus" or "dlt645": where it changes, a line keeps a longer silence."""
    request: bytes
    """The bytes to send, without preamble bytes that the line adds."""
    reply_bytes: int
    """How long the longest good reply is, for the deadline and for airtime; 0 where none comes (broadcast)."""
    meter: str
    """Whom it asks, for messages and for the line's memory of late replies."""
    before: bytes
    """What was heard before the reply and is no part of it; empty nearly always, and before there is an answer."""
    after_silence: bool
    """True where an earlier reply of the same meter may still come, so that of two that fit the last one counts."""
    behind: bytes
    """What came together with the last byte of the reply, behind it."""

    def feed(self, data: bytes) -> Answer | None:
        """Takes received bytes, split anywhere; the answer once the reply is complete, else None.

        Noise, echoes of the request and frames that cannot be the reply are skipped (and counted in `foreign`).
        Raises MeterError where the meter itself refused, or where two replies contradict each other. Never raises
        anything else.
        """

    def silence(self) -> Exception:
        """The MeterError that fits what was heard when time is up: NoReply, FrameError or WrongMeter."""

    def fits(self, data: bytes) -> bool:
        """True where these bytes hold a good reply to this question, whatever was fed before."""

    def could_be_answered_by(self, other: Exchange[object]) -> bool:
        """True where a late reply to `other` would be taken for the reply to this one."""
