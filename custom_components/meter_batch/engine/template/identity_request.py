"""The reads that tell who a meter is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..protocol.dlt645.bcd import digits
from ..protocol.dlt645.exchange import Data
from .decoder import Dlt645Request, ModbusRequest
from .identity import IdentityItem
from .schema import Template

_DLT645_SERIAL = {"2007": "04000402", "1997": "C032"}
"""The meter number, which is printed on the meter; the address may be another."""


@dataclass(frozen=True, slots=True)
class IdentityRequest:
    """One read that tells who a meter is: `request` as the reader sends it, without registers."""

    about: tuple[str, ...]
    """What it tells: serial, model, or both where one read has both."""
    request: ModbusRequest | Dlt645Request
    items: tuple[IdentityItem, ...] = ()

    def texts(self, answer: Sequence[int] | Data | bytes) -> dict[str, str | None]:
        """What the answer says, by `about`; raises DecodeError."""
        if isinstance(answer, Data | bytes):
            data = answer.data if isinstance(answer, Data) else answer
            # Makers shorten and lengthen it freely; FF says that none was written.
            absent = not data or set(data) <= {0xFF} or set(data) <= {0x00}
            return {"serial": None if absent else digits(data)}
        return {about: item.text(answer) for about, item in zip(self.about, self.items, strict=True)}


@lru_cache(maxsize=256)
def identity_requests(template: Template) -> tuple[IdentityRequest, ...]:
    """The reads that tell who a meter of this model is; none where the model has no identity.

    DL/T 645 meters have it by their standard: meter number 04000402 (2007), C032 (1997).
    """
    if template.protocol != "modbus":
        variant = template.dlt645.variant
        return (IdentityRequest(("serial",), Dlt645Request(_DLT645_SERIAL[variant], (), variant, 6)),)
    by_read: dict[tuple[int, int, int], list[tuple[str, IdentityItem]]] = {}
    for about, item in (("serial", template.identity.serial), ("model", template.identity.model)):
        if item is not None:
            by_read.setdefault((item.function, item.address, item.count), []).append((about, item))
    return tuple(
        IdentityRequest(tuple(about for about, _ in items), ModbusRequest(*read, ()), tuple(item for _, item in items))
        for read, items in by_read.items()
    )
