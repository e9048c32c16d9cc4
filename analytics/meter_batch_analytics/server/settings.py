"""What the server was started with, and where things lie in its data folder."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from meter_batch_engine.errors import ConfigError

from ..archive import durable
from ..archive.keys import KeyFile, KeyProvider, KeyRing
from ..session import ARCHIVE, DATA, KEY_FILE, KEYRING

BASE = "/api/meter_batch/analytics"
"""Where all of it lies, under Home Assistant's address and its own alike."""
REPORTS, TARIFFS = "reports", "tariffs"
"""Folders of the data folder."""
KERNEL_GB, OTHERS_GB = 0.3, 1.0
"""What a session may take of the memory, and what is left to the server, the follower and the report worker."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a server. `address` is how browsers and Home Assistant reach it, where that is not `listen`;
    `sign_in` how browsers reach Home Assistant, where that is not `url`.
    """

    url: str
    token_file: Path
    data: Path
    host: str = "127.0.0.1"
    port: int = 8130
    address: str | None = None
    sign_in: str | None = None
    kernels: int = 10
    archive: Path | None = None
    key_file: Path | None = None
    keyring: str | None = None
    notebooks: Path = field(default_factory=lambda: notebooks_folder())

    @property
    def archive_folder(self) -> Path:
        """Where the archive is."""
        return self.archive or self.data / "archive"

    @property
    def keys(self) -> KeyProvider | None:
        """The key of the archive, where it is encrypted."""
        if self.key_file is not None:
            return KeyFile(self.key_file)
        return None if self.keyring is None else KeyRing(self.keyring)

    @property
    def environment(self) -> dict[str, str]:
        """What a session needs to find its data; never who it is for."""
        named = {DATA: self.data, ARCHIVE: self.archive, KEY_FILE: self.key_file, KEYRING: self.keyring}
        return {name: str(value) for name, value in named.items() if value is not None}


def notebooks_folder() -> Path:
    """Where the apps' notebooks lie: in the package once it is installed, else at the root of the source tree."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "notebooks"
    return inside if inside.is_dir() else package.parents[1] / "notebooks"


def listening(text: str) -> tuple[str, int]:
    """Host and port of `--listen`; ConfigError where it is neither."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f'"{text}" is no address to listen on; one looks like 127.0.0.1:8130 or 0.0.0.0:8130')
    return host.strip("[]") or "0.0.0.0", int(port)


def origin_of(text: str, option: str) -> str:
    """Scheme, host and port of an address; ConfigError for what is none."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
        raise ConfigError(f'{option} "{text}" is no address; one looks like https://meters.example.com:8130')
    return f"{parts.scheme}://{parts.netloc}"


def keep_private(data: Path) -> str | None:
    """From now on what this process and its children make is for their owner only, the data folder too where it is not
    there yet. Else what is to be done about it, where others can read it. ArchiveError where it cannot be made.
    """
    if os.name == "nt":
        return None
    os.umask(0o077)
    with durable.failures(data, "the analytics server"):
        data.mkdir(parents=True, exist_ok=True)
        mode = data.stat().st_mode & 0o777
    if mode & 0o077:
        return f"others on this machine can read {data} ({mode:03o}): history, names and reports. chmod -R go= {data}"
    return None


def server_token(data: Path) -> str:
    """The secret that this server and Home Assistant share; made where there is none, readable by its owner only."""
    path = data / "server-token"
    with durable.failures(path, "the analytics server"):
        data.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            beside = path.with_suffix(".tmp")
            beside.unlink(missing_ok=True)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(secrets.token_urlsafe(32) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(path)
            except OSError:
                beside.unlink(missing_ok=True)
                raise
        found = path.read_text(encoding="ascii").strip()
    if len(found) < 32:
        raise ConfigError(f"{path} holds no token: remove it, and it is made anew")
    return found


def kernels_for(memory_gb: float) -> int:
    """So many sessions a machine can have."""
    return max(1, min(64, round((memory_gb - OTHERS_GB) / KERNEL_GB)))


def memory_gb() -> float:
    """The memory of this machine, or what its container may take of it."""
    found = [float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else [4e9]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            found.append(float(Path(path).read_text(encoding="ascii")))
        except OSError, ValueError:  # no container, or no limit
            continue
    return min(found) / 2**30


def our_version() -> str:
    """The version of the package."""
    try:
        return version("meter-batch")
    except PackageNotFoundError:
        return "0.1.0"
