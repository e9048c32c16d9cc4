"""Which counted kinds of energy an energy register adds up, by its OBIS code."""

from __future__ import annotations

from dataclasses import dataclass

from meter_batch_engine.model.obis import Obis
from meter_batch_engine.model.quantity import QUANTITIES, Measure

from .load import TARIFFS

_COUNTED: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = {
    1: (("import",), ()),
    2: (("export",), ()),
    15: (("import", "export"), ()),
    16: (("import",), ("export",)),
    3: (("q1", "q2"), ()),
    4: (("q3", "q4"), ()),
    5: (("q1",), ()),
    6: (("q2",), ()),
    7: (("q3",), ()),
    8: (("q4",), ()),
    9: (("apparent_import",), ()),
    10: (("apparent_export",), ()),
    130: (("q1", "q2", "q3", "q4"), ()),
}
"""Group C of an energy's OBIS code → the kinds that it adds and those that it takes away."""


MERGED: dict[int, dict[int, tuple[int, ...]]] = {
    1: {1: (1, 2, 3, 4)},
    2: {1: (1, 2), 2: (3, 4)},
    3: {1: (1, 2), 2: (3,), 3: (4,)},
    4: {1: (1,), 2: (2,), 3: (3,), 4: (4,)},
}
"""How meters with fewer tariff registers count the four periods of the day; by number of tariffs, then tariff."""


@dataclass(frozen=True, slots=True)
class Energy:
    """How an energy register is composed of counted kinds; phase 0 = all phases, tariff 0 = all tariffs."""

    plus: tuple[str, ...]
    minus: tuple[str, ...]
    phase: int
    tariff: int


def _energies() -> dict[Obis, Energy]:
    energies = {}
    for obis, quantity in QUANTITIES.items():
        if quantity.measure in (Measure.ACTIVE_ENERGY, Measure.REACTIVE_ENERGY, Measure.APPARENT_ENERGY):
            c = int(obis.split(":")[1].split(".")[0]) - 20 * quantity.phase
            if quantity.tariff <= TARIFFS:
                energies[obis] = Energy(*_COUNTED[c], quantity.phase, quantity.tariff)
    return energies


ENERGIES = _energies()
