"""A virtual meter says who it is in its model's own way, and another one says another number."""

from __future__ import annotations

from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusTcpClient

from meter_batch_engine.errors import ConfigError
from meter_batch_engine.template import available, identity_requests, load
from meter_batch_engine.template.decoder import ModbusRequest
from meter_batch_virtual.clock import FleetClock
from meter_batch_virtual.config import parse_fleet
from meter_batch_virtual.fault import parse_fault
from meter_batch_virtual.meter import Dlt645VirtualMeter, ModbusMeter, VirtualMeter, virtual_meter

from .conftest import StartFleet


def made(template: str, serial: str, tmp_path: Path) -> VirtualMeter:
    modbus = load(template).protocol == "modbus"
    address = "7" if modbus else '"000000000007"'
    text = (
        f'[[line]]\nname = "a"\nlisten = "tcp://127.0.0.1:0"\nprotocol = "mixed"\n[[line.meter]]\naddress = {address}\n'
        f'template = "{template}"\nserial = "{serial}"\n'
    )
    fleet = parse_fleet(text, tmp_path / "fleet.toml")
    return virtual_meter(fleet.lines[0].meters[0], FleetClock(), fleet.utc_offset, 9600)


def told(meter: VirtualMeter) -> dict[str, str | None]:
    said: dict[str, str | None] = {}
    for one in identity_requests(meter.template):
        if isinstance(one.request, ModbusRequest):
            assert isinstance(meter, ModbusMeter)
            request = one.request
            said |= one.texts(meter.read(request.function, request.address, request.count))
        else:
            assert isinstance(meter, Dlt645VirtualMeter)
            said |= one.texts(meter.item(one.request.di) or b"")
    return said


@pytest.mark.parametrize("template", [one for one in available() if identity_requests(load(one))])
def test_every_model_with_an_identity_tells_its_own(template: str, tmp_path: Path) -> None:
    meter = made(template, "26110042", tmp_path)
    said = told(meter)
    if "serial" in said:
        assert int(said["serial"] or "") == 26110042
    if meter.template.identity.expected:
        assert meter.template.identity.is_model(said["model"])
    meter.faults.reload((parse_fault({"kind": "swap"}, "here"),), 0)
    if "serial" in said:
        assert told(meter)["serial"] != said["serial"]


async def test_pymodbus_reads_the_serial_number(start_fleet: StartFleet) -> None:
    fleet = await start_fleet(
        '[[line]]\nname = "a"\nlisten = "tcp://127.0.0.1:0"\nprotocol = "modbus-tcp"\n'
        '[[line.meter]]\naddress = 7\ntemplate = "eastron/sdm630"\nserial = "26110042"\n'
    )
    async with AsyncModbusTcpClient("127.0.0.1", port=int(fleet.lines[0].where.rpartition(":")[2])) as client:
        words = (await client.read_holding_registers(0xFC00, count=2, device_id=7)).registers
        assert client.convert_from_registers(words, client.DATATYPE.UINT32) == 26110042
        assert (await client.read_holding_registers(0xFC02, count=1, device_id=7)).registers == [112]


def test_a_serial_number_that_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='serial = "999999999999": "999999999999" does not fit 2 words'):
        made("eastron/sdm630", "999999999999", tmp_path)
