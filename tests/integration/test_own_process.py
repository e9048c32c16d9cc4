"""Lines that are polled in a process of their own: all that holds of the others, and what is said when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.engine import Lessons, PollReport, RemotePoller
from custom_components.meter_batch.engine.ledger import Ledger
from custom_components.meter_batch.learned import Learned
from custom_components.meter_batch.site import Site, async_get_site

from .conftest import StartFleet, make_point, port_of, wait_for

FLEET = """
[[line]]
name = "East"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
turnround_ms = 1
[[line.meter]]
address = 1
count = 2
template = "eastron/sdm630"

[[line]]
name = "West"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
turnround_ms = 1
[[line.meter]]
address = 1
template = "eastron/sdm630"
"""
# Intervals of three seconds: nobody waits for a quarter of an hour.
OPTIONS = {"own_process": True, "fast_s": 1, "slow_s": 10, "interval_min": 0.05, "detail": "lean"}


@pytest.fixture
async def site(hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]) -> Site:
    fleet = await start_fleet(FLEET, hold=False)
    add_line("East", port=port_of(fleet), entry_id="l1", options=OPTIONS)
    add_line("West", port=port_of(fleet, 1), entry_id="l2", options=OPTIONS)
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    points = {"a": make_point("a", "A", "1"), "b": make_point("b", "B", "2"), "c": make_point("c", "C", "1", line="l2")}
    await site.registry.async_apply(points, SYSTEM, "add")
    await hass.async_block_till_done()
    return site


def power(hass: HomeAssistant, name: str) -> str:
    return (
        hass.states.get(f"sensor.{name}_active_power").state if hass.states.get(f"sensor.{name}_active_power") else ""
    )


def shown(hass: HomeAssistant) -> bool:
    return all(power(hass, name) not in ("", "unknown", "unavailable") for name in "abc")


async def test_all_lines_share_one_process_that_ends_with_the_last(hass: HomeAssistant, site: Site) -> None:
    await wait_for(lambda: shown(hass))
    pid = site.process.pid
    assert pid is not None
    lines = [entry.runtime_data.coordinator for entry in hass.config_entries.async_entries(DOMAIN)]
    assert all(isinstance(line.poller, RemotePoller) for line in lines)
    assert [len(await line.async_trace()) > 0 for line in lines] == [True, True]
    answer = await hass.services.async_call(DOMAIN, "read_now", {"point": "A"}, blocking=True, return_response=True)
    assert answer is not None and answer["registers"]
    assert await hass.config_entries.async_unload("l1")
    await wait_for(lambda: power(hass, "a") == "unavailable")
    assert power(hass, "c") != "unavailable" and site.process.pid == pid
    assert await hass.config_entries.async_unload("l2")
    await wait_for(lambda: site.process.pid is None and not Path(f"/proc/{pid}").exists())
    assert await hass.config_entries.async_setup("l1")
    await wait_for(lambda: power(hass, "a") not in ("", "unknown", "unavailable"))
    assert site.process.pid not in (None, pid)


async def test_registers_of_boundaries_are_kept_although_the_process_is_killed_between_them(
    hass: HomeAssistant, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wait_for(lambda: shown(hass))
    snapshots: dict[str, list[Any]] = {}
    for entry in hass.config_entries.async_entries(DOMAIN):
        take = entry.runtime_data.coordinator.site.intake.async_take

    def noted(line: str, report: PollReport, unusable: Any = ()) -> None:
        for key, one in report.snapshots.items():
            snapshots.setdefault(key, []).append((one.boundary, one.readings))
        take(line, report, unusable)

    monkeypatch.setattr(site.intake, "async_take", noted)
    pid = site.process.pid
    assert pid is not None
    question = asyncio.create_task(
        hass.services.async_call(DOMAIN, "read_now", {"point": "A"}, blocking=True, return_response=True)
    )
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    if not question.done():
        with pytest.raises(HomeAssistantError, match="ended"):
            await question
    # It is back before anybody could notice: values stay, and the next boundary is read.
    await wait_for(lambda: site.process.pid not in (None, pid))
    assert shown(hass)
    snapshots.clear()
    await wait_for(lambda: {*snapshots} == {"a", "b", "c"})
    boundaries = {at for all_ in snapshots.values() for at, _ in all_}
    assert all(at.second % 3 == 0 and dt_util.utcnow() - at < timedelta(minutes=2) for at in boundaries)

    async def kept() -> bool:
        def look(ledger: Ledger) -> bool:
            return all(ledger.register_at(point, min(boundaries)) is not None for point in snapshots)

        return await site.ledger.async_call(look)

    while not await kept():  # noqa: ASYNC110
        await asyncio.sleep(0.1)


async def test_a_line_that_is_not_there_is_tried_again_by_home_assistant(
    hass: HomeAssistant, add_line: Callable[..., MockConfigEntry], socket_enabled: None
) -> None:
    entry = add_line("Nowhere", port=1, options=OPTIONS)
    assert await async_setup_component(hass, DOMAIN, {})
    await hass.async_block_till_done()
    assert entry.state.value == "setup_retry" and "Nothing listens" in (entry.reason or "")
    site = await async_get_site(hass)
    assert site.process.pid is None


async def test_what_was_learned_is_there_after_a_restart(hass: HomeAssistant, hass_storage: dict[str, Any]) -> None:
    hass_storage["meter_batch.lessons"] = {
        "version": 1,
        "data": {
            "lessons": [Lessons("eastron/sdm630", max_words=40).as_dict(), {"version": 99, "model": "x"}],
            "serials": {"a": "123"},
        },
    }
    learned = Learned(hass)
    await learned.async_load()
    assert {*learned.lessons} == {"eastron/sdm630"} and learned.lessons["eastron/sdm630"].max_words == 40
    learned.async_take(PollReport(dt_util.utcnow(), lessons={"abb/b23": Lessons("abb/b23", preamble=4)}))
    learned.async_forget("a")
    again = learned._data()
    assert again["serials"] == {} and len(again["lessons"]) == 2
