"""Lists of points as files: a dry run of a CSV or XLSX says row by row what would change. What cells mean: cells.py.

Pure: bytes and what is known now go in, results come out. Nothing here changes a point. Longer than most modules:
the checks that span rows (names, addresses, parents) need the whole list, and each has its own words.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from .cells import (
    COLUMNS,
    MAX_NAME,
    SCIENTIFIC,
    AddressError,
    Known,
    KnownLine,
    as_row,
    number,
    parse_address,
    parse_formula,
    parse_instant,
    parse_number,
    parse_ratio,
)
from .const import ATTRIBUTES, NUMBERS, Detail
from .engine import InstalledMeter, Multiplier, Point, Route
from .engine.model.point import PROTOCOLS, Term
from .registry import ALWAYS, conflicts, family
from .table import Problem, Row, Unreadable, read_table

_DETAILS = {"精简": Detail.LEAN, "标准": Detail.STANDARD, "完整": Detail.FULL, "全部": Detail.FULL}
_NEEDED_FOR_NEW = ("name", "line", "address", "template")
_OF_METERS = ("line", "protocol", "address", "template", "serial", "ct", "pt", "multiplier_since")
"""Columns that say nothing of a virtual point."""
MAX_ROWS = 10_000


class Outcome(StrEnum):
    """What a row does."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class RowResult:
    """What one row would do: for a changed point each column with its old and new text."""

    row: int
    outcome: Outcome
    name: str
    point: Point | None
    diff: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a file would do. `problems` say what is wrong and how to cure it, `warnings` what was assumed."""

    rows: tuple[RowResult, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    absent: tuple[str, ...]
    """Ids of points that the file does not mention: of the default line, or without one of the lines it names.

    They stay unless their removal is asked for."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What the file calls its columns, by our names of them."""

    def count(self, outcome: Outcome) -> int:
        """How many rows have this outcome."""
        return sum(row.outcome is outcome for row in self.rows)

    def changes(self, *, skip_bad: bool = False, remove_absent: bool = False) -> dict[str, Point | None]:
        """What to apply; nothing while there is a problem, unless bad rows are to be left out.

        A problem of the file as a whole (no row) cannot be left out.
        """
        if self.problems and (not skip_bad or any(one.row is None for one in self.problems)):
            return {}
        bad = {one.row for one in self.problems}
        changes: dict[str, Point | None] = {
            row.point.id: row.point
            for row in self.rows
            if row.point is not None and row.outcome in {Outcome.NEW, Outcome.CHANGED} and row.row not in bad
        }
        if remove_absent and not self.problems:
            changes |= dict.fromkeys(self.absent)
        return changes


def dry_run(data: bytes, known: Known, file_name: str = "") -> DryRun:
    """Reads a file and compares it with what is there; never raises for what a file holds."""
    try:
        table = read_table(data, file_name, MAX_ROWS)
    except Unreadable as error:
        return DryRun((), (error.problem,), (), ())
    reader = _Reader(known)
    columns = reader.columns(table.header)
    if reader.problems:
        return DryRun((), tuple(reader.problems), (), ())
    for problem in table.problems:
        reader.problems.append(problem)
    bad_rows = {problem.row for problem in table.problems}
    for row in table.rows:
        if row.number not in bad_rows:
            reader.read(row, columns)
    dry = reader.finish(sorted(one for one in bad_rows if one is not None))
    return replace(dry, headers=dict(zip(columns, table.header, strict=True)))


