"""One row of a list of points: what it says, what is wrong with it, and how to cure that. What spans rows: importer.py.

Pure: bytes and what is known now go in, results come out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Literal

from .cells import (
    COLUMNS,
    MAX_NAME,
    SCIENTIFIC,
    AddressError,
    Known,
    KnownLine,
    column_of,
    model_key,
    number,
    parse_address,
    parse_formula,
    parse_instant,
    parse_number,
    parse_ratio,
    plain,
)
from .const import ATTRIBUTES, NUMBERS, Detail
from .dated import installed, with_multiplier
from .engine import Multiplier, Point, Route
from .engine.model.point import PROTOCOLS, Commissioned
from .registry import ALWAYS, family
from .table import Problem, Row

PROBLEMS = "problems"
PROBLEM_HEADERS = ("problems", "问题")
"""A column that a list of problems has, and that is read over when it comes back."""
MOST_SEEN = 200
"""So many letters of a header are repeated where it is none."""
MOST_OWN = 30
MAX_OWN = 255
"""So many columns of the user's own are kept, with so many letters a cell."""

_DETAILS = {"精简": Detail.LEAN, "标准": Detail.STANDARD, "完整": Detail.FULL, "全部": Detail.FULL}
_NEEDED_FOR_NEW = ("name", "line", "address", "template")
_OF_METERS = ("line", "protocol", "address", "template", "serial", "ct", "pt", "multiplier_since")
"""Columns that say nothing of a virtual point."""
_WORDS = frozenset({"name", "line", "area", "parent", "formula", "commissioned_by", *ATTRIBUTES} - NUMBERS)
"""Columns whose letters are the user's: they are not touched. In the others 1２3 is 123."""


