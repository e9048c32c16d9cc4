"""What travels between a host and the process that polls for it. Pure; see `remote.py` and `child.py`.

A message is a JSON array: what it is, the line it is about, and what belongs to it. The first one that each side sends
is its version; both are the same program, so any other version is refused. On the pipe each message follows its length
in four bytes, the most significant first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_type_hints

from ..errors import ConfigError, MeterBatchError
from ..line import Exchanged, LineSettings
from ..model.interval import Hole
from ..model.obis import Obis
from ..model.reading import Reading
from ..sentences import say
from ..template import Template, load
from ..wire_values import form_of
from .lessons import Lessons
from .meter import PollMeter
from .report import PollReport
from .schedule import PollSettings

POLL_VERSION: Final = 1
LENGTH_BYTES: Final = 4

REPORT = form_of(PollReport)
ERROR = form_of(MeterBatchError)
READINGS = form_of(list[Reading])
REGISTERS = form_of(frozenset[Obis] | None)
TRACE = form_of(list[Exchanged])
HOLES = form_of(Mapping[str, tuple[Hole, ...]])


@dataclass(frozen=True, slots=True)
class LinePlan:
    """All that a poller is made of but its meters."""

    url: str
    settings: LineSettings
    poll: PollSettings
    lessons: Mapping[str, Lessons]
    serials: Mapping[str, str]


PLAN = form_of(LinePlan)

_METER = {name: form_of(hint) for name, hint in get_type_hints(PollMeter).items() if hint is not Template}


def encode_meter(meter: PollMeter) -> dict[str, Any]:
    """A meter; its template by its id."""
    return {"template": meter.template.id} | {name: form.encode(getattr(meter, name)) for name, form in _METER.items()}


def decode_meter(data: Mapping[str, Any]) -> PollMeter:
    """The inverse; TemplateError where there is no such template here."""
    values = {name: form.decode(data[name]) for name, form in _METER.items()}
    return PollMeter(template=load(data["template"]), **values)


def packed(message: Sequence[Any]) -> bytes:
    """A message as it passes the pipe."""
    data = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def length_of(head: bytes) -> int:
    """How many bytes follow a length."""
    return int.from_bytes(head, "big")


def unpacked(data: bytes) -> list[Any]:
    """The message in what follows the length; ConfigError where it is none."""
    try:
        message = json.loads(data)
    except ValueError as error:
        raise ConfigError(say("wire_foreign", reason=str(error))) from error
    if not isinstance(message, list) or not message or not isinstance(message[0], str):
        raise ConfigError(say("wire_foreign", reason="not a message"))
    return message


def check_version(message: Sequence[Any]) -> None:
    """ConfigError where the other side is another program."""
    if list(message[:2]) != ["version", POLL_VERSION]:
        raise ConfigError(say("wire_foreign", reason=f"{message[:2]}"))


def encode_meters(meters: Iterable[PollMeter]) -> list[dict[str, Any]]:
    """All meters of a line."""
    return [encode_meter(one) for one in meters]
