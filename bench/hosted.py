"""Runs a real Home Assistant that reads a line with the integration, set up through its public doors.

Started by the turnaround bench with the interpreter of the environment that has Home Assistant:
`python -m bench.hosted FOLDER PORT METERS SECONDS`.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from demo.home import Home, prepare, wait_until

from .rig import ROOT, free_ports

OFTEN = {"fast_s": 1, "slow_s": 10, "interval_min": "60", "detail": "full", "entity_statistics": False}
"""More than the line can carry, so that it is never idle."""


async def run(folder: Path, port: int, meters: int, seconds: float) -> None:
    """Sets up one line with `meters` meters and lets it be read for `seconds`."""
    (folder / "custom_components").mkdir(parents=True)
    (folder / "custom_components" / "meter_batch").symlink_to(ROOT / "custom_components" / "meter_batch")
    (http,) = free_ports(1)
    prepare(folder, http)
    log = folder / "log.txt"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "homeassistant", "-c", str(folder), "--skip-pip"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, stdin=subprocess.DEVNULL)  # noqa: ASYNC220
    try:
        async with Home(f"http://127.0.0.1:{http}") as home:
            await wait_until(home.answers, 120, "Home Assistant")
            await home.onboard("bench", "meter-batch", "en")

            async def running() -> bool:
                return bool((await home.ask("get_config"))["state"] == "RUNNING")

            await wait_until(running, 120, "Home Assistant to be running")
            first = {"name": "line", "host": "127.0.0.1", "port": port, "protocol": "modbus-rtu"}
            wire = {"baud": "9600", "parity": "none", "stop_bits": "1"}
            made = await home.flow("meter_batch", {"next_step_id": "tcp"}, first, wire, {})
            rows = [f"Meter {unit},line,modbus,{unit},eastron/sdm630" for unit in range(1, meters + 1)]
            content = "\n".join(["name,line,protocol,address,template", *rows])
            await home.action("meter_batch", "import_points", {"content": content})
            step = await home._post("/api/config/config_entries/options/flow", {"handler": made["result"]["entry_id"]})
            for answer in ({"next_step_id": "settings"}, OFTEN):
                step = await home._post(f"/api/config/config_entries/options/flow/{step['flow_id']}", answer)
            await asyncio.sleep(seconds)
    except Exception:
        print(log.read_text(encoding="utf-8", errors="replace")[-3000:], file=sys.stderr)
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
