"""Whether a meter answers the question that was asked, where its replies do not say what they answer.

A reply of Modbus RTU names unit, function and length, and no address. A gateway that keeps back replies answers each
question with the reply to the one before, and where two questions in a row want the same length of two places, nobody
can tell. So before the first such pair a short question goes between: whatever the lag, the lengths then give it away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..template import ModbusRequest, Request


class InStep:
    """What is known of one meter. Forget it where the connection is made anew."""

    def __init__(self, always: bool = False) -> None:
        """`always`: nothing counts as proven, for a single reading, where lag may come and go and time is no matter."""
        self._always = always
        self._last: ModbusRequest | None = None
        self._proven = False

    def proof(self, request: ModbusRequest, known: Sequence[Request] = ()) -> ModbusRequest | None:
        """What must be asked before a request, so that a reply that is one behind is recognised; None mostly.

        One of the `known` ones is taken where it has another form, because the meter is known to answer it.
        """
        last, form = self._last, (request.function, request.count)
        if self._always:
            # Before the first question, somebody else may have asked.
            if last is None or ((last.function, last.count) == form and last.address != request.address):
                other = (one for one in known if isinstance(one, ModbusRequest))
                shorter = replace(request, count=1 if request.count > 1 else 2)
                return next((one for one in other if (one.function, one.count) != form), shorter)
            return None
        if self._proven or last is None or (last.function, last.count) != form or last.address == request.address:
            return None
        return replace(request, count=1 if request.count > 1 else 2)

    def asked(self, proof: ModbusRequest) -> None:
        """A proof was answered or refused, so the reply to what follows tells."""
        self._last = proof

    def answered(self, request: ModbusRequest) -> None:
        """A request was answered; it proves something where the reply to the one before would have had another form."""
        last, self._last = self._last, request
        if last is not None and (last.function, last.count) != (request.function, request.count):
            self._proven = True

    def failed(self, request: ModbusRequest) -> None:
        """A request was not answered: its reply may still come, as the reply to the next."""
        self._last, self._proven = request, False
