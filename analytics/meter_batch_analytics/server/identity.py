"""Who somebody is: signed by Home Assistant's proxy, or signed in by the server's own address. Fails closed."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from meter_batch_engine.errors import ConfigError

from ..session import Identity

_LOGGER = logging.getLogger(__name__)

HEADER = "X-Meter-Batch-Identity"
CLOCKS_S = 120.0
"""So much may the clocks of Home Assistant and this machine differ."""
IDLE_S, CHECK_S, TRUST_S = 1800.0, 300.0, 1800.0
"""A session ends when nobody used it for so long; Home Assistant is asked so often whether it still holds; and while
Home Assistant is away, its last answer counts for so long."""


def signed(identity: Identity, token: str, expires: float) -> str:
    """The header's value, as Home Assistant's proxy writes it."""
    data = {**identity.as_dict(), "exp": int(expires)}
    payload = _text(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())
    return f"{payload}.{_text(hmac.digest(token.encode(), payload.encode(), 'sha256'))}"


def verified(text: str, token: str, now: float) -> Identity | None:
    """The inverse; None for what was not signed by whoever holds the token, or too long ago."""
    payload, _, signature = text.partition(".")
    if not payload.isascii() or not signature.isascii():
        return None
    expected = hmac.digest(token.encode(), payload.encode(), "sha256")
    try:
        if not hmac.compare_digest(expected, _bytes(signature)):
            return None
        data = json.loads(_bytes(payload))
        found, expired_s = Identity.from_dict(data), now - float(data["exp"])
    except ValueError, TypeError, LookupError, ConfigError:
        return None
    if expired_s >= CLOCKS_S:
        _LOGGER.warning("Home Assistant signed a request %.0f s too long ago: are both clocks right?", expired_s)
        return None
    return found


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    text = text.rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


@dataclass(slots=True)
class SignedIn:
    """Somebody who signed in at the server's own address. `client`: for whom Home Assistant gave the refresh token."""

    identity: Identity
    refresh_token: str
    client: str
    seen: float
    checked: float
    trusted: float


class SignIns:
    """Who is signed in, by a random id that stands in a cookie; in memory, so a restart asks everybody again."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._all: dict[str, SignedIn] = {}

    def add(self, identity: Identity, refresh_token: str, client: str) -> str:
        """The id of a new one."""
        id_, now = secrets.token_urlsafe(32), self._now()
        self._all[id_] = SignedIn(identity, refresh_token, client, now, now, now)
        return id_

    def find(self, id_: str) -> Identity | None:
        """Who it is; counts as use."""
        found, now = self._all.get(id_), self._now()
        if found is None or not self._holds(found, now):
            return None
        found.seen = now
        return found.identity

    def touch(self, user: str) -> None:
        """The user did something in an open page."""
        for one in self._all.values():
            if one.identity.user == user:
                one.seen = self._now()

    def remove(self, id_: str) -> SignedIn | None:
        """Ends it."""
        return self._all.pop(id_, None)

    def over(self) -> list[SignedIn]:
        """Ends those that nobody used, or that Home Assistant could not confirm for too long; returns them."""
        now = self._now()
        ended = [id_ for id_, one in self._all.items() if not self._holds(one, now)]
        return [self._all.pop(id_) for id_ in ended]

    def due(self) -> list[tuple[str, SignedIn]]:
        """Those about which Home Assistant is to be asked again."""
        now = self._now()
        return [(id_, one) for id_, one in self._all.items() if now - one.checked >= CHECK_S]

    def confirm(self, id_: str, identity: Identity | None) -> None:
        """What came of asking: who it is now, or None where Home Assistant did not answer."""
        if (one := self._all.get(id_)) is not None:
            one.checked = self._now()
            if identity is not None:
                one.identity, one.trusted = identity, one.checked

    def users(self) -> set[str]:
        """Who is signed in at all."""
        return {one.identity.user for one in self._all.values()}

    @staticmethod
    def _holds(one: SignedIn, now: float) -> bool:
        return now - one.seen < IDLE_S and now - one.trusted < TRUST_S
