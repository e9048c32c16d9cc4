"""Files that are wholly there or not at all: written beside, made durable, then given their name."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ArchiveError

TEMPORARY = ".tmp"


@contextmanager
def failures(path: Path) -> Iterator[None]:
    """Disk errors as ArchiveError, in words."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ArchiveError(
                f"the disk of the archive is full ({path}): make room. Nothing is lost; it goes on from where it was"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ArchiveError(f"{path} may not be written or read: {error.strerror}") from error
        if isinstance(error, FileNotFoundError):
            raise ArchiveError(f"{error.filename or path} is missing") from error
        raise ArchiveError(f"{path}: {error.strerror or error}") from error


def write(path: Path, work: Callable[[Path], None]) -> str:
    """Lets `work` write a file beside `path`, makes it durable and gives it its name; returns its SHA-256.

    The checksum is of what can be read back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + TEMPORARY)
    try:
        work(beside)
        descriptor = os.open(beside, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        checksum = sha256(beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return checksum


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
