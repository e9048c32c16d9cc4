"""Who answers: serial numbers and plausible nonsense, looked at at first contact, after a silence and once a day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..template.fit import Misfit


@dataclass(frozen=True, slots=True)
class IdentityReading:
    """Who a meter said that it is; None where it says nothing of that, or its model has no place for it."""

    at: datetime
    serial: str | None = None
    model_ok: bool | None = None
    """Whether it is of the model that it should be."""
    misfit: Misfit | None = None
    """What is wrong with its values although they look like some: they are flagged, not believed."""
    swapped: bool = False
    """True where the serial number differs from the one that it gave before, or from that of the point's meter."""
