"""What travels between a site and those who keep or analyse its history, as JSON values. Pure.

Columns instead of rows (a tenth of the bytes), energies as text, because they are exact. Every message carries
`version`; a reader refuses what is newer than itself in words instead of guessing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from .errors import ConfigError
from .model.finding import AlarmState, Event, Finding, JournalEntry, Severity
from .model.interval import Changes, Interval, Quality
from .model.point import Commissioned, InstalledMeter, Multiplier, Point, Route, Term
from .sentences import Sentence, received, say

WIRE_VERSION = 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_PLAIN = ("skew_s", "demand_max_kw", "voltage_min_v", "voltage_mean_v", "voltage_max_v", "power_factor", "known_s")
"""Fields of an interval that are JSON values as they are."""


@dataclass(frozen=True, slots=True)
class RegistrySnapshot:
    """All points of a site, with the names that people know areas and lines by."""

    points: Mapping[str, Point]
    areas: Mapping[str, str]
    """Name of the area a point is in, by point id; points without one are left out."""
    lines: Mapping[str, str]
    """Name of a line by its id."""
    time_zone: str
    """IANA name; days and months of the site are meant in it."""
    revision: int = 0
    """Of the ledger, when the snapshot was made."""
    country: str | None = None
    """ISO 3166 code of the country whose holidays count; None where nobody said, as in older messages."""
    site: str | None = None
    """What people call the site; None where nobody said."""


def encode_registry(snapshot: RegistrySnapshot) -> dict[str, Any]:
    """The registry as a message."""
    return {
        "version": WIRE_VERSION,
        "points": {id_: point_as_dict(point) for id_, point in snapshot.points.items()},
        "areas": dict(snapshot.areas),
        "lines": dict(snapshot.lines),
        "time_zone": snapshot.time_zone,
        "revision": snapshot.revision,
        "country": snapshot.country,
        "site": snapshot.site,
    }


def decode_registry(message: Mapping[str, Any]) -> RegistrySnapshot:
    """The inverse; ConfigError where the message is newer than this program, or none of its kind."""
    return _decoded(
        message,
        lambda: RegistrySnapshot(
            {id_: point_from_dict(id_, one) for id_, one in message["points"].items()},
            dict(message["areas"]),
            dict(message["lines"]),
            message["time_zone"],
            message["revision"],
            message.get("country"),
            message.get("site"),
        ),
    )


def encode_changes(changes: Changes) -> dict[str, Any]:
    """What a subscriber has not acknowledged yet, as a message."""
    return {
        **encode_intervals(changes.intervals),
        "up_to": changes.revision,
        "more": changes.more,
        "cursor": changes.cursor,
    }


def decode_changes(message: Mapping[str, Any]) -> Changes:
    """The inverse; ConfigError as `decode_registry`."""
    intervals = decode_intervals(message)
    return _decoded(message, lambda: Changes(message["up_to"], intervals, message["more"], message["cursor"]))


def encode_intervals(intervals: Iterable[Interval]) -> dict[str, Any]:
    """Intervals, or longer periods, as columns of equal length; starts are whole seconds since 1970 (UTC).

    What repeats (point, flags, source, rule, parts) is `[values, place of each row's in values]`; energies are by OBIS
    code, None where an interval has none. `uncovered_s` is there only where a row has any.
    """
    rows = list(intervals)
    codes = sorted({obis for one in rows for obis in one.energies})
    return {
        "version": WIRE_VERSION,
        "point": _coded([one.point for one in rows]),
        "start": [(one.start - _EPOCH) // _SECOND for one in rows],
        "length_s": [one.length_s for one in rows],
        "energies": {
            obis: [None if (energy := one.energies.get(obis)) is None else str(energy) for one in rows]
            for obis in codes
        },
        "flags": _coded([" ".join(sorted(one.flags)) for one in rows]),
        "revision": [one.revision for one in rows],
        "source": _coded([one.source for one in rows]),
        "rule": _coded([one.rule for one in rows]),
        "parts": _coded([one.parts for one in rows]),
        **{name: [getattr(one, name) for one in rows] for name in _PLAIN},
        **({"uncovered_s": [one.uncovered_s for one in rows]} if any(one.uncovered_s for one in rows) else {}),
    }


def decode_intervals(message: Mapping[str, Any]) -> list[Interval]:
    """The inverse; ConfigError as `decode_registry`."""
    return _decoded(message, lambda: _intervals(message))


def encode_findings(findings: Iterable[Finding], journal: Iterable[JournalEntry] = ()) -> dict[str, Any]:
    """Findings, and what happened to them, as a message: one object each, for there are few."""
    return {
        "version": WIRE_VERSION,
        "findings": [finding_as_dict(one) for one in findings],
        "journal": [
            {"finding": one.finding, "at": one.at.isoformat(), "what": one.what, "by": one.by, "comment": one.comment}
            for one in journal
        ],
    }


def decode_findings(message: Mapping[str, Any]) -> tuple[list[Finding], list[JournalEntry]]:
    """The inverse; ConfigError as `decode_registry`."""
    return _decoded(
        message,
        lambda: (
            [finding_from_dict(one) for one in message["findings"]],
            [
                JournalEntry(
                    one["finding"], datetime.fromisoformat(one["at"]), Event(one["what"]), one["by"], one["comment"]
                )
                for one in message["journal"]
            ],
        ),
    )


def finding_as_dict(finding: Finding) -> dict[str, Any]:
    """A finding as JSON values."""
    return {
        **{name: getattr(finding, name) for name in _OF_FINDING},
        **{name: None if (at := getattr(finding, name)) is None else at.isoformat() for name in _INSTANTS},
        "severity": finding.severity,
        "state": finding.state,
        "facts": {name: _fact(fact) for name, fact in finding.facts.items()},
    }


def finding_from_dict(data: Mapping[str, Any]) -> Finding:
    """The inverse of `finding_as_dict`."""
    instants: dict[str, Any] = {
        name: None if (at := data[name]) is None else datetime.fromisoformat(at) for name in _INSTANTS
    }
    return Finding(
        severity=Severity(data["severity"]),
        state=AlarmState(data["state"]),
        facts={name: _fact_from(fact) for name, fact in data["facts"].items()},
        **{name: data[name] for name in _OF_FINDING},
        **instants,
    )


_INSTANTS = ("since", "until", "acknowledged_at", "shelved_until")
_OF_FINDING = (
    *("id", "kind", "subject_kind", "subject", "value", "limit", "extreme", "unit", "phase", "cause"),
    *("acknowledged_by", "comment"),
)


def _fact(fact: str | float) -> Any:
    """Sentences travel with their key, so that they can be said in another language at the other end."""
    if isinstance(fact, Sentence):
        return {"say": fact.key, "facts": {name: _fact(one) for name, one in fact.facts.items()}, "text": str(fact)}
    return fact


def _fact_from(data: Any) -> str | float:
    if not isinstance(data, Mapping):
        return data if isinstance(data, str) else float(data)
    return received(data["say"], {name: _fact_from(one) for name, one in data["facts"].items()}, str(data["text"]))


def _intervals(message: Mapping[str, Any]) -> list[Interval]:
    flags = [frozenset(Quality(one) for one in text.split()) for text in message["flags"][0]]
    parts = [(whole, count) for whole, count in message["parts"][0]]
    points, sources, rules = (message[name][0] for name in ("point", "source", "rule"))
    codes = list(message["energies"])
    energies = [
        {obis: Decimal(text) for obis, text in zip(codes, texts, strict=True) if text is not None}
        for texts in zip(*message["energies"].values(), strict=True)
    ] or [{} for _ in message["start"]]
    columns = zip(
        message["point"][1],
        message["start"],
        message["length_s"],
        energies,
        message["flags"][1],
        message["revision"],
        message["source"][1],
        message["rule"][1],
        message["parts"][1],
        message.get("uncovered_s") or [0] * len(message["start"]),
        *(message[name] for name in _PLAIN),
        strict=True,
    )
    return [
        Interval(
            points[point],
            _EPOCH + timedelta(seconds=start),
            length_s,
            energy,
            flags[flag],
            revision,
            sources[source],
            rule=rules[rule],
            parts=parts[part],
            uncovered_s=uncovered_s,
            **dict(zip(_PLAIN, plain, strict=True)),
        )
        for point, start, length_s, energy, flag, revision, source, rule, part, uncovered_s, *plain in columns
    ]


def _coded(values: Sequence[Hashable]) -> list[list[Any]]:
    places: dict[Hashable, int] = {}
    index = [places.setdefault(value, len(places)) for value in values]
    return [list(places), index]


def _decoded[T](message: Mapping[str, Any], work: Callable[[], T]) -> T:
    version = message.get("version") if isinstance(message, Mapping) else None
    if isinstance(version, int) and version > WIRE_VERSION:
        raise ConfigError(say("wire_newer", version=version, ours=WIRE_VERSION))
    if version != WIRE_VERSION:
        raise ConfigError(say("wire_foreign", reason=f"version {version}"))
    try:
        return work()
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ConfigError(say("wire_foreign", reason=f"{type(error).__name__}: {error}")) from error


def point_as_dict(point: Point) -> dict[str, Any]:
    """A point as JSON values, without its id, which is the key."""
    return {
        "name": point.name,
        "area": point.area,
        "parent": point.parent,
        "detail": point.detail,
        "meters": [
            {"since": one.since.isoformat(), "template": one.template, "serial": one.serial} for one in point.meters
        ],
        "routes": [{"line": one.line, "protocol": one.protocol, "address": one.address} for one in point.routes],
        "multipliers": [
            {"since": one.since.isoformat(), "ct": str(one.ct), "pt": str(one.pt)} for one in point.multipliers
        ],
        "formula": [{"sign": one.sign, "point": one.point} for one in point.formula],
        "attributes": dict(point.attributes),
        "commissioned": None if point.commissioned is None else _commissioned_as_dict(point.commissioned),
    }


def _commissioned_as_dict(one: Commissioned) -> dict[str, Any]:
    exact = {key: getattr(one, key) for key in _EXACT}
    return {
        "at": one.at.isoformat(),
        **{key: getattr(one, key) for key in ("by", "register", "note", "template", "address")},
        **{key: None if value is None else str(value) for key, value in exact.items()},
    }


_EXACT = ("displayed", "read", "multiplier", "deviation")


def _commissioned_from_dict(data: Mapping[str, Any]) -> Commissioned:
    exact: dict[str, Any] = {key: None if data[key] is None else Decimal(data[key]) for key in _EXACT}
    plain: dict[str, Any] = {key: data[key] for key in ("by", "register", "note", "template", "address")}
    return Commissioned(at=datetime.fromisoformat(data["at"]), **plain, **exact)


def point_from_dict(id_: str, data: Mapping[str, Any]) -> Point:
    """The inverse of `point_as_dict`."""
    return Point(
        id=id_,
        name=data["name"],
        area=data["area"],
        parent=data["parent"],
        detail=data["detail"],
        meters=tuple(
            InstalledMeter(datetime.fromisoformat(one["since"]), one["template"], one["serial"])
            for one in data["meters"]
        ),
        routes=tuple(Route(one["line"], one["protocol"], one["address"]) for one in data["routes"]),
        multipliers=tuple(
            Multiplier(datetime.fromisoformat(one["since"]), Decimal(one["ct"]), Decimal(one["pt"]))
            for one in data["multipliers"]
        ),
        formula=tuple(Term(1 if one["sign"] > 0 else -1, one["point"]) for one in data["formula"]),
        attributes=dict(data["attributes"]),
        # those who are older know nothing of it
        commissioned=_commissioned_from_dict(one) if (one := data.get("commissioned")) else None,
    )
