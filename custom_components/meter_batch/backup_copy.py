"""Files that are written to while Home Assistant makes a backup: a consistent copy beside each goes into it.

The archive also holds the file itself, which may be torn there. A mark, left out of backups by its ending, lies in the
configuration folder while there is a copy: a copy without its mark was restored, and takes the place of the file.
"""

from __future__ import annotations

import logging
from pathlib import Path

_LOGGER = logging.getLogger(__name__)

_BESIDE = ("-wal", "-shm", "-journal")


def copy_of(path: Path) -> Path:
    """The consistent copy of a file, there while Home Assistant makes a backup, and in that backup."""
    return path.with_suffix(".backup.db")


def mark_of(path: Path) -> Path:
    """The file that says that the copy beside `path` was made here."""
    return path.parent.with_name(f".{copy_of(path).name}-shm")


def adopt_copy(path: Path) -> None:
    """Where a backup was restored, takes the copy in it instead of the file, which was written to meanwhile.

    Where Home Assistant broke off while it made a backup, the file is whole and the copy goes.
    """
    copy = copy_of(path)
    if not copy.exists():
        return
    if mark_of(path).exists():
        remove_copy(path)
        return
    for ending in _BESIDE:
        path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)
    copy.replace(path)
    _LOGGER.warning("%s was restored from the copy in a backup", path.name)


def remove_copy(path: Path) -> None:
    """Removes the copy of a backup, and last the mark beside it."""
    copy = copy_of(path)
    for ending in ("", *_BESIDE):
        copy.with_name(f"{copy.name}{ending}").unlink(missing_ok=True)
    mark_of(path).unlink(missing_ok=True)
