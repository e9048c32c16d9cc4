"""The meters of the CPU benches: one process that answers on many connections at once, and does nothing else.

`python -m bench.answering modbus|dlt645` prints its port and serves until its standard input ends.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator

from meter_batch_engine.protocol.dlt645.frame import encode

from .rig import ROOT

WORDS = 100
ENERGY = "00010000"
_REPLY = bytes((1, 3, 2 * WORDS)) + bytes(value for word in range(WORDS) for value in (word, 255 - word))
_REST = struct.pack(">HH", 0, len(_REPLY)) + _REPLY


def modbus(request: bytes) -> bytes:
    """100 holding registers of unit 1, with the transaction's number of the request."""
    return request[:2] + _REST


def dlt645() -> Callable[[bytes], bytes]:
    """The total active energy of whichever meter is asked."""
    known: dict[bytes, bytes] = {}

    def answers(request: bytes) -> bytes:
        reply = known.get(request)
        if reply is None:
            frame = request.lstrip(b"\xfe")
            address = frame[6:0:-1].hex()
            data = bytes.fromhex(ENERGY)[::-1] + bytes.fromhex("00123456")[::-1]
            reply = known[request] = b"\xfe" * 4 + encode(address, 0x91, data)
        return reply

    return answers


def serve(answer: Callable[[bytes], bytes]) -> None:
    """Answers until standard input ends."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listening.getsockname()[1], flush=True)
    poll = select.epoll()
    poll.register(listening, select.EPOLLIN)
    poll.register(sys.stdin, select.EPOLLIN)
    plugs: dict[int, socket.socket] = {}
    while True:
        for number, _ in poll.poll():
            plug = plugs.get(number)
            if plug is not None:
                try:
                    request = plug.recv(4096)
                except OSError:
                    request = b""
                if request:
                    plug.send(answer(request))
                else:
                    poll.unregister(plug)
                    del plugs[number]
                    plug.close()
            elif number == sys.stdin.fileno():
                return
            else:
                plug, _ = listening.accept()
                plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                plugs[plug.fileno()] = plug
                poll.register(plug, select.EPOLLIN)


@contextlib.contextmanager
def answering(protocol: str) -> Iterator[int]:
    """The port of such a process, which ends with the block."""
    command = [sys.executable, "-m", "bench.answering", protocol]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


if __name__ == "__main__":
    serve(modbus if sys.argv[1] == "modbus" else dlt645())
