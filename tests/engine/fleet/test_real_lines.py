"""The poller on real sockets, against meters that other people wrote."""

from __future__ import annotations

import asyncio
import json
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from meter_batch_engine.fleet import Poller, PollMeter, PollReport, PollSettings
from meter_batch_engine.line import Line, LineSettings
from meter_batch_engine.model.quantity import BY_KEY
from meter_batch_engine.template import load
from meter_batch_engine.transport import open_transport


async def read_once(url: str, settings: LineSettings, meters: list[PollMeter]) -> dict[str, dict[str, object]]:
    """Polls until every meter has been read; the values by meter and register key."""
    values: dict[str, dict[str, object]] = {}
    done = asyncio.Event()
    keys = {quantity.obis: key for key, quantity in BY_KEY.items()}

    def on_report(report: PollReport) -> None:
        for key, readings in report.readings.items():
            values.setdefault(key, {}).update((keys[one.obis], one.value) for one in readings if one.good)
        if values.keys() == {meter.key for meter in meters}:
            done.set()

    poller = Poller(Line(open_transport(url, settings.serial), settings), PollSettings(), on_report)
    poller.set_meters(meters)
    task = asyncio.create_task(poller.run())
    try:
        async with asyncio.timeout(20):
            await done.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return values


@pytest.mark.parametrize("framing", ["rtu", "tcp"])
async def test_meters_on_pymodbus_are_polled(framing):
    values = [0.0] * 0xB0
    for address, value in ((0, 230.5), (6, 1.25), (0x46, 50.01), (0x48, 1234.5)):
        values[address // 2] = value
    devices = [SimDevice(unit, simdata=[SimData(0, values=values, datatype=DataType.FLOAT32)]) for unit in (1, 2)]
    framer = FramerType.RTU if framing == "rtu" else FramerType.SOCKET
    server = ModbusTcpServer(devices, framer=framer, address=("127.0.0.1", 0))
    await server.listen()
    try:
        template = load("eastron/sdm120")
        meters = [PollMeter(f"m{unit}", f"M {unit}", template, str(unit), "modbus") for unit in (1, 2)]
        url = f"tcp://127.0.0.1:{server.transport.sockets[0].getsockname()[1]}"
        found = await read_once(url, LineSettings(baud=115200, framing=framing), meters)
    finally:
        await server.shutdown()
    for key in ("m1", "m2"):
        assert found[key]["voltage"] == pytest.approx(230.5)
        assert found[key]["frequency"] == pytest.approx(50.01, abs=1e-4)
        assert found[key]["energy_import"] == Decimal("1234.5")


async def test_meters_of_both_editions_on_the_foreign_dlt645_bus_are_polled(shared_dir: Path, tmp_path: Path):
    generate = {"since": "2025-01-01T00:00:00", "start": {"1": "1000.00"}, "kw": "3.6", "kvar": "1.2"}
    bus = {
        "now": "2025-11-30T14:47:10",
        "hold": True,
        "meters": [
            {"address": "123456789012", "td_ms": 20, "generate": generate},
            {"address": "000000000063", "td_ms": 20, "generate": generate, "max_data": 16, "tariffs": 12},
            {"address": "000000000064", "td_ms": 20, "generate": generate, "blocks": False},
            {"address": "000000000075", "td_ms": 20, "protocol": "1997", "generate": generate},
        ],
    }
    fleet = tmp_path / "fleet.json"
    fleet.write_text(json.dumps(bus))
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(shared_dir / "peers" / "dlt645_meter.py"), "--tcp", "127.0.0.1:0", "--meters", str(fleet),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = (await process.stdout.readline()).decode().split()[1]
        meters = [
            PollMeter(one["address"], "M", load(model), one["address"], load(model).protocol)
            for one in bus["meters"]
            for model in [f"generic/dlt645-{'1997-' if one.get('protocol') else ''}3ph"]
        ]
        values = await read_once(f"tcp://{address}", LineSettings(baud=19200, parity="E"), meters)
    finally:
        process.terminate()
        await process.wait()
    for key, found in values.items():
        assert found["energy_import"] == Decimal("29824.43"), key
        assert found["active_power"] == pytest.approx(3.6), key
