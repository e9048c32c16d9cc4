"""What recorded meters answer, for a virtual line: to each request what came then, in turns. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import MeterError
from ..line import Exchanged
from ..protocol.modbus import rtu, tcp
from .again import asked_words, words_of
from .file import Recording, settings_of

_KEPT = 512


class Answers:
    """Takes what a master sends and gives what the meters sent back then.

    The same request again gives the next answer that was recorded to it, and after the last the first again. A Modbus
    read that was never asked is answered where all its words were read. What is not known stays without an answer.
    """

    def __init__(self, recording: Recording) -> None:
        """Raises ConfigError where the line's settings are none."""
        self._framing = settings_of(recording).framing
        self._known: dict[bytes, list[bytes]] = {}
        self._turn: dict[bytes, int] = {}
        self._words: dict[tuple[int, int, int], int] = {}
        """By unit, function, address."""
        self._heard = bytearray()
        self._framer = tcp.TcpFramer("server")
        self.unknown = 0
        """Modbus TCP requests that nothing was recorded to."""
        for one in recording.exchanges:
            if key := self._key(one.request):
                self._known.setdefault(key, []).append(one.received)
            self._keep_words(one)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The answers to what has now come; an empty one where the meter was silent then."""
        if self._framing == "tcp":
            for frame in self._framer.feed(data):
                answer = self._answer(self._key(frame.raw))
                if answer is None:
                    answer = self._from_words(frame.raw)
                if answer is None:
                    self.unknown += 1
                    continue
                yield frame.raw[:2] + answer[2:] if answer else b""
            return
        self._heard += data
        while (found := self._first_known()) is not None:
            end, answer = found
            del self._heard[:end]
            yield answer
        del self._heard[:-_KEPT]

    def _first_known(self) -> tuple[int, bytes] | None:
        """The end of the first request in what was heard, and its answer."""
        heard = bytes(self._heard)
        places = [(heard.find(request), request) for request in self._known]
        known = min(((place, -len(request), request) for place, request in places if place >= 0), default=None)
        if known is not None:
            return known[0] + len(known[2]), self._answer(known[2]) or b""
        for frame in rtu.RtuFramer("server").feed(heard):
            if (answer := self._from_words(frame.raw)) is not None:
                return heard.find(frame.raw) + len(frame.raw), answer
        return None

    def _answer(self, request: bytes) -> bytes | None:
        answers = self._known.get(request)
        if not answers:
            return None
        turn = self._turn.get(request, 0)
        self._turn[request] = turn + 1
        return answers[turn % len(answers)]

    def _key(self, request: bytes) -> bytes:
        # The transaction's number is another each time; FE bytes before a request are no part of it.
        return request[2:] if self._framing == "tcp" else request.lstrip(b"\xfe")

    def _keep_words(self, exchanged: Exchanged) -> None:
        try:
            words = words_of(exchanged, self._framing)
        except MeterError:
            return
        asked = asked_words(exchanged.request, self._framing)
        if asked is not None:
            unit, function, address, _ = asked
            self._words |= {(unit, function, address + place): word for place, word in enumerate(words or ())}

    def _from_words(self, request: bytes) -> bytes | None:
        asked = asked_words(request, self._framing)
        if asked is None:
            return None
        unit, function, address, count = asked
        words = [self._words.get((unit, function, one)) for one in range(address, address + count)]
        if not words or None in words:
            return None
        body = bytes((function, 2 * count)) + b"".join((word or 0).to_bytes(2) for word in words)
        if self._framing == "tcp":
            return tcp.encode(int.from_bytes(request[:2]), unit, body)
        return rtu.encode(unit, body)
