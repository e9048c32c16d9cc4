"""A real Home Assistant that reads lines with the integration, set up through its public doors.

The turnaround bench starts it as a process of its own: `python -m bench.hosted FOLDER PORT METERS SECONDS`.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from demo.home import Home, prepare, wait_until

from .rig import ROOT, free_ports

PYTHON = ROOT / ".venv" / "bin" / "python"
"""The interpreter that has Home Assistant, once the environment is set up."""
OFTEN = {"fast_s": 1, "slow_s": 10, "interval_min": "60", "detail": "full", "entity_statistics": False}
"""More than the line can carry, so that it is never idle."""
USER, PASSWORD = "bench", "meter-batch"


@asynccontextmanager
async def home_assistant(folder: Path, more: str = "") -> AsyncIterator[Home]:
    """Runs one, with the integration and nothing else, and speaks to it as its owner; what `folder` has goes on.

    `more` is put behind its configuration.
    """
    known = (folder / "configuration.yaml").exists()
    (folder / "custom_components").mkdir(parents=True, exist_ok=True)
    if not known:
        # Without it the package of that name that lies in the working tree would be taken instead.
        (folder / "custom_components" / "__init__.py").touch()
        (folder / "custom_components" / "meter_batch").symlink_to(ROOT / "custom_components" / "meter_batch")
    (http,) = free_ports(1)
    prepare(folder, http)
    with (folder / "configuration.yaml").open("a", encoding="utf-8") as file:
        file.write(more)
    log = folder / "log.txt"
    with log.open("ab") as out:
        command = [str(PYTHON), "-m", "homeassistant", "-c", str(folder), "--skip-pip"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, stdin=subprocess.DEVNULL)  # noqa: ASYNC220
    try:
        async with Home(f"http://127.0.0.1:{http}") as home:
            await wait_until(home.answers, 120, "Home Assistant")
            if known:
                await home.sign_in(USER, PASSWORD)
            else:
                await home.onboard(USER, PASSWORD, "en")

            async def running() -> bool:
                return bool((await home.ask("get_config"))["state"] == "RUNNING")

            await wait_until(running, 120, "Home Assistant to be running")
            yield home
    except Exception:
        print(log.read_text(encoding="utf-8", errors="replace")[-3000:], file=sys.stderr)
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


async def add_line(home: Home, port: int, protocol: str, meters: int, settings: dict[str, Any]) -> None:
    """A line called "line" with so many SDM630, "Meter 1" at address 1 and so on."""
    first = {"name": "line", "host": "127.0.0.1", "port": port, "protocol": protocol}
    wire = [] if protocol == "modbus-tcp" else [{"baud": "9600", "parity": "none", "stop_bits": "1"}]
    made = await home.flow("meter_batch", {"next_step_id": "tcp"}, first, *wire, {})
    await home.options(made["result"]["entry_id"], {"next_step_id": "settings"}, settings)
    rows = [f"Meter {unit},line,modbus,{unit},eastron/sdm630" for unit in range(1, meters + 1)]
    content = "\n".join(["name,line,protocol,address,template", *rows])
    await home.action("meter_batch", "import_points", {"content": content})


async def run(folder: Path, port: int, meters: int, seconds: float) -> None:
    """Sets up one line with `meters` meters and lets it be read for `seconds`."""
    async with home_assistant(folder) as home:
        await add_line(home, port, "modbus-rtu", meters, OFTEN)
        await asyncio.sleep(seconds)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
