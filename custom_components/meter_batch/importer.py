"""Lists of points as files: a dry run of a CSV or XLSX says row by row what would change. Of one row: import_rows.py.

Pure: bytes and what is known now go in, results come out. Nothing here changes a point.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from .cells import Known, as_row, header_likeness
from .engine import Point
from .engine.model.point import Term
from .import_rows import RowReader, nearest
from .registry import conflicts, family
from .table import Problem, Row, Unreadable, read_table

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
    """What the file calls its columns, by our names of them, in its order."""
    header_row: int = 1

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
        table = read_table(data, file_name, MAX_ROWS, header_likeness)
    except Unreadable as error:
        return DryRun((), (error.problem,), (), ())
    reader = RowReader(known)
    columns = reader.columns(table.header, table.rows, table.header_row)
    headers = dict(zip(columns, table.header, strict=True))
    if reader.problems:
        return DryRun((), tuple(reader.problems), (), (), headers, table.header_row)
    for problem in table.problems:
        reader.problems.append(problem)
    bad_rows = {problem.row for problem in table.problems}
    for row in table.rows:
        if row.number not in bad_rows:
            reader.read(row, columns)
    dry = _whole(reader, sorted(one for one in bad_rows if one is not None))
    return replace(dry, headers=headers, header_row=table.header_row)


def _whole(reader: RowReader, bad_rows: Iterable[int]) -> DryRun:
    """Resolves parents, checks the result as the registry will, and compares."""
    known = reader.known
    after = dict(known.points)
    after |= {id_: point for id_, (_, _, point) in reader.rows.items()}
    by_name = {point.name.casefold(): point.id for point in after.values()}
    # A parent may also be called by the name it had before this file renamed it.
    old_names = {point.name.casefold(): point.id for point in known.points.values()}

    def find(text: str) -> str | None:
        return text if text in after else by_name.get(text.casefold(), old_names.get(text.casefold()))

    def unknown(row: int, column: str, key: str, text: str) -> None:
        like = nearest(text, (point.name for point in after.values()))
        reader.problem(row, column, key + ("_like" if like else ""), value=text, like=like or "")

    waiting: dict[str, int] = {}
    for id_, (row, _, point) in reader.rows.items():
        if (text := reader.parents.get(id_)) is not None:
            parent = find(text) if text else None
            if text and parent is None and text.casefold() in reader.bad_names:
                waiting[id_] = reader.bad_names[text.casefold()]
            elif text and parent is None:
                unknown(row.number, "parent", "import_unknown_parent", text)
            point = replace(point, parent=parent)
        if id_ in reader.formulas:
            terms = []
            for sign, text in reader.formulas[id_]:
                if (part := find(text)) is None and text.casefold() in reader.bad_names:
                    waiting[id_] = reader.bad_names[text.casefold()]
                elif part is None:
                    unknown(row.number, "formula", "import_unknown_part", text)
                else:
                    terms.append(Term(sign, part))
            point = replace(point, formula=tuple(terms))
        reader.rows[id_] = (row, {}, point)
        after[id_] = point
    sharing: dict[tuple[str, str, str], list[int]] = {}
    for row, _, point in reader.rows.values():
        for route in point.routes:
            sharing.setdefault((route.line, family(route.protocol), route.address), []).append(row.number)
    for conflict in conflicts(after, only=reader.rows):
        if conflict.point not in reader.rows:
            continue
        number = reader.rows[conflict.point][0].number
        address = conflict.placeholders.get("address")
        others = [
            other
            for route in after[conflict.point].routes
            if conflict.key == "address_twice" and route.address == address
            for other in sharing[route.line, family(route.protocol), route.address]
            if other != number
        ]
        if others:
            # A point of that name may be in the file only.
            reader.problem(number, "address", "import_address_twice", address=address, other=others[0])
        else:
            reader.problem(number, conflict.field, conflict.key, **conflict.placeholders)
    reader.problems.sort(key=lambda one: one.row or 0)
    bad = {one.row for one in reader.problems if one.row is not None}
    waiting = _waiting(reader, bad, waiting)
    for number, count in sorted(Counter(waiting.values()).items()):
        reader.warn(number, "parent", "import_waiting", count=count)
    held = bad | {reader.rows[id_][0].number for id_ in waiting}
    results = [_result(known, row, point, held) for row, _, point in reader.rows.values()]
    listed = {result.row for result in results}
    results += [RowResult(row, Outcome.BAD, "", None) for row in {*bad, *bad_rows} - listed]
    results.sort(key=lambda one: one.row)
    lines = {known.default_line}
    if known.default_line is None:
        lines = {point.routes[0].line for _, _, point in reader.rows.values() if point.routes}
    absent = tuple(
        point.id
        for point in known.points.values()
        if point.id not in reader.rows and point.routes and point.routes[0].line in lines
    )
    return DryRun(tuple(results), tuple(reader.problems), tuple(reader.warnings), absent)


def _waiting(reader: RowReader, bad: set[int], waiting: Mapping[str, int]) -> dict[str, int]:
    """The points that are right themselves, but below or worked out from one that a bad row would make."""
    rows = {id_: row.number for id_, (row, _, _) in reader.rows.items()}
    blocked = {id_: number for id_, number in rows.items() if number in bad and id_ not in reader.known.points}
    blocked |= waiting
    while True:
        more = {
            id_: blocked[other]
            for id_, (_, _, point) in reader.rows.items()
            if id_ not in blocked
            for other in (point.parent, *(term.point for term in point.formula))
            if other in blocked
        }
        if not more:
            return {id_: number for id_, number in blocked.items() if rows[id_] not in bad}
        blocked |= more


def _result(known: Known, row: Row, point: Point, bad: set[int]) -> RowResult:
    if row.number in bad:
        return RowResult(row.number, Outcome.BAD, point.name, None)
    old = known.points.get(point.id)
    if old is None:
        return RowResult(row.number, Outcome.NEW, point.name, point)
    if old == point:
        return RowResult(row.number, Outcome.UNCHANGED, point.name, point)
    before, after = as_row(old, known), as_row(point, known)
    diff = {
        column: (before.get(column, ""), after.get(column, ""))
        for column in dict.fromkeys((*before, *after))
        if before.get(column, "") != after.get(column, "")
    }
    return RowResult(row.number, Outcome.CHANGED, point.name, point, diff)
