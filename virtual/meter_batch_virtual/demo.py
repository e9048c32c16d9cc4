"""The demo's site, from one source: a fleet file for `meter-batch simulate` and its points as a list for the import."""

from __future__ import annotations

import csv
import io
import json
import socket
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from math import hypot
from pathlib import Path
from typing import Any

from meter_batch_engine.template import load as load_template

from .config import usual_peak_kw
from .load import load, uniform

_FILE = Path(__file__).with_name("demo.toml")
_MOST_PER_SITE = 96
"""More meters than this become more sites of the same six lines."""
COLUMNS = (
    "name", "line", "protocol", "address", "template", "serial", "ct", "pt", "area", "parent", "formula", "contract_kw",
    "generation",
)  # fmt: skip


@cache
def _site() -> dict[str, Any]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


LINES = 6
"""Lines of the smallest demo; larger ones have `line_count` of them."""


def line_count(meters: int) -> int:
    """How many lines, and so ports, a demo of so many meters has."""
    return LINES * _sites(meters)


def _sites(meters: int) -> int:
    return max(1, -(-meters // _MOST_PER_SITE))


_RATIOS = (20, 30, 40, 60, 80, 100, 120, 160, 200, 240, 300, 400, 500, 600, 800, 1000, 1200, 1600)
"""Current transformers to 5 A that can be bought, as ratios."""
_LOSSES = 1.03
"""What a feeder measures more than the meters behind it."""
_MOST_RIPPLE = 0.05
"""A feeder swings no more, however few meters of the demo stand for what is behind it."""
_SPREAD = 0.15
"""How far the peaks of meters of one kind lie from their middle: no two machines are loaded alike."""


@dataclass(slots=True)
class _Meter:
    name: str
    address: str
    serial: str
    template: str
    load: str
    area: str
    parent: str
    ct: int
    dead: bool
    peak_kw: float
    ripple: float | None
    generation: str

    @property
    def protocol(self) -> str:
        if not self.template.startswith("generic/dlt645"):
            return "modbus"
        return "dlt645-1997" if "1997" in self.template else "dlt645-2007"

    @property
    def mean_kw(self) -> float:
        """Mean power at the primary side over a usual week."""
        return self.peak_kw * load(self.load).weekly_mean * self.ct

    @property
    def contract_kw(self) -> int | str:
        """The demand agreed on with the grid for what feeds the site: a quarter above its usual peak."""
        return "" if self.parent or self.ct == 1 else round(0.125 * self.peak_kw * self.ct) * 10

    @property
    def swing_kw(self) -> float:
        """Amplitude of its swing at the primary side over a usual week."""
        return self.mean_kw * (load(self.load).ripple if self.ripple is None else self.ripple)


def demo_fleet(
    meters: int, ports: Sequence[int] = (), *, folder: Path = Path(), language: str = "en"
) -> tuple[str, str]:
    """A fleet file and the CSV of its points. `ports` are given to the lines in order, free ones where they run out.

    Names and areas are in `language` ("en" or "zh-Hans"); the pseudo terminal is made in `folder`.
    """
    given = iter([*ports, *_free_ports(max(0, line_count(meters) - len(ports)))])
    fleet: list[str] = []
    rows: list[dict[str, object]] = []
    sites = _sites(meters)
    for site in range(sites):
        tail = f" {site + 1}" if site else ""
        names: dict[str, str] = {}
        lines = [
            (line, next(given), list(_meters(line, share, language, tail, site * LINES + number, names)))
            for number, (line, share) in enumerate(_shares(meters * (site + 1) // sites - meters * site // sites))
        ]
        _balance([meter for _, _, own in lines for meter in own])
        for line, port, own in lines:
            if not own:
                continue
            pty = line["listen"] == "pty" and site == 0
            listen = f"pty:{folder.absolute() / 'ttyMeters'}" if pty else f"tcp://127.0.0.1:{port}"
            name = line[language] + tail
            fleet += [_line(line, name, listen), *map(_fleet_row, own)]
            rows += [
                {column: getattr(meter, column, "") for column in COLUMNS} | {"line": name, "pt": 1} for meter in own
            ]
        rows += _unaccounted([meter for _, _, own in lines for meter in own], names, language, tail)
    return "\n".join(fleet) + "\n", _csv(rows)


def _balance(meters: Sequence[_Meter]) -> None:
    """Gives feeders the peak and transformer with which they measure, by the week, what the meters behind them do.

    Swings that are not in step add like the sides of a right angle: a feeder is calmer than what is behind it.
    """
    behind: dict[str, list[_Meter]] = {}
    for meter in meters:
        behind.setdefault(meter.parent, []).append(meter)
    # A feeder stands before its own feeder is reckoned: parents come first in the list.
    for feeder in reversed(meters):
        if feeder.name in behind:
            own = behind[feeder.name]
            mean_kw = _LOSSES * sum(one.mean_kw for one in own)
            feeder.ripple = round(min(hypot(*(one.swing_kw for one in own)) / abs(mean_kw), _MOST_RIPPLE), 3)
            peak_kw = mean_kw / load(feeder.load).weekly_mean
            most_kw = usual_peak_kw(load_template(feeder.template), 230.0, behind_ct=True)
            feeder.ct = next((one for one in _RATIOS if one * most_kw >= peak_kw), _RATIOS[-1])
            feeder.peak_kw = round(peak_kw / feeder.ct, 3)


def _unaccounted(
    meters: Sequence[_Meter], names: dict[str, str], language: str, tail: str
) -> Iterator[dict[str, object]]:
    """The site's virtual points: feeders less what is behind them, where there is anything."""
    for row in _site()["unaccounted"]:
        feeder = names.get(row["of"])
        behind = [meter.name for meter in meters if meter.parent == feeder]
        if feeder and behind:
            formula = "; ".join([feeder, *(f"- {name}" for name in behind)])
            yield {
                **dict.fromkeys(COLUMNS, ""),
                "name": row[language] + tail,
                "area": row["area"][language] + tail,
                "formula": formula,
            }


def _shares(meters: int) -> Iterator[tuple[dict[str, Any], int]]:
    """The lines of a site with the meters of each; together exactly so many."""
    lines = _site()["line"]
    total = sum(line["share"] for line in lines)
    given = passed = 0
    for line in lines:
        passed += line["share"]
        until = meters * passed // total
        yield line, until - given
        given = until


def _meters(
    line: dict[str, Any], count: int, language: str, tail: str, number: int, names: dict[str, str]
) -> Iterator[_Meter]:
    """The first `count` meters of a line; feeders first, then its rows over and over. Fills `names` by id."""
    once = [row for row in line["meter"] if row.get("once")]
    again = [row for row in line["meter"] if not row.get("once")]
    counted: Counter[str] = Counter()
    for place in range(count):
        row = once[place] if place < len(once) else again[(place - len(once)) % len(again)]
        counted[row["en"]] += 1
        name = row[language].format(n=counted[row["en"]]) + tail
        if "id" in row:
            names[row["id"]] = name
        modbus = not row["template"].startswith("generic/dlt645")
        ct = row.get("ct", 1)
        template = load_template(row["template"])
        load_share = 1 - _SPREAD + _SPREAD * uniform(number, place)
        # Zeros in front, as real meters have them and spreadsheets lose them.
        address = str(place + 1) if modbus else f"{number + 1:06d}{1000 + place:06d}"
        yield _Meter(
            name=name,
            address=address,
            serial=f"{2026}{number + 1:03d}{place + 1:03d}" if modbus else address,
            template=row["template"],
            load=row["load"],
            area=row.get("area", line["area"])[language] + tail,
            parent=names.get(row.get("parent", ""), ""),
            ct=ct,
            dead=not tail and row.get("dead") == counted[row["en"]],
            peak_kw=round(usual_peak_kw(template, template.virtual.voltage_v, behind_ct=ct > 1) * load_share, 3),
            ripple=row.get("ripple"),
            generation=row.get("generation", ""),
        )


def _line(line: dict[str, Any], name: str, listen: str) -> str:
    table = ["[[line]]", f"name = {_text(name)}", f"listen = {_text(listen)}", f"protocol = {_text(line['protocol'])}"]
    if line["protocol"] != "modbus-tcp":
        table += [f"baud = {line['baud']}", f"parity = {_text(line['parity'])}"]
    table += [f"{key} = {line[key]}" for key in ("turnround_ms", "load_period_min") if key in line]
    for fault in line.get("fault", ()):
        table += ["[[line.fault]]", *(f"{key} = {json.dumps(value)}" for key, value in fault.items())]
    return "\n".join(table)


def _fleet_row(meter: _Meter) -> str:
    address = meter.address if meter.protocol == "modbus" else _text(meter.address)
    table = [
        "[[line.meter]]",
        f"name = {_text(meter.name)}",
        f"address = {address}",
        f"template = {_text(meter.template)}",
        f"load = {_text(meter.load)}",
        f"serial = {_text(meter.serial)}",
        f"ct = {meter.ct}",
        f"peak_kw = {meter.peak_kw}",
    ]
    if meter.ripple is not None:
        table.append(f"ripple = {meter.ripple}")
    if meter.dead:
        table.append('faults = [{ kind = "silent" }]')
    return "\n".join(table)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _csv(rows: Sequence[dict[str, object]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _free_ports(count: int) -> list[int]:
    """Ports that nobody has now; all are held until all are found, so that none is given twice."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
