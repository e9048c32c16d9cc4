"""What a ledger loses when its process is killed and when the power goes: nothing that it acknowledged.

A writer (`ledger_writer`) takes boundary after boundary and says which one is acknowledged, until `kill -9`, or until
the disk beneath it forgets what was not flushed (`volatile`, with a loop device and ext4 on it: a real file system
over a volatile cache). Then the file is opened again, counted, added up and verified. Where the machine does not let
us mount such a disk (root, /dev/fuse, loop devices), no power cut is made, and the figure says so.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .figure import Figure
from .ledger_writer import Judged, check
from .rig import ROOT

KILLS, CUTS = 100, 100
KILLS_A_FILE = 5
DISK_MB = 48
SECONDS = (0.02, 0.4)
"""How long a writer lives after its first acknowledgement."""


def run(*, full: bool) -> list[Figure]:
    """With --full ten times as many kills."""
    chance = random.Random(4)
    with tempfile.TemporaryDirectory(prefix="meter-batch-crash-") as name:
        folder = Path(name)
        count = KILLS * (10 if full else 1)
        kills = [_killed(folder / f"{number // KILLS_A_FILE}.db", chance) for number in range(count)]
        figures = _figures("kill -9", kills, KILLS, "")
        with contextlib.suppress(NotHere):
            _plain_image(folder)
            cuts = [_cut(folder, number, chance) for number in range(CUTS)]
            return figures + _figures("power cut", cuts, CUTS, "ext4 on a loop device over a volatile cache")
    return [*figures, Figure("crash", "power cut: made", 0, "", "higher", CUTS, "needs root, /dev/fuse, loop devices")]


class NotHere(Exception):
    """This machine does not let us mount a disk of our own."""


def _figures(what: str, ends: list[tuple[int, Judged | None]], target: int, note: str) -> list[Figure]:
    judged = [(acknowledged, one) for acknowledged, one in ends if one is not None]
    lost = sum(max(0, acknowledged - one.last) for acknowledged, one in judged)
    wrong = sum(one.intervals != one.expected or not one.verdict.ok for _, one in judged)
    slowest = max((one.reopen_s for _, one in judged), default=float("inf"))
    rows = max((one.intervals for _, one in judged), default=0)
    return [
        Figure("crash", f"{what}: made", len(ends), "", "higher", target, note),
        Figure("crash", f"{what}: unreadable", len(ends) - len(judged), "", "lower", 0),
        Figure("crash", f"{what}: acknowledged boundaries lost", lost, "", "lower", 0, "of 20 points each"),
        Figure("crash", f"{what}: missing, doubled or not adding up", wrong, "", "lower", 0, "files of all"),
        Figure("crash", f"{what}: slowest reopening", slowest, "s", "lower", 0.5, f"up to {rows} intervals"),
    ]


def _writer(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.ledger_writer", str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _acknowledged(said: str) -> int:
    """The last whole line."""
    return max((int(one) for one in said.splitlines(keepends=True) if one.endswith("\n")), default=-1)


def _killed(path: Path, chance: random.Random) -> tuple[int, Judged | None]:
    """A file goes on from one kill to the next."""
    with _writer(path) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        time.sleep(chance.uniform(*SECONDS))
        process.send_signal(signal.SIGKILL)
        said += process.stdout.read()
    return _acknowledged(said), _checked(path)


def _checked(path: Path) -> Judged | None:
    # In a process of its own would be the same: nothing of the writer's is left.
    from meter_batch_engine.errors import LedgerError

    try:
        return check(path)
    except LedgerError as error:
        print(error, file=sys.stderr)
        return None


def _do(*command: object) -> str:
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotHere(done.stderr)
    return done.stdout.strip()


def _plain_image(folder: Path) -> None:
    if os.geteuid() or not Path("/dev/fuse").exists() or shutil.which("mkfs.ext4") is None:
        raise NotHere
    image = folder / "plain.img"
    with image.open("wb") as file:
        file.truncate(DISK_MB << 20)
    _do("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
    for one in ("fuse", "mount"):
        (folder / one).mkdir()


@contextlib.contextmanager
def _mounted(image: Path, folder: Path) -> Iterator[None]:
    loop = _do("losetup", "-f", "--show", image)
    try:
        _do("mount", "-o", "commit=5", loop, folder)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=False, stderr=subprocess.DEVNULL)
    finally:
        subprocess.run(["losetup", "-d", loop], check=False)


def _cut(folder: Path, number: int, chance: random.Random) -> tuple[int, Judged | None]:
    """One life and death of a disk."""
    fuse, durable = folder / "fuse", folder / "durable.img"
    subprocess.run(["cp", "--sparse=always", folder / "plain.img", durable], check=True)
    command = [sys.executable, "-m", "bench.volatile", str(fuse), str(durable), str(number)]
    with subprocess.Popen(command, cwd=ROOT) as disk:
        try:
            until = time.monotonic() + 10
            while not (fuse / "disk.img").exists():
                if disk.poll() is not None or time.monotonic() > until:
                    raise NotHere
                time.sleep(0.02)
            with _mounted(fuse / "disk.img", folder / "mount"), _writer(folder / "mount" / "ledger.db") as process:
                assert process.stdout is not None
                said = process.stdout.readline()
                time.sleep(chance.uniform(*SECONDS))
                disk.send_signal(signal.SIGUSR1)
                time.sleep(0.05)
                process.send_signal(signal.SIGKILL)
                said += process.stdout.read()
        finally:
            subprocess.run(["umount", "-l", str(fuse)], check=False, stderr=subprocess.DEVNULL)
            disk.kill()
    subprocess.run(["e2fsck", "-p", durable], check=False, stdout=subprocess.DEVNULL)
    with _mounted(durable, folder / "mount"):
        return _acknowledged(said), _checked(folder / "mount" / "ledger.db")
