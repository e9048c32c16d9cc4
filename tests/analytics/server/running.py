"""A real server as a child process, and what a browser and Home Assistant's proxy say to it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from meter_batch_analytics.server.identity import HEADER, signed
from meter_batch_analytics.server.settings import BASE
from meter_batch_analytics.session import Identity

START = """
import json, os
from meter_batch_analytics.session import Session
session = Session.from_environment()
import ipywidgets
button = ipywidgets.Button(description=" ".join([session.language, *sorted(session.site.points)]))
shown = ipywidgets.Label(json.dumps(sorted(os.environ)))
picture = ipywidgets.Image(value=b"travels as bytes")
def clicked(_):
    print("noise")
    raise ValueError("a secret")
button.on_click(clicked)
button
"""
BROKEN = 'print("noise")\nraise ValueError("a secret")'
OURS = "session.site.choose('nonsense')"


def notebooks(folder: Path) -> Path:
    folder.mkdir()
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    for name, cells in (("explorer", [START]), ("trends", [START, BROKEN, "1 / 0"]), ("quality", [START, OURS])):
        book = new_notebook(cells=[new_code_cell(one) for one in cells], metadata=kernel)
        nbformat.write(book, folder / f"{name}.ipynb")
    return folder


@dataclass
class Running:
    """The process, its address and its token."""

    process: subprocess.Popen[str]
    address: str
    data: Path
    log: Path

    @property
    def token(self) -> str:
        return (self.data / "server-token").read_text().strip()

    def by_proxy(self, who: Identity, seconds: float = 60.0) -> dict[str, str]:
        return {HEADER: signed(who, self.token, time.time() + seconds)}

    @property
    def by_machine(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def url(self, path: str) -> str:
        return f"{self.address}{BASE}{path}"

    def children(self) -> dict[int, str]:
        """Their arguments by pid."""
        found = subprocess.run(
            ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
        ).stdout
        rows = [line.split(maxsplit=2) for line in found.splitlines()]
        return {int(row[0]): row[2] for row in rows if len(row) == 3 and int(row[1]) == self.process.pid}


@contextmanager
def running(url: str, data: Path, *options: str, notebooks_in: Path, token: str = "a-token") -> Iterator[Running]:
    data.mkdir(exist_ok=True)
    (data / "token").write_text(token)
    log = data / "log"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "A_SECRET_TOKEN": "not for kernels"}
    arguments = ["serve", "--url", url, "--token-file", str(data / "token"), "--data", str(data),
                 "--listen", "127.0.0.1:0", "--notebooks", str(notebooks_in), *options]  # fmt: skip
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "meter_batch_analytics", *arguments],
            stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("ready: "), log.read_text()
            made = Running(process, line.removeprefix("ready: ").strip(), data, log)
            yield made
            children = made.children()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) in (0, -signal.SIGKILL), log.read_text()
            gone(children)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def gone(children: Iterable[int], seconds: float = 30.0) -> None:
    """Waits until none of these processes runs any more."""
    end = time.monotonic() + seconds
    while left := [pid for pid in children if _runs(pid)]:
        assert time.monotonic() < end, left
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # empty: it ended and nobody looked
    except OSError:
        return False


def kernel_of(page: str) -> str:
    found = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", page)
    assert found, page
    return found[0]


def model_of(page: str) -> str:
    found = re.search(r'data-model="([0-9a-f]+)"', page)
    assert found, page
    return found[1]


class Socket:
    """A page's connection to its kernel, in the protocol of plain JSON."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._session = socket, uuid.uuid4().hex

    async def send(self, type_: str, content: dict[str, Any], channel: str = "shell") -> str:
        id_ = uuid.uuid4().hex
        header = {
            "msg_id": id_, "msg_type": type_, "session": self._session, "username": "", "version": "5.3",
            "date": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        message = {"channel": channel, "header": header, "parent_header": {}, "metadata": {}, "content": content}
        await self._socket.send_str(json.dumps({**message, "buffers": []}))
        return id_

    async def until(self, type_: str, parent: str, seconds: float = 10.0) -> tuple[dict[str, Any], list[str]]:
        """The content of the first message of a type that answers another, and the types that came until then."""
        seen: list[str] = []
        while True:
            message = await self._socket.receive(timeout=seconds)
            assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
            data = message.data if isinstance(message.data, str) else _text(message.data)
            found = json.loads(data)
            if found["parent_header"].get("msg_id") == parent:
                seen.append(found["header"]["msg_type"])
                if seen[-1] == type_:
                    return found["content"], seen


def _text(data: bytes) -> bytes:
    """Of a message with bytes its first part; all begin with how many parts there are, and where each begins."""
    count, first, second = (int.from_bytes(data[place : place + 4], "big") for place in (0, 4, 8))
    return data[first : second if count > 1 else None]
