"""The file: JSON with frames as hexadecimal text, and beside each what was read from it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from ..errors import ConfigError
from ..line import Exchanged, LineSettings
from ..model.point import PROTOCOLS

MARK = "meter_batch_recording"
VERSION = 1
SETTINGS = ("baud", "parity", "stop_bits", "data_bits", "framing")


@dataclass(frozen=True, slots=True)
class RecordedMeter:
    """A meter of the session; `template` is the id of its model."""

    address: str
    protocol: str
    template: str


@dataclass(frozen=True, slots=True)
class Recording:
    """A session: how the line was set, which meters were meant, every exchange in its order."""

    line: Mapping[str, Any]
    """`name`, `baud`, `parity`, `stop_bits`, `data_bits`, `framing`."""
    meters: tuple[RecordedMeter, ...]
    exchanges: tuple[Exchanged, ...]
    readings: tuple[Mapping[str, str] | None, ...] = field(default=())
    """What each exchange gave, as text by key of the quantity; None where it was no reading, () where not known."""


def record(
    name: str, settings: LineSettings, meters: Iterable[RecordedMeter], exchanges: Iterable[Exchanged]
) -> Recording:
    """The session of a line, as `Line.trace` kept it."""
    line = {"name": name} | {key: getattr(settings, key) for key in SETTINGS}
    return Recording(line, tuple(meters), tuple(exchanges))


def as_dict(recording: Recording) -> dict[str, Any]:
    """The recording as JSON values."""
    readings = recording.readings or (None,) * len(recording.exchanges)
    return {
        MARK: VERSION,
        "line": dict(recording.line),
        "meters": [asdict(one) for one in recording.meters],
        "exchanges": [
            {
                "at": one.at.isoformat(),
                "meter": one.meter,
                "request": one.request.hex(),
                "received": one.received.hex(),
                "duration_s": round(one.duration_s, 6),
                "problem": None if one.problem is None else str(one.problem),
                "readings": None if read is None else dict(read),
            }
            for one, read in zip(recording.exchanges, readings, strict=True)
        ],
    }


def dump(recording: Recording) -> str:
    """The text of the file."""
    content = as_dict(recording)
    exchanges = ",\n    ".join(json.dumps(one, ensure_ascii=False) for one in content.pop("exchanges"))
    head = json.dumps(content, ensure_ascii=False, indent=1).rstrip("}\n")
    return f'{head},\n "exchanges": [\n    {exchanges}\n ]\n}}\n'


def parse(text: str) -> Recording:
    """The recording in a text, also where it is part of something else, as in diagnostics of Home Assistant.

    Raises ConfigError that names what is wrong.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"it is no JSON: {error.msg} in line {error.lineno}") from error
    found = next(_recordings(content), None)
    if found is None:
        raise ConfigError(f'there is no recording in it (nothing says "{MARK}")')
    if found[MARK] != VERSION:
        raise ConfigError(f"{MARK} is {found[MARK]!r}; this version reads {VERSION}: update Meter Batch")
    exchanges, readings = [], []
    for number, one in enumerate(_list(found, "exchanges"), 1):
        exchange, read = _exchange(one, number)
        exchanges.append(exchange)
        readings.append(read)
    meters = tuple(_meter(one, number) for number, one in enumerate(_list(found, "meters"), 1))
    line = found.get("line")
    if not isinstance(line, dict):
        raise ConfigError("line: is missing or no object")
    return Recording(line, meters, tuple(exchanges), tuple(readings))


def settings_of(recording: Recording) -> LineSettings:
    """The line as it was set; raises ConfigError."""
    try:
        return LineSettings(**{key: value for key, value in recording.line.items() if key in SETTINGS})
    except TypeError as error:
        raise ConfigError(f"line: {error}") from error


def _recordings(content: object) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict):
        if MARK in content:
            yield content
        for one in content.values():
            yield from _recordings(one)
    elif isinstance(content, list):
        for one in content:
            yield from _recordings(one)


def _list(content: Mapping[str, Any], key: str) -> list[Any]:
    value = content.get(key)
    if not isinstance(value, list):
        raise ConfigError(f"{key}: is missing or no list")
    return value


def _meter(content: object, number: int) -> RecordedMeter:
    values = content if isinstance(content, dict) else {}
    texts = {key: values.get(key) for key in ("address", "protocol", "template")}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise ConfigError(f"meters {number}: {key}: must be a text, not {value!r}")
    if texts["protocol"] not in PROTOCOLS:
        raise ConfigError(f"meters {number}: protocol: is {texts['protocol']!r}; it may be {', '.join(PROTOCOLS)}")
    return RecordedMeter(str(texts["address"]), str(texts["protocol"]), str(texts["template"]))


def _exchange(content: object, number: int) -> tuple[Exchanged, Mapping[str, str] | None]:
    values = content if isinstance(content, dict) else {}
    try:
        exchanged = Exchanged(
            at=datetime.fromisoformat(values["at"]),
            meter=str(values["meter"]),
            request=bytes.fromhex(values["request"]),
            received=bytes.fromhex(values["received"]),
            duration_s=float(values["duration_s"]),
            problem=values.get("problem"),
        )
    except KeyError as error:
        raise ConfigError(f"exchanges {number}: {error.args[0]}: is missing") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"exchanges {number}: {error}") from error
    read = values.get("readings")
    if read is not None and not (isinstance(read, dict) and all(isinstance(one, str) for one in read.values())):
        raise ConfigError(f"exchanges {number}: readings: must be an object of texts")
    return exchanged, read
