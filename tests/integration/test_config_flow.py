"""Adding and changing a line through its flow, with a real test of a real line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from homeassistant import config_entries
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.meter_batch import line_test, link
from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.const import DOMAIN, LineProtocol
from custom_components.meter_batch.line_test import async_test_line, is_address
from custom_components.meter_batch.site import async_get_site

from .conftest import StartFleet, make_point, port_of, wait_for

MODBUS = """
[[line]]
name = "East"
listen = "tcp://127.0.0.1:0"
protocol = "{protocol}"
baud = 19200
[[line.meter]]
address = 7
template = "eastron/sdm630"
"""
DLT645 = """
[[line]]
name = "South"
listen = "{listen}"
protocol = "{protocol}"
baud = 9600
[[line.meter]]
address = "000000000012"
template = "generic/{template}"
"""

type Step = dict[str, Any]


@pytest.fixture(autouse=True)
def _short_wires_are_silent_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_test, "SETTLE_S", 0.2)


async def begin(hass: HomeAssistant, kind: str, **fields: Any) -> Any:
    """Goes to the first form, and with fields through it."""
    result = await hass.config_entries.flow.async_init(DOMAIN, context={"source": config_entries.SOURCE_USER})
    assert result["type"] is FlowResultType.MENU
    assert result["menu_options"] == ["tcp", "serial", "analytics"]
    result = await go(hass, result, {"next_step_id": kind})
    return await go(hass, result, {"name": "East", **fields}) if fields else result


async def go(hass: HomeAssistant, result: Any, step: Step) -> Any:
    return await hass.config_entries.flow.async_configure(result["flow_id"], step)


def failure(result: Any) -> str:
    """What the menu after a failed test says is wrong."""
    assert (result["type"], result["step_id"]) == (FlowResultType.MENU, "test_failed")
    return str(result["description_placeholders"]["problem"])


def suggested(result: Any) -> Step:
    """What the fields of a form begin with."""
    return {str(field): (field.description or {}).get("suggested_value") for field in result["data_schema"].schema}


async def test_a_modbus_tcp_line_is_added_after_its_meter_was_read(
    hass: HomeAssistant, start_fleet: StartFleet
) -> None:
    fleet = await start_fleet(MODBUS.format(protocol="modbus-tcp"))
    result = await begin(hass, "tcp", host=" 127.0.0.1 ", port=port_of(fleet), protocol="modbus-tcp")
    assert result["step_id"] == "test"
    assert result["description_placeholders"] == {"line": "East", "where": f"tcp://127.0.0.1:{port_of(fleet)}"}
    result = await go(hass, result, {"test_address": "7"})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["title"] == "East"
    assert result["data"] == {
        "link": "tcp",
        "host": "127.0.0.1",
        "port": port_of(fleet),
        "protocol": "modbus-tcp",
    }
    entry: config_entries.ConfigEntry = result["result"]
    assert entry.unique_id == f"tcp://127.0.0.1:{port_of(fleet)}"
    await hass.async_block_till_done()
    assert entry.state is ConfigEntryState.LOADED
    (logged,) = await (await async_get_site(hass)).log.async_read()
    assert (logged["action"], logged["before"], logged["after"]["title"]) == ("add_line", None, "East")


async def test_one_endpoint_is_one_line(hass: HomeAssistant, add_line: Callable[..., MockConfigEntry]) -> None:
    add_line("East", disabled=True)
    result = await begin(hass, "tcp", host="127.0.0.1", port=502, protocol="modbus-tcp")
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "already_configured")


async def test_the_wire_begins_with_what_the_protocol_usually_has(hass: HomeAssistant) -> None:
    for protocol, suggested in (
        ("modbus-rtu", ("9600", "none", "1")),
        ("dlt645-2007", ("2400", "even", "1")),
        ("dlt645-1997", ("1200", "even", "1")),
        ("mixed", ("2400", "even", "1")),
    ):
        result = await begin(hass, "tcp", host="127.0.0.1", port=4001, protocol=protocol)
        assert result["step_id"] == "wire"
        values = tuple(field.description["suggested_value"] for field in result["data_schema"].schema)
        assert values == suggested


@pytest.mark.parametrize(
    ("kind", "fields", "field", "error"),
    [
        ("tcp", {"host": "http://gw", "port": 502, "protocol": "modbus-tcp"}, "host", "bad_host"),
        ("tcp", {"host": "127.0.0.1:502", "port": 502, "protocol": "modbus-tcp"}, "host", "bad_host"),
        ("tcp", {"host": "[fe80::1]:502", "port": 502, "protocol": "modbus-tcp"}, "host", "bad_host"),
        ("tcp", {"host": " ", "port": 502, "protocol": "modbus-tcp"}, "host", "bad_host"),
        ("serial", {"serial_port": "ttyUSB0", "protocol": "modbus-rtu"}, "serial_port", "bad_serial_port"),
    ],
)
async def test_what_is_no_address_is_told_at_its_field(
    hass: HomeAssistant, kind: str, fields: Step, field: str, error: str
) -> None:
    result = await begin(hass, kind, **fields)
    assert result["errors"] == {field: error}


@pytest.mark.parametrize("host", ["gateway.local", "192.168.1.20", "fe80::1", "::1"])
async def test_names_and_addresses_of_both_kinds_are_hosts(hass: HomeAssistant, host: str) -> None:
    result = await begin(hass, "tcp", host=host, port=502, protocol="modbus-tcp")
    assert result["step_id"] == "test"


async def test_a_baud_rate_that_is_none_is_told(hass: HomeAssistant) -> None:
    result = await begin(hass, "tcp", host="127.0.0.1", port=4001, protocol="modbus-rtu")
    for baud in ("fast", "7"):
        result = await go(hass, result, {"baud": baud, "parity": "none", "stop_bits": "1"})
        assert result["errors"] == {"baud": "bad_baud"}


async def test_a_gateway_that_is_not_there_is_told_in_words_and_may_be_added_anyway(
    hass: HomeAssistant, socket_enabled: None
) -> None:
    result = await begin(hass, "tcp", host="127.0.0.1", port=1, protocol="modbus-tcp")
    result = await go(hass, result, {})
    assert "127.0.0.1" in failure(result)
    assert result["menu_options"] == ["tcp", "test", "finish"], "Modbus TCP has no wire"
    result = await go(hass, result, {"next_step_id": "finish"})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await hass.async_block_till_done()
    assert result["result"].state is ConfigEntryState.SETUP_RETRY


async def test_a_serial_port_that_is_not_there_is_told_in_words(hass: HomeAssistant) -> None:
    result = await begin(hass, "serial", serial_port="/dev/ttyNONE", protocol="dlt645-2007")
    result = await go(hass, result, {"baud": "2400", "parity": "even", "stop_bits": "1"})
    assert result["step_id"] == "test"
    result = await go(hass, result, {})
    assert "/dev/ttyNONE" in failure(result)
    assert result["menu_options"] == ["serial", "wire", "test", "finish"]


async def test_a_gateway_in_transparent_mode_is_found_out(hass: HomeAssistant, start_fleet: StartFleet) -> None:
    fleet = await start_fleet(MODBUS.format(protocol="modbus-rtu"))
    result = await begin(hass, "tcp", host="127.0.0.1", port=port_of(fleet), protocol="modbus-tcp")
    result = await go(hass, result, {"test_address": "7"})
    assert "answers in Modbus RTU" in failure(result)
    assert "Choose Modbus RTU over TCP" in result["description_placeholders"]["hint"]


async def test_a_gateway_that_converts_is_found_out(hass: HomeAssistant, start_fleet: StartFleet) -> None:
    fleet = await start_fleet(MODBUS.format(protocol="modbus-tcp"))
    result = await begin(hass, "tcp", host="127.0.0.1", port=port_of(fleet), protocol="modbus-rtu")
    result = await go(hass, result, {"baud": "19200", "parity": "none", "stop_bits": "1"})
    result = await go(hass, result, {"test_address": "7"})
    assert "answers in Modbus TCP" in failure(result)
    assert "Choose Modbus TCP" in result["description_placeholders"]["hint"]


async def test_a_meter_of_the_other_edition_is_found_out(hass: HomeAssistant, start_fleet: StartFleet) -> None:
    fleet = await start_fleet(
        DLT645.format(listen="tcp://127.0.0.1:0", protocol="dlt645-1997", template="dlt645-1997-1ph")
    )
    result = await begin(hass, "tcp", host="127.0.0.1", port=port_of(fleet), protocol="dlt645-2007")
    result = await go(hass, result, {"baud": "9600", "parity": "even", "stop_bits": "1"})
    result = await go(hass, result, {"test_address": "12"})
    assert "000000000012" in failure(result)
    assert "answers in DL/T 645-1997" in result["description_placeholders"]["hint"]
    # Back to the protocol, and on: everything else is as it was typed.
    result = await go(hass, result, {"next_step_id": "tcp"})
    assert suggested(result) == {
        "name": "East",
        "host": "127.0.0.1",
        "port": port_of(fleet),
        "protocol": "dlt645-2007",
    }
    result = await go(hass, result, {**suggested(result), "protocol": "dlt645-1997"})
    result = await go(hass, result, {"baud": "9600", "parity": "even", "stop_bits": "1"})
    assert (result["step_id"], suggested(result)) == ("test", {"test_address": "12"})
    result = await go(hass, result, {"test_address": "12"})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["data"]["protocol"] == "dlt645-1997"


async def test_where_neither_edition_answers_none_is_recommended(hass: HomeAssistant, start_fleet: StartFleet) -> None:
    fleet = await start_fleet(DLT645.format(listen="tcp://127.0.0.1:0", protocol="dlt645-2007", template="dlt645-1ph"))
    result = await begin(hass, "tcp", host="127.0.0.1", port=port_of(fleet), protocol="dlt645-2007")
    result = await go(hass, result, {"baud": "9600", "parity": "even", "stop_bits": "1"})
    result = await go(hass, result, {"test_address": "99"})
    assert "000000000099" in failure(result)
    assert "answers in" not in result["description_placeholders"]["hint"]


async def test_a_meter_that_does_not_answer_is_told_and_an_address_that_is_none_too(
    hass: HomeAssistant, start_fleet: StartFleet
) -> None:
    fleet = await start_fleet(MODBUS.format(protocol="modbus-tcp"))
    result = await begin(hass, "tcp", host="127.0.0.1", port=port_of(fleet), protocol="modbus-tcp")
    result = await go(hass, result, {"test_address": "500"})
    assert result["errors"] == {"test_address": "bad_address"}
    result = await go(hass, result, {"test_address": "9"})
    assert "check the meter's supply, address" in failure(result)
    assert result["description_placeholders"]["hint"] == "", "what to do is said once"
    result = await go(hass, result, {"next_step_id": "test"})
    assert (result["step_id"], suggested(result)) == ("test", {"test_address": "9"})
    result = await go(hass, result, {"test_address": "7"})
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_after_a_failed_test_the_wire_can_be_changed(hass: HomeAssistant, start_fleet: StartFleet) -> None:
    fleet = await start_fleet(MODBUS.format(protocol="modbus-rtu"))
    result = await begin(hass, "tcp", host="127.0.0.1", port=port_of(fleet), protocol="modbus-rtu")
    result = await go(hass, result, {"baud": "19200", "parity": "odd", "stop_bits": "1"})
    result = await go(hass, result, {"test_address": "9"})
    assert result["menu_options"] == ["tcp", "wire", "test", "finish"]
    result = await go(hass, result, {"next_step_id": "wire"})
    assert suggested(result) == {"baud": "19200", "parity": "odd", "stop_bits": "1"}
    result = await go(hass, result, {"baud": "19200", "parity": "none", "stop_bits": "1"})
    result = await go(hass, result, {"test_address": "7"})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["data"]["parity"] == "N"


async def test_a_serial_line_is_added_through_a_real_terminal(
    hass: HomeAssistant, start_fleet: StartFleet, tmp_path: Any
) -> None:
    await start_fleet(DLT645.format(listen="pty:./ttyM", protocol="dlt645-2007", template="dlt645-1ph"))
    port = str(tmp_path / "ttyM")  # a pseudo terminal, which has no parity
    result = await begin(hass, "serial", serial_port=port, protocol="mixed")
    result = await go(hass, result, {"baud": "9600", "parity": "none", "stop_bits": "1"})
    result = await go(hass, result, {"test_address": "000000000012"})
    assert result["type"] is FlowResultType.CREATE_ENTRY, result
    assert result["data"] == {
        "link": "serial",
        "serial_port": port,
        "protocol": "mixed",
        "baud": 9600,
        "parity": "N",
        "stop_bits": 1,
    }
    await hass.async_block_till_done()
    assert result["result"].state is ConfigEntryState.LOADED


async def test_a_new_line_that_runs_leads_on_to_its_search(hass: HomeAssistant, start_fleet: StartFleet) -> None:
    fleet = await start_fleet(MODBUS.format(protocol="modbus-tcp"))
    result = await begin(hass, "tcp", host="127.0.0.1", port=port_of(fleet), protocol="modbus-tcp")
    result = await go(hass, result, {})  # no address: the connection alone is tested
    assert result["type"] is FlowResultType.CREATE_ENTRY
    kind, flow_id = result["next_flow"]
    assert kind == "options_flow"
    menu: Any = await hass.config_entries.options.async_configure(flow_id)
    assert menu["menu_options"][0] == "scan"


async def test_an_rfc2217_address_without_a_port_is_told_in_words(hass: HomeAssistant) -> None:
    result = await begin(hass, "serial", serial_port="rfc2217://", protocol="modbus-rtu")
    result = await go(hass, result, {"baud": "9600", "parity": "none", "stop_bits": "1"})
    result = await go(hass, result, {})
    assert "rfc2217://" in failure(result)


async def test_a_line_moves_from_the_network_to_a_serial_port_and_its_points_stay(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry], tmp_path: Any
) -> None:
    await start_fleet(MODBUS.format(protocol="modbus-rtu").replace("tcp://127.0.0.1:0", "pty:./ttyM"))
    entry = add_line("East", mac="d4:ad:20:01:02:03", port=1)
    assert await async_setup_component(hass, DOMAIN, {})
    await hass.async_block_till_done()
    registry = (await async_get_site(hass)).registry
    await registry.async_apply({"p1": make_point("p1", "Hall 1", "7", entry.entry_id)}, SYSTEM, "test")
    result: Any = await go(hass, await entry.start_reconfigure_flow(hass), {"next_step_id": "serial"})
    port = str(tmp_path / "ttyM")
    result = await go(hass, result, {"name": "East", "serial_port": port, "protocol": "modbus-rtu"})
    result = await go(hass, result, {"baud": "9600", "parity": "odd", "stop_bits": "1"})
    # Before the test is passed nothing is stored.
    result = await go(hass, result, {"test_address": "7"})
    assert result["step_id"] == "test_failed"
    assert entry.data["link"] == "tcp"
    result = await go(hass, result, {"next_step_id": "wire"})
    result = await go(hass, result, {"baud": "19200", "parity": "none", "stop_bits": "1"})
    result = await go(hass, result, {"test_address": "7"})
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "reconfigure_successful")
    assert entry.data == {
        "link": "serial",
        "serial_port": port,
        "protocol": "modbus-rtu",
        "baud": 19200,
        "parity": "N",
        "stop_bits": 1,
    }
    assert entry.unique_id == port
    await hass.async_block_till_done()
    assert entry.state is ConfigEntryState.LOADED
    coordinator = entry.runtime_data.coordinator
    await wait_for(lambda: coordinator.values.get("p1"))


async def test_a_line_can_be_changed_and_keeps_its_id(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    fleet = await start_fleet(MODBUS.format(protocol="modbus-tcp"))
    entry = add_line("East", port=port_of(fleet))
    add_line("Other", port=1, disabled=True)
    assert await hass.config_entries.async_setup(entry.entry_id)
    result: Any = await entry.start_reconfigure_flow(hass)
    assert result["type"] is FlowResultType.MENU
    result = await go(hass, result, {"next_step_id": "tcp"})
    values = {str(field): (field.description or {}).get("suggested_value") for field in result["data_schema"].schema}
    assert values == {"name": "East", "host": "127.0.0.1", "port": port_of(fleet), "protocol": "modbus-tcp"}
    taken = await go(hass, result, {"name": "East", "host": "127.0.0.1", "port": 1, "protocol": "modbus-tcp"})
    assert (taken["type"], taken["reason"]) == (FlowResultType.ABORT, "already_configured")

    result = await entry.start_reconfigure_flow(hass)
    result = await go(hass, result, {"next_step_id": "tcp"})
    result = await go(
        hass, result, {"name": "Hall", "host": "localhost", "port": port_of(fleet), "protocol": "modbus-tcp"}
    )
    assert result["step_id"] == "test", result
    failed = await go(hass, result, {"test_address": "9"})
    assert "no reply" in failure(failed)
    result = await go(hass, failed, {"next_step_id": "test"})
    result = await go(hass, result, {"test_address": "7"})
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "reconfigure_successful")
    assert (entry.title, entry.data["host"]) == ("Hall", "localhost")
    await hass.async_block_till_done()


async def test_the_test_of_a_line_that_was_running_asks_twice_for_its_last_reply_may_be_under_way(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry]
) -> None:
    # Every other question is lost, as the first is where a meter still answers the poller.
    fleet = await start_fleet(MODBUS.format(protocol="modbus-rtu") + 'faults = [{ kind = "silent", every = 2 }]\n')
    entry = add_line("East", port=port_of(fleet), protocol="modbus-rtu", baud=19200)
    began = hass.loop.time()
    for _ in range(2):
        await async_test_line(entry.data, {}, "7", busy=True)
    assert hass.loop.time() - began > 3 * line_test.SETTLE_S, "each begins when the line is silent"


async def test_a_new_wire_keeps_what_was_set_unless_the_protocol_changes(
    hass: HomeAssistant, add_line: Callable[..., MockConfigEntry]
) -> None:
    entry = add_line("East", protocol="dlt645-2007", baud=9600, parity="E", stop_bits=1, port=4001, disabled=True)
    for protocol, baud in (("dlt645-2007", "9600"), ("modbus-rtu", "9600"), ("mixed", "2400")):
        result: Any = await entry.start_reconfigure_flow(hass)
        result = await go(hass, result, {"next_step_id": "tcp"})
        result = await go(hass, result, {"name": "E", "host": "127.0.0.1", "port": 4001, "protocol": protocol})
        assert result["step_id"] == "wire"
        assert next(iter(result["data_schema"].schema)).description["suggested_value"] == baud


def test_addresses_are_urls_of_the_engine_and_settings_of_the_wire() -> None:
    data = {"link": "tcp", "host": "FE80::1", "port": 502, "protocol": "modbus-tcp"}
    assert link.url(data) == "tcp://[FE80::1]:502"
    assert link.unique_id(data) == "tcp://[fe80::1]:502"
    assert link.settings(data, {}).framing == "tcp"
    serial = {"link": "serial", "serial_port": "/dev/ttyUSB0", "protocol": "dlt645-2007"}
    assert link.unique_id(serial) == "/dev/ttyUSB0"
    wire = link.settings(serial, {"gap_ms": 25.0, "preamble": 4.0})
    assert (wire.baud, wire.parity, wire.framing, wire.gap_s, wire.preamble) == (2400, "E", "rtu", 0.025, 4)
    wire = link.settings(serial, {})
    assert (wire.gap_s, wire.preamble) == (0, 0)
    assert link.make_line(serial, {}).name == "/dev/ttyUSB0"


def test_on_a_mixed_line_the_length_says_what_an_address_is() -> None:
    assert is_address("247", LineProtocol.MIXED)
    assert is_address("000000000012", LineProtocol.MIXED)
    assert not is_address("300", LineProtocol.MIXED)
    assert not is_address("x", LineProtocol.DLT645_2007)
    assert LineProtocol.MIXED.speaks("modbus") and not LineProtocol.DLT645_2007.speaks("dlt645-1997")