def nearest(text: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name that was probably meant: close in its letters, and the same in its digits."""
    folded = {name.casefold(): name for name in names}
    digits = re.findall(r"\d+", text)
    for close in difflib.get_close_matches(text.casefold(), folded, 5, cutoff):
        if re.findall(r"\d+", close) == digits:
            return folded[close]
    return None


class RowReader:
    """Reads header and rows, and gathers what is wrong (`problems`) and what was assumed (`warnings`)."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.rows: dict[str, tuple[Row, dict[str, str], Point]] = {}
        """By point id."""
        self.parents: dict[str, str] = {}
        """The parent's text by point id."""
        self.formulas: dict[str, list[tuple[Literal[1, -1], str]]] = {}
        """Signs and texts by point id."""
        self.bad_names: dict[str, int] = {}
        """Rows by the names in them, where something is wrong with them."""
        self._by_name = {point.name.casefold(): point for point in known.points.values()}
        self._row_of_name: dict[str, int] = {}
        self._own: tuple[str, ...] = ()

    # --- header ---

    def columns(self, header: Sequence[str], rows: Collection[Row], at: int = 1) -> list[str]:
        """The columns' own names in the order of the file; problems where one is misspelt, twice or missing.

        What is no column of ours is one of the user's own, under the name that it has. `at` is the row of the header.
        """
        kept = {name.casefold(): name for point in self.known.points.values() for name in own_columns(point)}
        found: list[str] = []
        own: list[str] = []
        for index, text in enumerate(header):
            key = " ".join(text.split())
            name = column_of(key) or (PROBLEMS if key.casefold() in PROBLEM_HEADERS else "")
            if not name and not key:
                if any(row.cells[index].strip() for row in rows):
                    self.problem(at, "?", "import_column_without_name", number=index + 1)
                found.append("")
                continue
            if not name and not key.startswith("#") and (close := self._misspelt(key)):
                self.problem(at, text, "import_unknown_column_like", column=text, like=close)
            elif not name:
                name = kept.get(key.casefold(), key)
                own.append(name)
                if key.casefold() not in kept:
                    self.warn(at, text, "import_own_column", column=text)
            if name and name in found:
                self.problem(at, text, "import_column_twice", column=name)
            found.append(name)
        if len(own) > MOST_OWN:
            self.problem(at, None, "import_own_many", count=len(own), most=MOST_OWN)
        if not self.problems and not {"id", "name"} & set(found):
            names = ", ".join(("name", *COLUMNS["name"]))
            seen = ", ".join(text.strip() for text in header if text.strip())[:MOST_SEEN]
            self.problem(at, "name", "import_column_missing", column="name", row=at, names=names, seen=seen)
        self._own = tuple(own)
        return found

    def _misspelt(self, key: str) -> str | None:
        names = {name.replace("_", " "): name for name in COLUMNS}
        names |= {alias: alias for aliases in COLUMNS.values() for alias in aliases}
        close = nearest(key.replace("_", " "), names, 0.75)
        return None if close is None else names[close]

    def problem(self, row: int | None, column: str | None, key: str, /, **placeholders: object) -> None:
        """Notes what is wrong."""
        self.problems.append(Problem(row, column, key, {name: str(value) for name, value in placeholders.items()}))

    def warn(self, row: int, column: str, key: str, /, **placeholders: object) -> None:
        """Notes what was assumed."""
        self.warnings.append(Problem(row, column, key, {name: str(value) for name, value in placeholders.items()}))

    # --- rows ---

    def read(self, row: Row, columns: Sequence[str]) -> None:
        """Takes one row; what is wrong with it is noted, all of it."""
        own = {*self._own, *_WORDS}
        cells = {
            column: text.strip() if column in own else plain(text)
            for column, text in zip(columns, row.cells, strict=True)
        }
        before = len(self.problems)
        self._read(row, cells, columns, before)
        if len(self.problems) > before and (name := " ".join(cells.get("name", "").casefold().split())):
            self.bad_names.setdefault(name, row.number)

    def _read(self, row: Row, cells: dict[str, str], columns: Sequence[str], before: int) -> None:
        self._doubts(row, columns)
        old = self._existing(row, cells)
        if len(self.problems) > before:
            return
        virtual = old.virtual if old else bool(cells.get("formula"))
        if old is None:
            for column in ("name",) if virtual else _NEEDED_FOR_NEW:
                if not cells.get(column) and not (column == "line" and self._default_line() is not None):
                    self.problem(row.number, column, "import_cell_missing", column=column)
        if not virtual and cells.get("formula"):
            self.problem(row.number, "formula", "import_point_is_measured")
        point = self._virtual(row, cells, old) if virtual else self._point(row, cells, old)
        if point is None or len(self.problems) > before:
            return
        if (first := self.rows.get(point.id)) is not None:
            self.problem(row.number, "name", "import_row_twice", name=point.name, other=first[0].number)
            return
        name = point.name.casefold()
        if (other := self._row_of_name.get(name)) is not None:
            self.problem(row.number, "name", "import_row_twice", name=point.name, other=other)
            return
        self._row_of_name[name] = row.number
        self.rows[point.id] = (row, cells, point)
        if "parent" in cells:
            self.parents[point.id] = cells["parent"]

    def _doubts(self, row: Row, columns: Sequence[str]) -> None:
        for index, doubt in row.doubts.items():
            column = columns[index]
            if doubt.key == "import_merged":
                self.warn(row.number, column, doubt.key, **doubt.placeholders)
            # Digits are lost in other numbers too, but there nobody needs the last one.
            elif doubt.key == "import_formula" or column in {"address", "serial"}:
                self.problem(row.number, column, doubt.key, **doubt.placeholders)

    def _existing(self, row: Row, cells: Mapping[str, str]) -> Point | None:
        if id_ := cells.get("id", ""):
            if (point := self.known.points.get(id_.lower())) is None:
                self.problem(row.number, "id", "import_unknown_id", id=id_)
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
            area=self._area(row, cells, old),
            parent=old.parent if old else None,
            detail=detail,
            attributes=self._attributes(row, cells, old),
            commissioned=self._commissioned(row, cells, old, template, route, multipliers),
        )

    def _virtual(self, row: Row, cells: Mapping[str, str], old: Point | None) -> Point | None:
        """A point that is worked out; what its parts are is found when all rows are known."""
        for column in _OF_METERS:
            if cells.get(column):
                self.problem(row.number, column, "import_point_is_virtual", column=column)
        if "formula" in cells:
            try:
                formula = parse_formula(cells["formula"])
            except ValueError:
                self.problem(row.number, "formula", "import_bad_formula", value=cells["formula"])
                return None
        else:
            formula = [(term.sign, term.point) for term in old.formula] if old else []
        id_ = old.id if old else self.known.make_id()
        # What is added comes first, so that no cell begins with a sign.
        self.formulas[id_] = sorted(formula, key=lambda term: -term[0])
        return Point(
            id=id_,
            name=self._name(row, cells, old),
            meters=(),
            routes=(),
            area=self._area(row, cells, old),
            parent=old.parent if old else None,
            detail=self._detail(row, cells, old),
            attributes=self._attributes(row, cells, old),
            formula=old.formula if old else (),
        )

    def _name(self, row: Row, cells: Mapping[str, str], old: Point | None) -> str:
        name = " ".join((cells.get("name") or (old.name if old else "")).split())
        if len(name) > MAX_NAME:
            self.problem(row.number, "name", "name_too_long")
        return name

    def _area(self, row: Row, cells: Mapping[str, str], old: Point | None) -> str | None:
        if "area" not in cells:
            return old.area if old else None
        area = " ".join(cells["area"].split())
        there = area.casefold() in (one.casefold() for one in self.known.areas)
        if area and not there and (like := nearest(area, self.known.areas, 0.8)) is not None:
            self.warn(row.number, "area", "import_area_like", value=area, like=like)
        return area or None

    def _text(self, row: Row, cells: Mapping[str, str], column: str, old: str | None) -> str | None:
        if column not in cells:
            return old
        text = cells[column]
        if SCIENTIFIC.fullmatch(text):
            self.problem(row.number, column, "import_scientific", value=text)
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
                    self.problem(row.number, key, "import_bad_number", value=cells[key], column=key)
        for key in self._own:
            if len(cells[key]) > MAX_OWN:
                self.problem(row.number, key, "import_own_long", most=MAX_OWN)
            attributes.pop(key, None)
            if cells[key]:
                attributes[key] = cells[key]
        return attributes

    def _commissioned(
        self,
        row: Row,
        cells: Mapping[str, str],
        old: Point | None,
        template: str,
        route: Route | None,
        multipliers: tuple[Multiplier, ...],
    ) -> Commissioned | None:
        """A sign-off on paper that is written into the list, or one that comes back as it was exported."""
        before = old.commissioned if old else None
        if not {"commissioned", "commissioned_by"} & set(cells):
            return before
        by = cells.get("commissioned_by", before.by if before else "")
        text = cells.get("commissioned", before.at.isoformat() if before else "")
        if not text:
            if by:
                self.problem(row.number, "commissioned_by", "import_commissioned_when", by=by)
            return None
        try:
            at = parse_instant(text, self.known.time_zone)
        except ValueError:
            self.problem(row.number, "commissioned", "import_bad_date", value=text)
            return before
        if before is not None and (at, by) == (before.at, before.by):
            return before
        last = multipliers[-1] if multipliers else Multiplier(ALWAYS)
        address = route.address if route else ""
        return Commissioned(at, by, multiplier=last.ct * last.pt, template=template, address=address)

    def _template(self, row: Row, cells: Mapping[str, str], old: Point | None) -> str | None:
        text = cells.get("template", "").lower()
        if not text:
            return old.meter.template if old else None
        if text in self.known.templates:
            return text
        if (named := self.known.models.get(model_key(text))) is not None:
            return named
        close = [id_ for id_ in self.known.templates if text in id_][:1]
        close = close or difflib.get_close_matches(text, self.known.templates, 1, 0.4)
        if close:
            self.problem(row.number, "template", "import_unknown_template_like", value=text, like=close[0])
        else:
            some = ", ".join(sorted(self.known.templates)[:12])
            self.problem(row.number, "template", "import_unknown_template", value=text, some=some)
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
            self.problem(row.number, "line", "import_line_twice", value=text)
        else:
            lines = ", ".join(sorted(line.title for line in self.known.lines.values())) or "–"
            like = nearest(text, (line.title for line in self.known.lines.values()), 0.8)
            key = "import_unknown_line" + ("_like" if like else "")
            self.problem(row.number, "line", key, value=text, some=lines, like=like or "")
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
                self.problem(row.number, "protocol", "import_unknown_protocol", value=text, some=", ".join(PROTOCOLS))
                return before
            if protocol and family(text) != family(protocol):
                self.problem(
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
            self.problem(
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
            self.problem(row.number, "address", error.key, value=text)
            return None
        if restored:
            self.warn(row.number, "address", "import_zeros_restored", value=text, address=address)
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
            self.problem(row.number, "detail", "import_unknown_detail", value=text, some=", ".join(Detail))
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
            self.problem(row.number, "multiplier_since", "import_bad_date", value=text)
            return before
        if ct is None or pt is None:
            return before
        if since is None and (ct, pt) != (last.ct, last.pt) and old is not None:
            self.warn(row.number, "ct", "import_multiplier_from_now", ct=number(ct), pt=number(pt))
        if since is not None and since > self.known.now:
            self.warn(row.number, "multiplier_since", "import_multiplier_later", date=since.isoformat())
        return with_multiplier(before, ct, pt, since, ALWAYS if old is None else self.known.now)

    def _ratio(self, row: Row, cells: Mapping[str, str], column: str, old: Decimal) -> Decimal | None:
        """An empty cell says nothing about the ratio, so that a list without them takes none away."""
        if not cells.get(column):
            return old
        try:
            return parse_ratio(cells[column])
        except ValueError:
            self.problem(row.number, column, "import_bad_ratio", value=cells[column], column=column.upper())
            return None


def own_columns(point: Point) -> list[str]:
    """The columns of the user's own that a point has."""
    return [name for name in point.attributes if name not in ATTRIBUTES]
