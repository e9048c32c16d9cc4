"""Files that are wholly there or not at all: written beside, made durable, then given their name."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from ..errors import ArchiveError

TEMPORARY = ".tmp"


@contextmanager
def failures(path: Path, what: str = "the archive") -> Iterator[None]:
    """Disk errors as ArchiveError, in words. `what` is kept there."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ArchiveError(
                f"the disk of {what} is full ({path}): make room. Nothing is lost; it goes on from where it was"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ArchiveError(f"{path} may not be written or read: {error.strerror}") from error
        if isinstance(error, FileNotFoundError):
            raise ArchiveError(f"{error.filename or path} is missing") from error
        raise ArchiveError(f"{path}: {error.strerror or error}") from error


class Sink:
    """A file that is written from its beginning to its end and knows the checksum of what it was given."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest, self._size = file, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        """Writes bytes, or anything that is like them."""
        self._digest.update(data)
        count = self._file.write(data)
        self._size += count
        return count

    def tell(self) -> int:
        """How much was written."""
        return self._size

    def flush(self) -> None:
        """Nothing: who made it does that."""

    close = flush

    def writable(self) -> bool:
        """Yes."""
        return True

    def readable(self) -> bool:
        """No; nor is there a way back."""
        return False

    seekable = readable

    @property
    def checksum(self) -> str:
        """The SHA-256 of all that was written."""
        return self._digest.hexdigest()


def write(path: Path, work: Callable[[Sink], object]) -> str:
    """Lets `work` write a file beside `path`, makes it durable and gives it its name; returns its SHA-256.

    It gets its name only once what is read back, from the disk where the system can do that, has the checksum of what
    was written; else ArchiveError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + TEMPORARY)
    try:
        checksum = _written(beside, work)
        if sha256(beside) != checksum:
            _broken(path)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return checksum


def _written(path: Path, work: Callable[[Sink], object]) -> str:
    with path.open("wb") as file:
        sink = Sink(file)
        work(sink)
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            # What is in memory is no evidence.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return sink.checksum


def _broken(path: Path) -> NoReturn:
    raise ArchiveError(f"{path} does not hold what was written to it: is the disk broken?")


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
