"""Which registers have an entity at which detail."""

from __future__ import annotations

from collections.abc import Iterable

from .const import Detail
from .engine.model.obis import Obis
from .engine.model.quantity import QUANTITIES

_LEAN = ("energy_import", "active_power")
_STANDARD = (
    *_LEAN,
    "energy_export",
    "reactive_power",
    "power_factor",
    "voltage",
    "current",
    *(f"{base}_l{phase}" for base in ("voltage", "current") for phase in (1, 2, 3)),
)
_INSTEAD = {"energy_import": "energy_gross"}
"""Where a meter does not keep the first, the second stands for it."""


def shown(registers: Iterable[Obis], detail: Detail) -> list[Obis]:
    """The registers with an entity, in the order of the catalogue."""
    there = {QUANTITIES[obis].key for obis in registers if obis in QUANTITIES}
    if detail is Detail.FULL:
        keys = there
    else:
        keys = {
            key if key in there else _INSTEAD.get(key, key) for key in (_LEAN if detail is Detail.LEAN else _STANDARD)
        }
    return [obis for obis, quantity in QUANTITIES.items() if quantity.key in keys & there]
