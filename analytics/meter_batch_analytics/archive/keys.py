"""Keys of an archive that is encrypted at rest: where the master key is kept, and what is derived from it.

Parquet modular encryption (AES-GCM, 256 bits, footer and all columns). Each file has a key of its own, derived from the
master key and the file's name, so that no key is used for more than one file.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet.encryption as pe

from ..errors import ArchiveError

KEY_BYTES = 32
SERVICE = "meter-batch-archive"


class KeyProvider(Protocol):
    """Where a master key is kept."""

    def key(self) -> bytes:
        """The key, 32 bytes; ArchiveError where there is none."""

    def create(self) -> bytes:
        """Makes a key and keeps it; ArchiveError where there is one already."""


class KeyFile:
    """A file that only its owner may read (mode 0600), with the key as 64 hexadecimal digits."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def key(self) -> bytes:
        """The key; ArchiveError where the file is missing, open to others or holds no key."""
        try:
            if os.name != "nt" and self.path.stat().st_mode & 0o077:
                raise ArchiveError(f"others may read the key file {self.path}: chmod 600 {self.path}")
            text = self.path.read_text(encoding="ascii").strip()
        except FileNotFoundError as error:
            raise ArchiveError(
                f"the key file {self.path} is missing: bring it back, without it nothing can be read"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise ArchiveError(f"the key file {self.path} cannot be read: {error}") from error
        return _key_from(text, f"the key file {self.path}")

    def create(self) -> bytes:
        """Makes the file."""
        key = secrets.token_bytes(KEY_BYTES)
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise ArchiveError(f"there is a key file {self.path} already; it is left as it is") from None
        except OSError as error:
            raise ArchiveError(f"the key file {self.path} cannot be written: {error.strerror}") from error
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        return key


class KeyRing:
    """The keyring of the operating system, under a name; needs the package `keyring`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def key(self) -> bytes:
        """The key; ArchiveError where the keyring has none, or there is no keyring."""
        text = self._call("get_password", SERVICE, self.name)
        if text is None:
            raise ArchiveError(f'the keyring has no key "{self.name}" of {SERVICE}')
        return _key_from(text, f'the key "{self.name}" in the keyring')

    def create(self) -> bytes:
        """Makes a key and keeps it there."""
        if self._call("get_password", SERVICE, self.name) is not None:
            raise ArchiveError(f'the keyring has a key "{self.name}" of {SERVICE} already; it is left as it is')
        key = secrets.token_bytes(KEY_BYTES)
        self._call("set_password", SERVICE, self.name, key.hex())
        return key

    @staticmethod
    def _call(name: str, *arguments: str) -> Any:
        try:
            import keyring
            from keyring.errors import KeyringError
        except ImportError as error:
            raise ArchiveError("the keyring needs the Python package keyring: install it, or use a key file") from error
        try:
            return getattr(keyring, name)(*arguments)
        except KeyringError as error:
            raise ArchiveError(f"the keyring cannot be used ({error}): use a key file") from error


class Crypto:
    """What readers and writers of Parquet need, by file."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @property
    def fingerprint(self) -> str:
        """Tells keys apart without telling the key."""
        return self._derived("fingerprint").hex()[:16]

    def encryption(self, path: str) -> Any:
        """For a writer."""
        return pe.create_encryption_properties(self._derived(f"file {path}"), aad_prefix=path.encode())

    def decryption(self, path: str) -> Any:
        """For a reader."""
        return pe.create_decryption_properties(self._derived(f"file {path}"), aad_prefix=path.encode())

    def _derived(self, purpose: str) -> bytes:
        return hmac.digest(self._key, f"{SERVICE} {purpose}".encode(), hashlib.sha256)


def _key_from(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ArchiveError(f"{where} holds no key: 64 hexadecimal digits are expected")
    return key
