"""A virtual fleet on real wires in a process of its own, and what passed on the wires."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class Rig:
    """`where` lines can be reached; `exchanges` of a line once the rig has stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "wire.jsonl"
        self.pid = 0
        """Of the process that runs the fleet: SIGHUP makes it read the faults in `fleet.toml` again."""
        self._rows: list[dict[str, Any]] = []

    def keep(self) -> None:
        """Takes over what the wires wrote down, before the folder goes."""
        self._rows = [json.loads(text) for text in self.log.read_text(encoding="utf-8").splitlines()]

    def exchanges(self, line: str) -> list[dict[str, Any]]:
        """What passed on a line's wire, oldest first."""
        return [row for row in self._rows if row["line"] == line]


@contextlib.contextmanager
def rig(lines: str, ready: list[Path | int]) -> Iterator[Rig]:
    """Runs the fleet of a TOML text; `ready` are the ports and terminals that must be there before it is used.

    At real-time priority where the system allows it, so that the wires keep their time beside a busy master.
    """
    with tempfile.TemporaryDirectory(prefix="meter-batch-bench-") as name:
        folder = Path(name)
        fleet = folder / "fleet.toml"
        fleet.write_text(lines.replace("FOLDER", name), encoding="utf-8")
        made = Rig(folder)
        command = [sys.executable, "-m", "meter_batch_cli", "simulate", str(fleet), "--wire-log", str(made.log)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            made.pid = process.pid
            with contextlib.suppress(PermissionError, AttributeError):
                os.sched_setscheduler(process.pid, os.SCHED_FIFO, os.sched_param(10))
            try:
                _wait(process, folder, ready)
                yield made
            finally:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
            made.keep()


def _wait(process: subprocess.Popen[bytes], folder: Path, ready: list[Path | int]) -> None:
    until = time.monotonic() + 30
    for one in ready:
        while not (_listens(one) if isinstance(one, int) else (folder / one).exists()):
            if process.poll() is not None:
                said = process.stderr.read().decode() if process.stderr else ""
                raise RuntimeError(f"the virtual fleet ended: {said}")
            if time.monotonic() > until:
                raise RuntimeError(f"the virtual fleet does not listen at {one}")
            time.sleep(0.1)


def _listens(port: int) -> bool:
    """Whether a socket of this machine listens there; asked of the kernel, because a connection would disturb."""
    wanted = f"0100007F:{port:04X}"
    table = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return any(row.split()[1] == wanted and row.split()[3] == "0A" for row in table)


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody uses now."""
    import socket

    plugs = [socket.socket() for _ in range(count)]
    try:
        for plug in plugs:
            plug.bind(("127.0.0.1", 0))
        return [plug.getsockname()[1] for plug in plugs]
    finally:
        for plug in plugs:
            plug.close()
