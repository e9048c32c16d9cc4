"""Diagnostics as a user downloads them: they replay, say what is wrong and what was learned, and give nobody away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from homeassistant.components.diagnostics import REDACTED
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.components.diagnostics import (
    get_diagnostics_for_config_entry,
    get_diagnostics_for_device,
)
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator
from typer.testing import CliRunner

from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.engine.recording import parse
from meter_batch_cli.replay import app

from .conftest import StartFleet, port_of, wait_for
from .test_live import act, value

FLEET = """
[[line]]
name = "Secret Street"
listen = "tcp://127.0.0.1:0"
protocol = "mixed"
baud = 19200
[[line.meter]]
name = "Miller"
address = "310070123456"
template = "generic/dlt645-1ph"
serial = "310070123456"
[[line.meter]]
name = "Roof"
address = 2
template = "abb/b23"
serial = "87654321"
[[line.meter]]
name = "Dead"
address = "220011998877"
template = "generic/dlt645-1ph"
faults = [{ kind = "silent" }]
"""
ROWS = """name,address,template,serial,area,customer
Miller,310070123456,generic/dlt645-1ph,310070123456,Secret Street,C-4711
Roof,2,abb/b23,B-0815,,
Dead,220011998877,generic/dlt645-1ph,,,
"""


def secrets(port: int) -> list[str]:
    """Everything that must not be told, as text and as it stands in frames."""
    addresses = [bytes.fromhex(one)[::-1] for one in ("310070123456", "220011998877")]
    moved = [bytes((byte + 0x33) & 0xFF for byte in one) for one in addresses]
    plain = ["310070123456", "220011998877", "Miller", "Roof", "Dead", "Secret", "C-4711", "B-0815", "87654321"]
    serial = f"{87654321:08x}"
    return [*plain, "127.0.0.1", f":{port}", f" {port},", serial, *(one.hex() for one in (*addresses, *moved))]


@pytest.mark.parametrize("own_process", [False, True])
async def test_diagnostics_replay_and_hide_who_and_where(
    hass: HomeAssistant,
    hass_client: ClientSessionGenerator,
    start_fleet: StartFleet,
    add_line: Callable[..., MockConfigEntry],
    tmp_path: Path,
    *,
    own_process: bool,
) -> None:
    fleet = await start_fleet(FLEET)
    assert await async_setup_component(hass, "diagnostics", {})
    entry = add_line(
        "Secret Street",
        entry_id="e1",
        port=port_of(fleet),
        protocol="mixed",
        baud=19200,
        parity="E",
        options={"fast_s": 1, "slow_s": 5, "own_process": own_process},
    )
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert (await act(hass, "import_points", content=ROWS, line=entry.title))["applied"] == 3
    await hass.async_block_till_done()
    coordinator = entry.runtime_data.coordinator
    causes = coordinator.causes
    await wait_for(
        lambda: coordinator.silent and coordinator.silent <= causes.diagnoses.keys() and causes.identities, 30
    )

    found: dict[str, Any] = await get_diagnostics_for_config_entry(hass, hass_client, entry)
    text = json.dumps(found, indent=1)
    assert [one for one in secrets(port_of(fleet)) if one.lower() in text.lower()] == []

    recording = parse(text)
    assert len(recording.exchanges) > 10
    file = tmp_path / "diagnostics.json"
    file.write_text(text, encoding="utf-8")
    replayed = await hass.async_add_executor_job(CliRunner().invoke, app, [str(file)])
    assert replayed.exit_code == 0, replayed.output
    assert len(replayed.output.splitlines()) == len(recording.exchanges)
    read = {key for one in recording.readings if one for key in one}
    assert {"energy_import", "voltage_l1", "serial"} <= read
    points = found["points"]
    assert {route["address"] for one in points.values() for route in one["routes"]} == {
        one.address for one in recording.meters
    }

    assert found["poller"] == ("own_process" if own_process else "inside")
    shares = found["health"]["airtime"]
    assert set(shares) == {"live", "backfill", "probe", "idle"}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert {one["model"] for one in found["lessons"]} <= {"generic/dlt645-1ph", "abb/b23"}
    (silent,) = found["silent"]
    assert found["diagnoses"][silent][0]["likelihood"] > 0
    assert {one["serial"] for one in found["identities"].values()} <= {None, REDACTED} and found["identities"]

    hub = dr.async_get(hass).async_get_devices(identifiers={(DOMAIN, entry.entry_id)})[0]
    assert await get_diagnostics_for_device(hass, hass_client, entry, hub) == {}
    miller = coordinator.site.registry.find("Miller")
    device = dr.async_get(hass).async_get_devices(identifiers={(DOMAIN, miller.id)})[0]
    of_device = await get_diagnostics_for_device(hass, hass_client, entry, device)
    text = json.dumps(of_device)
    assert [one for one in secrets(port_of(fleet)) if one.lower() in text.lower()] == []
    (point,) = of_device.values()
    assert point["available"] and "energy_import" in point["registers"]
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert await get_diagnostics_for_device(hass, hass_client, entry, device) == {"state": "not_loaded"}


async def test_diagnostics_of_a_line_that_is_not_there_say_so(
    hass: HomeAssistant,
    hass_client: ClientSessionGenerator,
    add_line: Callable[..., MockConfigEntry],
    unused_tcp_port: int,
) -> None:
    assert await async_setup_component(hass, "diagnostics", {})
    entry = add_line("Secret Street", port=unused_tcp_port, mac="d8:b0:4c:11:22:33")
    assert not await hass.config_entries.async_setup(entry.entry_id)
    found = await get_diagnostics_for_config_entry(hass, hass_client, entry)
    assert (found["state"], found["reason"]) == ("setup_retry", "line_unavailable")
    assert value(hass, "binary_sensor.secret_street_connection") is None
    assert not [one for one in ("Secret", "127.0.0.1", "11:22:33") if one in json.dumps(found)]
