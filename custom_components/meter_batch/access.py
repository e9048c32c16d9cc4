"""The one gate: who may do what. Every action and WebSocket command asks here before it does anything.

Today administrators may do everything and everybody else may read. What no user started (an automation, a script at
start) acts as the system and may do everything: only administrators can write automations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from homeassistant.auth.models import User
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import Unauthorized, UnknownUser


class Operation(StrEnum):
    """What somebody may want to do."""

    READ = "read"
    """See what is known already: points, values, history."""
    READ_METER = "read_meter"
    """Take time of a line for a reading outside the schedule."""
    CONFIGURE = "configure"
    """Change points, their meters, multipliers and routes."""
    READ_LOG = "read_log"
    """See who changed what."""
    ACKNOWLEDGE = "acknowledge"
    """Take note of alarms, and shelve them."""
    SUBSCRIBE = "subscribe"
    """Be told of every change of the ledger, which keeps it until then; prove that the ledger is whole."""


EVERYBODY = frozenset({Operation.READ})


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does it; the system has no id."""

    id: str | None
    name: str


SYSTEM = Actor(None, "system")


def scope(user: User) -> frozenset[str] | None:  # noqa: ARG001  # roles for parts of a site will look at it
    """The ids of the points somebody may see; None for all. Today everybody sees all."""
    return None


def sees(user: User, points: Iterable[str] | None) -> bool:
    """True where somebody may see all of these points (None: all there are)."""
    limit = scope(user)
    return limit is None or (points is not None and limit.issuperset(points))


async def async_check(
    hass: HomeAssistant, context: Context, operation: Operation, points: Iterable[str] | None = None
) -> Actor:
    """The acting user of a context, if it may do this to these points (None: to all); else Unauthorized."""
    if context.user_id is None:
        return SYSTEM
    user = await hass.auth.async_get_user(context.user_id)
    if user is None:
        raise UnknownUser(context=context, permission=operation)
    return check_user(user, operation, points, context)


def check_user(
    user: User,
    operation: Operation,
    points: Iterable[str] | None = None,  # noqa: ARG001  # the scope; roles for parts of a site will look at it
    context: Context | None = None,
) -> Actor:
    """The same for a user who is known already."""
    if not user.is_admin and operation not in EVERYBODY:
        raise Unauthorized(context=context, user_id=user.id, permission=operation)
    return Actor(user.id, user.name or user.id)
