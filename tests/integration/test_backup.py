"""A backup of Home Assistant holds a whole ledger, although it was written to while the archive was made."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from homeassistant.components.backup.const import DATA_MANAGER
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.meter_batch.backup_copy import adopt_copy, copy_of, mark_of
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.engine.ledger import Boundary, Ledger
from custom_components.meter_batch.ledger import FILE
from custom_components.meter_batch.site import async_get_site

T0 = datetime(2026, 7, 1, 10, 0, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


def boundaries(step: int, count: int = 200) -> list[Boundary]:
    return [
        Boundary(f"p{number}", T0 + step * QUARTER, {"1-0:1.8.0": Decimal(100 + step)}, meter="m")
        for number in range(count)
    ]


def unpack(backup: Path, into: Path) -> Path:
    """The folder of the configuration in a backup, as a restore lays it out."""
    with tarfile.open(backup) as outer:
        outer.extractall(into, filter="data")
    inner = next(into.glob("homeassistant.tar*"))
    with tarfile.open(inner) as archive:
        archive.extractall(into, filter="fully_trusted")
    return into / "data" / ".storage"


async def test_a_backup_made_while_the_ledger_is_written_restores_to_a_whole_ledger(
    hass: HomeAssistant, add_line: Callable[..., MockConfigEntry], tmp_path: Path
) -> None:
    add_line("East", disabled=True)
    assert await async_setup_component(hass, "backup", {})
    assert await async_setup_component(hass, DOMAIN, {})
    await hass.async_block_till_done()
    manager = hass.data[DATA_MANAGER]
    ledger = (await async_get_site(hass)).ledger
    for step in range(20):
        await ledger.async_call(lambda one, step=step: one.take(boundaries(step)))
    done = asyncio.Event()
    steps = 20

    async def write() -> None:
        nonlocal steps
        while not done.is_set():
            await ledger.async_call(lambda one, step=steps: one.take(boundaries(step)))
            steps += 1
            await asyncio.sleep(0.005)

    writing = asyncio.create_task(write())
    created = await manager.async_create_backup(
        agent_ids=["backup.local"],
        include_addons=None,
        include_all_addons=False,
        include_database=False,
        include_folders=None,
        include_homeassistant=True,
        name="Test",
        password=None,
    )
    while manager.state.value != "idle":  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    done.set()
    await writing
    assert created.backup_job_id
    storage = Path(hass.config.path(".storage"))
    assert not copy_of(storage / FILE).exists()
    assert not mark_of(storage / FILE).exists()

    (backup,) = Path(hass.config.path("backups")).glob("*.tar")  # noqa: ASYNC240
    restored = await hass.async_add_executor_job(unpack, backup, tmp_path / "restored")
    assert copy_of(restored / FILE).exists()
    assert not mark_of(restored / FILE).exists()

    def look() -> tuple[Any, int]:
        adopt_copy(restored / FILE)
        assert not copy_of(restored / FILE).exists()
        with Ledger(restored / FILE) as one:
            return one.verify(), len(one.intervals(["p7"], T0, T0 + 10_000 * QUARTER))

    verdict, intervals = await hass.async_add_executor_job(look)
    assert verdict.named == []
    assert 19 <= intervals < steps


async def test_the_file_is_kept_where_home_assistant_broke_off_during_a_backup(
    hass: HomeAssistant, add_line: Callable[..., MockConfigEntry]
) -> None:
    add_line("East", disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    ledger = (await async_get_site(hass)).ledger
    await ledger.async_call(lambda one: one.take(boundaries(0)))
    await ledger.async_copy()
    await ledger.async_call(lambda one: one.take(boundaries(1)))
    await ledger.async_stop()
    adopt_copy(ledger.path)
    with Ledger(ledger.path) as one:
        assert len(one.intervals(["p7"], T0, T0 + QUARTER)) == 1
    assert not copy_of(ledger.path).exists()
