"""One measured figure and whether it meets its target."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """`target` is None where a figure is only for information; `note` tells people how it was measured."""

    bench: str
    figure: str
    value: float
    unit: str
    better: Literal["lower", "higher"]
    target: float | None = None
    note: str = ""

    @property
    def meets(self) -> bool | None:
        """True where the target is met, None where there is none."""
        if self.target is None:
            return None
        return self.value <= self.target if self.better == "lower" else self.value >= self.target

    def row(self) -> dict[str, object]:
        """As one JSON object of `script/bench --json`."""
        row = asdict(self)
        del row["note"]
        return row | {"value": round(self.value, 6), "meets": self.meets}


def show(figures: list[Figure], console: Console) -> None:
    """A table for people."""
    table = Table("bench", "figure", "value", "target", "", "how")
    for one in figures:
        sign = {"lower": "≤", "higher": "≥"}[one.better]
        mark = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[one.meets]
        target = "" if one.target is None else f"{sign} {one.target:g}"
        table.add_row(one.bench, one.figure, f"{one.value:.4g} {one.unit}".strip(), target, mark, one.note)
    console.print(table)
