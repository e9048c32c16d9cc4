"""A disk that forgets: one file over FUSE whose writes are durable only once they are flushed, as a real disk's are.

`python -m bench.volatile FOLDER FILE SEED` serves FOLDER/disk.img, kept in FILE. SIGUSR1 is a power cut: a random half
of the writes that were not flushed survives, in no order, and whatever comes later fails. The kernel's protocol is
spoken directly (version 7.31), so nothing has to be installed; it needs root, /dev/fuse and loop devices.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import signal
import stat
import struct
import sys
from enum import IntEnum
from pathlib import Path

IN = struct.Struct("<IIQQIIII")
OUT = struct.Struct("<IiQ")
ATTR = struct.Struct("<6Q10I")


class Ask(IntEnum):
    """What the kernel asks for (linux/fuse.h)."""

    LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS = 1, 2, 3, 4, 14, 15, 16, 17
    RELEASE, FSYNC, FLUSH, INIT, OPENDIR, RELEASEDIR, FSYNCDIR = 18, 20, 25, 26, 27, 29, 30
    INTERRUPT, DESTROY, BATCH_FORGET = 36, 38, 42


ROOT_NODE, DISK_NODE = 1, 2
NAME = b"disk.img"
MOST_WRITE = 128 * 1024
PAGE = 4096


class Disk:
    """The file behind, what was written to it, and what of that is not flushed."""

    def __init__(self, path: Path, seed: int) -> None:
        self._fd = os.open(path, os.O_RDWR)
        self.size = path.stat().st_size
        self._waiting: list[tuple[int, bytes]] = []
        self._pages: dict[int, bytearray] = {}
        self._random = random.Random(seed)
        self.dead = False

    def read(self, offset: int, count: int) -> bytes:
        """As the host sees it, flushed or not."""
        found = bytearray(os.pread(self._fd, count, offset))
        for page in range(offset // PAGE, (offset + len(found) + PAGE - 1) // PAGE):
            if (held := self._pages.get(page)) is not None:
                lo, hi = max(offset, page * PAGE), min(offset + len(found), (page + 1) * PAGE)
                found[lo - offset : hi - offset] = held[lo - page * PAGE : hi - page * PAGE]
        return bytes(found)

    def write(self, offset: int, data: bytes) -> None:
        """Into the cache."""
        self._waiting.append((offset, data))
        at = 0
        while at < len(data):
            page, inside = divmod(offset + at, PAGE)
            part = data[at : at + PAGE - inside]
            held = self._pages.get(page)
            if held is None:
                held = self._pages[page] = bytearray(os.pread(self._fd, PAGE, page * PAGE).ljust(PAGE, b"\0"))
            held[inside : inside + len(part)] = part
            at += len(part)

    def flush(self) -> None:
        """What was written is durable."""
        for offset, data in self._waiting:
            os.pwrite(self._fd, data, offset)
        self._waiting.clear()
        self._pages.clear()

    def cut(self, *_: object) -> None:
        """The power goes."""
        if not self.dead:
            self.dead = True
            for offset, data in self._waiting:
                if self._random.random() < 0.5:
                    os.pwrite(self._fd, data, offset)


def mount(folder: Path) -> int:
    """The descriptor at which the kernel asks."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"volatile", os.fsencode(folder), b"fuse", ctypes.c_ulong(6), options):
        raise OSError(ctypes.get_errno(), "mount")
    return fd


def serve(fd: int, disk: Disk) -> None:
    """Answers until it is unmounted."""
    while True:
        try:
            asked = os.read(fd, MOST_WRITE + 64 * 1024)
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.EBADF):
                return
            if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                continue
            raise
        _, code, unique, node, *_ = IN.unpack_from(asked)
        if code in (Ask.FORGET, Ask.BATCH_FORGET, Ask.INTERRUPT):
            continue
        try:
            answer, failure = _answer(disk, code, node, asked[IN.size :]), 0
        except OSError as error:
            answer, failure = b"", error.errno or errno.EIO
        os.write(fd, OUT.pack(OUT.size + len(answer), -failure, unique) + answer)
        if code == Ask.DESTROY:
            return


def _answer(disk: Disk, code: int, node: int, body: bytes) -> bytes:
    match code:
        case Ask.INIT:
            major, minor, ahead, _ = struct.unpack_from("<IIII", body)
            flags = 1 << 5 | 1 << 22  # big writes, and how many pages one may have
            out = struct.pack("<IIIIHHIIHHII", 7, min(minor, 31), ahead, flags, 16, 12, MOST_WRITE, 1, 32, 0, 0, 0)
            return out.ljust(64, b"\0") if major == 7 else struct.pack("<II", 7, 31)
        case Ask.LOOKUP:
            if body.rstrip(b"\0") != NAME:
                raise OSError(errno.ENOENT, "")
            return struct.pack("<QQQQII", DISK_NODE, 0, 3600, 3600, 0, 0) + _attributes(disk, DISK_NODE)
        case Ask.GETATTR | Ask.SETATTR:
            return struct.pack("<QII", 3600, 0, 0) + _attributes(disk, node)
        case Ask.OPEN | Ask.OPENDIR:
            return struct.pack("<QII", 1, 0, 0)
        case Ask.READ:
            _, offset, count = struct.unpack_from("<QQI", body)
            return disk.read(offset, count)
        case Ask.WRITE:
            if disk.dead:
                raise OSError(errno.EIO, "")
            _, offset, count = struct.unpack_from("<QQI", body)
            disk.write(offset, body[40 : 40 + count])
            return struct.pack("<II", count, 0)
        case Ask.STATFS:
            return struct.pack("<5Q4I6I", 1 << 20, 1 << 20, 1 << 20, 2, 0, PAGE, 255, PAGE, 0, *(0,) * 6)
        case Ask.FSYNC | Ask.FSYNCDIR:
            if disk.dead:
                raise OSError(errno.EIO, "")
            disk.flush()
            return b""
        case Ask.RELEASE | Ask.FLUSH | Ask.RELEASEDIR | Ask.DESTROY:
            return b""
    raise OSError(errno.ENOSYS, "")


def _attributes(disk: Disk, node: int) -> bytes:
    folder = node == ROOT_NODE
    mode = stat.S_IFDIR | 0o755 if folder else stat.S_IFREG | 0o644
    size = 0 if folder else disk.size
    return ATTR.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1 + folder, 0, 0, 0, PAGE, 0)


if __name__ == "__main__":
    served = Disk(Path(sys.argv[2]), int(sys.argv[3]))
    signal.signal(signal.SIGUSR1, served.cut)
    serve(mount(Path(sys.argv[1])), served)
