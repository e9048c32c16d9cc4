"""Who may ask for what: the sign-in of every handler, kernels for their owners, and errors that tell nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.base.handlers import JupyterHandler
from tornado.web import HTTPError, RequestHandler

from ..session import THEMES, Identity
from ..words import language_of
from . import screens
from .identity import HEADER, SignIns, verified
from .pool import KernelPool
from .settings import BASE

COOKIE = "meter_batch_session"


@dataclass
class Person(User):
    """Somebody who is signed in, as Jupyter wants it. `by_proxy`: Home Assistant vouches for this very request."""

    identity: Identity | None = None
    by_proxy: bool = False


class People(IdentityProvider):
    """Signed by the proxy, or signed in here; nobody else."""

    server_token: str = ""
    signed_in: SignIns

    @property
    def auth_enabled(self) -> bool:
        """Always."""
        return True

    def get_user(self, handler: RequestHandler) -> Person | None:
        """Who asks. A header that does not hold is not made good by a cookie."""
        header = handler.request.headers.get(HEADER)
        if header is not None:
            identity = verified(header, self.server_token, time.time())
            return None if identity is None else _person(identity, by_proxy=True)
        cookie = handler.get_signed_cookie(COOKIE, max_age_days=1)
        identity = None if cookie is None else self.signed_in.find(cookie.decode())
        return None if identity is None else _person(identity, by_proxy=False)

    def should_check_origin(self, handler: RequestHandler) -> bool:
        """The proxy has checked it against its own address, which we do not know."""
        user = handler.current_user
        return not (isinstance(user, Person) and user.by_proxy)

    def is_token_authenticated(self, handler: RequestHandler) -> bool:
        """Nobody is."""
        return False

    def get_handlers(self) -> list[tuple[str, object]]:
        """None but our own, which are added with all others."""
        return []


def _person(identity: Identity, *, by_proxy: bool) -> Person:
    return Person(username=identity.user, name=identity.name, identity=identity, by_proxy=by_proxy)


class Owners(Authorizer):
    """A kernel is for the person it was handed to, as long as they may see what they might see then."""

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        """Only kernels are asked for."""
        if not isinstance(user, Person) or user.identity is None or resource != "kernels":
            return False
        kernel_id = getattr(handler, "kernel_id", None) or handler.path_kwargs.get("kernel_id")
        owner = handler.kernel_manager.owner(kernel_id or (handler.path_args or ("",))[0])
        if owner is None:
            raise HTTPError(HTTPStatus.NOT_FOUND)
        return (owner.user, owner.scope) == (user.identity.user, user.identity.scope)


class Answers(RequestHandler):
    """What all handlers share: the language of the request, and errors as a page in it, without a trace."""

    @property
    def identity(self) -> Identity | None:
        """Who asks, where that is known."""
        user = self.current_user
        return user.identity if isinstance(user, Person) else None

    @property
    def language(self) -> str:
        """The address says it, or the person's Home Assistant, or their browser."""
        asked = self.get_query_argument("lang", None)
        if asked is None and self.identity is not None:
            asked = self.identity.language
        return language_of(asked or self.request.headers.get("Accept-Language", "").split(",")[0].split(";")[0])

    @property
    def theme(self) -> str | None:
        """Light or dark, where the address says it."""
        found = self.get_query_argument("theme", None)
        return found if found in THEMES else None

    def say(self, status: int, key: str, **more: Any) -> None:
        """Ends with a page that says one thing."""
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        if (refresh := more.get("refresh_s")) is not None:
            self.set_header("Retry-After", str(refresh))
        self.finish(screens.message(self.language, key, theme=self.theme, **more))

    def write_error(self, status_code: int, **_: Any) -> None:
        """An error as a page; what it was stands in the log."""
        key = {404: "not_found", 403: "forbidden", 401: "forbidden"}.get(status_code, "failed")
        link = (f"{BASE}/login", "again") if key == "forbidden" else None
        self.say(status_code, key, link=link)


class Signed(Answers, JupyterHandler):
    """A handler for people: who is not signed in is sent to sign in, or refused."""

    @property
    def pool(self) -> KernelPool:
        """All kernels."""
        return cast("KernelPool", self.settings["kernel_manager"])

    def get_login_url(self) -> str:
        """Where to sign in; a page in Home Assistant's frame is refused instead: its proxy signs people in."""
        if HEADER in self.request.headers:
            raise HTTPError(HTTPStatus.UNAUTHORIZED)
        return f"{BASE}/login"

    def check_xsrf_cookie(self) -> None:
        """Who asks from another site is refused. The session's cookie is not sent along by other sites either."""
        if not self.check_origin():
            raise HTTPError(HTTPStatus.FORBIDDEN)


class NotFound(Answers):
    """Whatever else is asked for."""

    def prepare(self) -> None:
        """Says that there is nothing."""
        raise HTTPError(HTTPStatus.NOT_FOUND)
