"""Which registers have an entity at which detail."""

from __future__ import annotations

from functools import lru_cache

from .const import Detail
from .engine import Template
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


@lru_cache(maxsize=512)
def shown(template: Template, detail: Detail) -> tuple[Obis, ...]:
    """The registers of a model that have an entity, in the order of the catalogue."""
    there = {one.quantity.key for one in template.registers}
    if detail is Detail.FULL:
        keys = there
    else:
        keys = {
            key if key in there else _INSTEAD.get(key, key) for key in (_LEAN if detail is Detail.LEAN else _STANDARD)
        }
    return tuple(obis for obis, quantity in QUANTITIES.items() if quantity.key in keys & there)
