"""The API of Meter Batch in Home Assistant, over HTTP with a long-lived access token. Synchronous."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from ssl import SSLCertVerificationError
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import Request, urlopen

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.model.interval import Changes, Interval
from meter_batch_engine.wire import RegistrySnapshot, decode_changes, decode_intervals, decode_registry

from ..errors import AwayError, SourceError

TIMEOUT_S = 60.0
_PROGRAM = "meter-batch-analytics"


def token_of(path: Path) -> str:
    """The token that a file holds; ConfigError where there is none."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise ConfigError(f"the token file {path} cannot be read: {error.strerror or error}") from error
    if not text:
        raise ConfigError(f"the token file {path} is empty: it must hold a long-lived access token of Home Assistant")
    if not _token(text):
        raise ConfigError(
            f"the token file {path} holds something else: one line with a long-lived access token of Home Assistant "
            "is expected"
        )
    return text


def _token(text: str) -> bool:
    """Whether it can be a token: what else stands there would break the request."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def trust(authority: Path | None) -> None:
    """This process and its children trust a certificate authority of the house; ConfigError where it is no file."""
    if authority is None:
        return
    if not authority.is_file():
        raise ConfigError(f"--ca {authority} is no file")
    os.environ["SSL_CERT_FILE"] = str(authority.resolve())


class Api:
    """One Home Assistant. AwayError where it does not answer, SourceError where it refuses, ConfigError for a question
    that it cannot answer, each in words.
    """

    def __init__(self, url: str, token: str, *, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(
                f'"{url}" is no address of Home Assistant; one looks like http://homeassistant.local:8123'
            )
        if not _token(token.strip()):
            raise ConfigError("there is no token: make a long-lived access token in your profile in Home Assistant")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self.token, self._timeout = token.strip(), timeout_s

    def registry(self) -> RegistrySnapshot:
        """Points, names of areas and lines, time zone."""
        return decode_registry(self._json("GET", "registry"))

    def changes(self, subscriber: str, limit: int) -> Changes:
        """What a subscriber has not acknowledged; subscribes on first use."""
        return decode_changes(self._json("GET", f"changes?{urlencode({'subscriber': subscriber, 'limit': limit})}"))

    def acknowledge(self, subscriber: str, changes: Changes) -> None:
        """The subscriber has these safely; the ledger may forget them."""
        body = {"subscriber": subscriber, "revision": changes.revision, "cursor": changes.cursor}
        self._json("POST", "acknowledge", body)

    def unsubscribe(self, subscriber: str) -> None:
        """Nobody waits for it any more."""
        self._json("DELETE", f"changes?subscriber={quote(subscriber)}")

    def history(self, asked: Mapping[str, Any]) -> Iterator[list[Interval]]:
        """Intervals or periods as they arrive, exact, point by point."""
        with self._asked("POST", "history", {**asked, "format": "wire"}) as response:
            while line := response.readline():
                if not line.endswith(b"\n"):
                    raise AwayError("the answer of Home Assistant was broken off: ask again")
                yield decode_intervals(json.loads(line))

    def verify(self) -> dict[str, Any]:
        """Lets the ledger prove that it is whole; may take minutes."""
        return dict(self._json("POST", "verify", {}))

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, query: Mapping[str, str] | None = None
    ) -> Any:
        """The answer to any other question of the API, as JSON."""
        return self._json(method, path if query is None else f"{path}?{urlencode(query)}", body)

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        with self._asked(method, path, body) as response:
            try:
                return json.loads(response.read())
            except ValueError as error:
                raise SourceError(f"what answers at {self.url} is not Meter Batch: is the address right?") from error

    @contextmanager
    def _asked(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Iterator[Any]:
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Accept-Encoding": "gzip",
            "User-Agent": _PROGRAM,
            "Content-Type": "application/json",
        }
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/api/meter_batch/{path}", data, headers, method=method)
        try:
            with urlopen(request, timeout=self._timeout) as response:
                yield _unpacked(response)
        except HTTPError as error:
            raise self._refusal(error) from error
        except (URLError, HTTPException, OSError, EOFError) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, SSLCertVerificationError):
                raise AwayError(
                    f"Home Assistant at {self.url} has a certificate that is not trusted here "
                    f"({reason.verify_message}): name the certificate authority that signed it with --ca or in "
                    "SSL_CERT_FILE"
                ) from error
            raise AwayError(f"Home Assistant at {self.url} does not answer: {reason}") from error

    def _refusal(self, error: HTTPError) -> Exception:
        message = ""
        with suppress(OSError, ValueError, LookupError, TypeError):
            message = json.loads(_unpacked(error).read())["message"]
        if error.code == 401:
            return SourceError(
                f"Home Assistant at {self.url} refuses the token: it is wrong or was deleted. "
                "Make a new long-lived access token in your profile there"
            )
        if error.code == 403:
            return SourceError(message or f"Home Assistant at {self.url} does not allow this to the token's user")
        if error.code >= 500:
            return AwayError(message or f"Home Assistant at {self.url} cannot answer now (HTTP {error.code})")
        if message:
            return ConfigError(message)
        return SourceError(
            f"there is no Meter Batch at {self.url} (HTTP {error.code}): is it installed there, and as new as this one?"
        )


def _unpacked(response: HTTPResponse | HTTPError) -> Any:
    if response.headers.get("Content-Encoding") == "gzip":
        return gzip.GzipFile(fileobj=response)
    return response
