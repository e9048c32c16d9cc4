"""Statistics of versions that had no ledger go on in it without a jump."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from homeassistant.core import HomeAssistant
from homeassistant.helpers.recorder import get_instance
from homeassistant.helpers.storage import Store

from .const import DOMAIN
from .engine import BY_KEY, Flag, Point
from .engine.ledger import Boundary, Restart
from .engine.model.obis import Obis
from .hourly import HOUR_S, KEPT, Job, differ, hour_of, instant
from .intake import factor
from .ledger import SiteLedger
from .recorded import stored
from .registry import Registry


async def async_take_over(hass: HomeAssistant, registry: Registry, ledger: SiteLedger) -> None:
    """Begins the ledger where the statistics of versions without one ended, and forgets their notes."""
    store: Store[dict[str, dict[str, str | None]]] = Store(hass, 1, f"{DOMAIN}.history")
    notes = await store.async_load()
    if notes is None:
        return
    boundaries: dict[tuple[str, datetime], dict[Obis, Decimal]] = {}
    restarts = []
    points = registry.points
    for id_, note in notes.items():
        point = points.get(id_.partition(":")[2].partition("_")[0])
        quantity = next((BY_KEY[key] for key in KEPT if id_.endswith(f"_{key}")), None)
        if point is None or point.virtual or quantity is None:
            continue
        at = datetime.fromisoformat(note["at"] or "").replace(second=0, microsecond=0)
        register, total = Decimal(note["register"] or 0), Decimal(note["sum"] or 0)
        boundaries.setdefault((point.id, at), {})[quantity.obis] = register
        if note["fresh"] is not None:
            last = register + Decimal(note["lost"] or 0)
            restarts.append(
                Restart(point.id, quantity.obis, at + timedelta(seconds=1), Flag.RESET, last, Decimal(note["fresh"]))
            )
        hour = hour_of(at - timedelta(seconds=1))
        if at != instant(hour + HOUR_S):
            # The hour in which they ended is both theirs and the ledger's: it begins with this hour.
            job = Job(point.id, quantity, (hour,))
            (found,) = await get_instance(hass).async_add_executor_job(stored, hass, [job])
            if found.rows and not differ(found.rows[0].sum, total):
                grown = (total - found.before) / factor(point, at)
                begin = (register - grown).quantize(Decimal(1).scaleb(min(0, _exponent(register))))
                boundaries.setdefault((point.id, instant(hour)), {})[quantity.obis] = begin
    records = [
        Boundary(id_, at, registers, meter=identity_at(points[id_], at))
        for (id_, at), registers in sorted(boundaries.items(), key=lambda one: one[0][1])
    ]
    await ledger.async_call(lambda opened: opened.take(records, restarts), {one.point for one in records})
    await store.async_remove()


def identity_at(point: Point, at: datetime) -> str:
    """Which meter it was at an instant, as the ledger has it."""
    return ([one.since for one in point.meters if one.since <= at] or [point.meters[0].since])[-1].isoformat()


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0