class _Reader:
    """The state of one dry run."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._by_name = {point.name.casefold(): point for point in known.points.values()}
        self._rows: dict[str, tuple[Row, dict[str, str], Point]] = {}  # by point id
        self._parents: dict[str, str] = {}  # the parent's text by point id
        self._formulas: dict[str, list[tuple[Literal[1, -1], str]]] = {}  # signs and texts by point id
        self._row_of_name: dict[str, int] = {}

    # --- header ---

    def columns(self, header: Sequence[str]) -> list[str]:
        """The columns' own names in the order of the file; problems where one is unknown, twice or missing."""
        aliases = {alias: name for name, others in COLUMNS.items() for alias in others} | {
            name.replace("_", " "): name for name in COLUMNS
        }
        found: list[str] = []
        for text in header:
            key = text.strip().lstrip("*").casefold()
            name = key if key in COLUMNS else aliases.get(key.replace("_", " "), aliases.get(key, ""))
            if not name:
                close = difflib.get_close_matches(key, [*COLUMNS, *aliases], 1)
                self._problem(
                    1,
                    text or "?",
                    "import_unknown_column" + ("_like" if close else ""),
                    column=text,
                    like=close[0] if close else "",
                )
            elif name in found:
                self._problem(1, text, "import_column_twice", column=name)
            found.append(name)
        if not self.problems and not {"id", "name"} & set(found):
            self._problem(1, "name", "import_column_missing", column="name")
        return found

    def _problem(self, row: int | None, column: str | None, key: str, /, **placeholders: object) -> None:
        self.problems.append(Problem(row, column, key, {name: str(value) for name, value in placeholders.items()}))

    def _warn(self, row: int, column: str, key: str, /, **placeholders: object) -> None:
        self.warnings.append(Problem(row, column, key, {name: str(value) for name, value in placeholders.items()}))

    # --- rows ---

    def read(self, row: Row, columns: Sequence[str]) -> None:
        """Takes one row; what is wrong with it is noted, all of it."""
        cells = {column: text.strip() for column, text in zip(columns, row.cells, strict=True)}
        before = len(self.problems)
        self._doubts(row, columns)
        old = self._existing(row, cells)
        if len(self.problems) > before:
            return
        virtual = old.virtual if old else bool(cells.get("formula"))
        if old is None:
            for column in ("name",) if virtual else _NEEDED_FOR_NEW:
                if not cells.get(column) and not (column == "line" and self._default_line() is not None):
                    self._problem(row.number, column, "import_cell_missing", column=column)
        if not virtual and cells.get("formula"):
            self._problem(row.number, "formula", "import_point_is_measured")
        point = self._virtual(row, cells, old) if virtual else self._point(row, cells, old)
        if point is None or len(self.problems) > before:
            return
        if (first := self._rows.get(point.id)) is not None:
            self._problem(row.number, "name", "import_row_twice", name=point.name, other=first[0].number)
            return
        name = point.name.casefold()
        if (other := self._row_of_name.get(name)) is not None:
            self._problem(row.number, "name", "import_row_twice", name=point.name, other=other)
            return
        self._row_of_name[name] = row.number
        self._rows[point.id] = (row, cells, point)
        if "parent" in cells:
            self._parents[point.id] = cells["parent"]

    def _doubts(self, row: Row, columns: Sequence[str]) -> None:
        for index, doubt in row.doubts.items():
            column = columns[index]
            # Digits are lost in other numbers too, but there nobody needs the last one.
            if doubt.key == "import_formula" or column in {"address", "serial"}:
                self._problem(row.number, column, doubt.key, **doubt.placeholders)

    def _existing(self, row: Row, cells: Mapping[str, str]) -> Point | None:
        if id_ := cells.get("id", ""):
            if (point := self.known.points.get(id_.lower())) is None:
                self._problem(row.number, "id", "import_unknown_id", id=id_)
            return point
        return self._by_name.get(cells.get("name", "").casefold())

    def _default_line(self) -> KnownLine | None:
        if self.known.default_line is not None:
            return self.known.lines.get(self.known.default_line)
        return next(iter(self.known.lines.values())) if len(self.known.lines) == 1 else None

    def _point(self, row: Row, cells: Mapping[str, str], old: Point | None) -> Point | None:
        template = self._template(row, cells, old)
        line = self._line(row, cells, old)
        route = self._route(row, cells, old, line, template)
        multipliers = self._multipliers(row, cells, old)
        detail = self._detail(row, cells, old)
        serial = self._text(row, cells, "serial", old.meter.serial if old else None)
        if template is None:
            return None
        return Point(
            id=old.id if old else self.known.make_id(),
            name=self._name(row, cells, old),
            meters=installed(old.meters if old else (), template, serial, self.known.now),
            routes=(*((route,) if route else ()), *(old.routes[1:] if old else ())),
            multipliers=multipliers,
            area=(cells["area"] or None) if "area" in cells else old.area if old else None,
            parent=old.parent if old else None,
            detail=detail,
            attributes=self._attributes(row, cells, old),
        )

    def _virtual(self, row: Row, cells: Mapping[str, str], old: Point | None) -> Point | None:
        """A point that is worked out; what its parts are is found when all rows are known."""
        for column in _OF_METERS:
            if cells.get(column):
                self._problem(row.number, column, "import_point_is_virtual", column=column)
        if "formula" in cells:
            try:
                formula = parse_formula(cells["formula"])
            except ValueError:
                self._problem(row.number, "formula", "import_bad_formula", value=cells["formula"])
                return None
        else:
            formula = [(term.sign, term.point) for term in old.formula] if old else []
        id_ = old.id if old else self.known.make_id()
        # What is added comes first, so that no cell begins with a sign.
        self._formulas[id_] = sorted(formula, key=lambda term: -term[0])
        return Point(
            id=id_,
            name=self._name(row, cells, old),
            meters=(),
            routes=(),
            area=(cells["area"] or None) if "area" in cells else old.area if old else None,
            parent=old.parent if old else None,
            detail=self._detail(row, cells, old),
            attributes=self._attributes(row, cells, old),
            formula=old.formula if old else (),
        )

    def _name(self, row: Row, cells: Mapping[str, str], old: Point | None) -> str:
        name = " ".join((cells.get("name") or (old.name if old else "")).split())
        if len(name) > MAX_NAME:
            self._problem(row.number, "name", "name_too_long")
        return name

    def _text(self, row: Row, cells: Mapping[str, str], column: str, old: str | None) -> str | None:
        if column not in cells:
            return old
        text = cells[column]
        if SCIENTIFIC.fullmatch(text):
            self._problem(row.number, column, "import_scientific", value=text)
        return text or None

    def _attributes(self, row: Row, cells: Mapping[str, str], old: Point | None) -> dict[str, str]:
        attributes = dict(old.attributes) if old else {}
        for key in ATTRIBUTES:
            if key not in cells:
                continue
            if not cells[key]:
                attributes.pop(key, None)
                continue
            attributes[key] = cells[key]
            if key in NUMBERS:
                try:
                    attributes[key] = number(parse_number(cells[key]))
                except ValueError:
                    self._problem(row.number, key, "import_bad_number", value=cells[key], column=key)
        return attributes

    def _template(self, row: Row, cells: Mapping[str, str], old: Point | None) -> str | None:
        text = cells.get("template", "").lower()
        if not text:
            return old.meter.template if old else None
        if text in self.known.templates:
            return text
        close = difflib.get_close_matches(text, self.known.templates, 1, 0.4)
        close = close or [id_ for id_ in self.known.templates if text and text in id_][:1]
        if close:
            self._problem(row.number, "template", "import_unknown_template_like", value=text, like=close[0])
        else:
            some = ", ".join(sorted(self.known.templates)[:12])
            self._problem(row.number, "template", "import_unknown_template", value=text, some=some)
        return None

    def _line(self, row: Row, cells: Mapping[str, str], old: Point | None) -> KnownLine | None:
        text = cells.get("line", "")
        if not text:
            if "line" in cells and old and not old.routes:
                return None
            return self.known.lines.get(old.routes[0].line) if old and old.routes else self._default_line()
        if text in self.known.lines:
            return self.known.lines[text]
        named = [line for line in self.known.lines.values() if line.title.casefold() == text.casefold()]
        if len(named) == 1:
            return named[0]
        if named:
            self._problem(row.number, "line", "import_line_twice", value=text)
        else:
            lines = ", ".join(sorted(line.title for line in self.known.lines.values())) or "–"
            self._problem(row.number, "line", "import_unknown_line", value=text, some=lines)
        return None

    def _route(
        self, row: Row, cells: Mapping[str, str], old: Point | None, line: KnownLine | None, template: str | None
    ) -> Route | None:
        before = old.routes[0] if old and old.routes else None
        if template is None:
            return before
        protocol = self.known.templates.get(template) or (before.protocol if before else "")
        if (text := cells.get("protocol", "").lower()) and text != protocol:
            text = "modbus" if text.startswith("modbus") else text
            if text not in PROTOCOLS:
                self._problem(row.number, "protocol", "import_unknown_protocol", value=text, some=", ".join(PROTOCOLS))
                return before
            if protocol and family(text) != family(protocol):
                self._problem(
                    row.number,
                    "protocol",
                    "import_protocol_not_template",
                    value=text,
                    template=template,
                    protocol=protocol,
                )
                return before
            protocol = text
        if line is None:
            return before if before is not None and not cells.get("line") else None
        if not line.protocol.speaks(protocol):
            self._problem(
                row.number,
                "template",
                "import_line_speaks_other",
                template=template,
                protocol=protocol,
                line=line.title,
                spoken=line.protocol.value,
            )
            return before
        text = cells.get("address", "")
        if not text:
            return Route(line.id, protocol, before.address) if before else None
        address = self._address(row, text, protocol)
        return Route(line.id, protocol, address) if address else before

    def _address(self, row: Row, text: str, protocol: str) -> str | None:
        try:
            address, restored = parse_address(text, protocol)
        except AddressError as error:
            self._problem(row.number, "address", error.key, value=text)
            return None
        if restored:
            self._warn(row.number, "address", "import_zeros_restored", value=text, address=address)
        return address

    def _detail(self, row: Row, cells: Mapping[str, str], old: Point | None) -> str | None:
        if "detail" not in cells:
            return old.detail if old else None
        text = cells["detail"].lower()
        if not text or text in {"auto", "自动"}:
            return None
        if text in _DETAILS:
            return _DETAILS[text].value
        if text not in list(Detail):
            self._problem(row.number, "detail", "import_unknown_detail", value=text, some=", ".join(Detail))
        return text

    def _multipliers(self, row: Row, cells: Mapping[str, str], old: Point | None) -> tuple[Multiplier, ...]:
        before = old.multipliers if old else ()
        if not {"ct", "pt"} & set(cells):
            return before
        last = before[-1] if before else Multiplier(ALWAYS)
        if old is not None and not cells.get("ct") and not cells.get("pt"):
            return before
        ct = self._ratio(row, cells, "ct", last.ct)
        pt = self._ratio(row, cells, "pt", last.pt)
        try:
            since = parse_instant(text, self.known.time_zone) if (text := cells.get("multiplier_since", "")) else None
        except ValueError:
            self._problem(row.number, "multiplier_since", "import_bad_date", value=text)
            return before
        if ct is None or pt is None:
            return before
        if since is None and (ct, pt) != (last.ct, last.pt) and old is not None:
            self._warn(row.number, "ct", "import_multiplier_from_now", ct=number(ct), pt=number(pt))
        if since is not None and since > self.known.now:
            self._warn(row.number, "multiplier_since", "import_multiplier_later", date=since.isoformat())
        return with_multiplier(before, ct, pt, since, ALWAYS if old is None else self.known.now)

    def _ratio(self, row: Row, cells: Mapping[str, str], column: str, old: Decimal) -> Decimal | None:
        """An empty cell says nothing about the ratio, so that a list without them takes none away."""
        if not cells.get(column):
            return old
        try:
            return parse_ratio(cells[column])
        except ValueError:
            self._problem(row.number, column, "import_bad_ratio", value=cells[column], column=column.upper())
            return None

    # --- the whole ---

    def finish(self, bad_rows: Iterable[int]) -> DryRun:
        """Resolves parents, checks the result as the registry will, and compares."""
        after = dict(self.known.points)
        after |= {id_: point for id_, (_, _, point) in self._rows.items()}
        by_name = {point.name.casefold(): point.id for point in after.values()}
        # A parent may also be called by the name it had before this file renamed it.
        old_names = {point.name.casefold(): point.id for point in self.known.points.values()}

        def find(text: str) -> str | None:
            return text if text in after else by_name.get(text.casefold(), old_names.get(text.casefold()))

        for id_, (row, cells, point) in self._rows.items():
            if (text := self._parents.get(id_)) is not None:
                parent = find(text) if text else None
                if text and parent is None:
                    self._problem(row.number, "parent", "import_unknown_parent", value=text)
                point = replace(point, parent=parent)
            if id_ in self._formulas:
                terms = []
                for sign, text in self._formulas[id_]:
                    if (part := find(text)) is None:
                        self._problem(row.number, "formula", "import_unknown_part", value=text)
                    else:
                        terms.append(Term(sign, part))
                point = replace(point, formula=tuple(terms))
            self._rows[id_] = (row, cells, point)
            after[id_] = point
        for conflict in conflicts(after, only=self._rows):
            if conflict.point in self._rows:
                number = self._rows[conflict.point][0].number
                self._problem(number, conflict.field, conflict.key, **conflict.placeholders)
        self.problems.sort(key=lambda one: one.row or 0)
        bad = {one.row for one in self.problems if one.row is not None}
        results = [self._result(row, point, bad) for row, _, point in self._rows.values()]
        listed = {result.row for result in results}
        results += [RowResult(row, Outcome.BAD, "", None) for row in {*bad, *bad_rows} - listed]
        results.sort(key=lambda one: one.row)
        lines = {self.known.default_line}
        if self.known.default_line is None:
            lines = {point.routes[0].line for _, _, point in self._rows.values() if point.routes}
        absent = tuple(
            point.id
            for point in self.known.points.values()
            if point.id not in self._rows and point.routes and point.routes[0].line in lines
        )
        return DryRun(tuple(results), tuple(self.problems), tuple(self.warnings), absent)

    def _result(self, row: Row, point: Point, bad: set[int]) -> RowResult:
        if row.number in bad:
            return RowResult(row.number, Outcome.BAD, point.name, None)
        old = self.known.points.get(point.id)
        if old is None:
            return RowResult(row.number, Outcome.NEW, point.name, point)
        if old == point:
            return RowResult(row.number, Outcome.UNCHANGED, point.name, point)
        before, after = as_row(old, self.known), as_row(point, self.known)
        diff = {column: (before[column], after[column]) for column in COLUMNS if before[column] != after[column]}
        return RowResult(row.number, Outcome.CHANGED, point.name, point, diff)


def installed(
    meters: tuple[InstalledMeter, ...], template: str, serial: str | None, now: datetime
) -> tuple[InstalledMeter, ...]:
    """The meter history after a form or file named this meter: another serial number is another meter.

    A serial number that was not known before, or another template alone, corrects what was said of the same meter.
    """
    if not meters:
        return (InstalledMeter(ALWAYS, template, serial),)
    last = meters[-1]
    if serial != last.serial and serial and last.serial:
        return (*meters, InstalledMeter(now, template, serial))
    return (*meters[:-1], InstalledMeter(last.since, template, serial))


def with_multiplier(
    before: tuple[Multiplier, ...], ct: Decimal, pt: Decimal, since: datetime | None, default: datetime
) -> tuple[Multiplier, ...]:
    """The dated ratios after a form or file named them. Without a date they hold from `default` on, if they differ."""
    last = before[-1] if before else Multiplier(ALWAYS)
    if since is None:
        if (ct, pt) == (last.ct, last.pt):
            return before
        since = default
    return tuple(
        sorted((*(one for one in before if one.since != since), Multiplier(since, ct, pt)), key=lambda one: one.since)
    )
