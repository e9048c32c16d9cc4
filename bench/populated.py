"""A Home Assistant with a thousand meters, set up and used through its public doors, and what a probe in it measures.

`bench fleet` starts it as a process of its own: `python -m bench.populated PLAN.json`; it prints what it saw as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from demo.home import Home, HomeError, wait_until

from .hosted import home_assistant

COMPONENTS = Path(__file__).parent / "components"
RULES = ("over_voltage", "under_voltage", "phase_loss", "overload", "current_unbalance", "low_power_factor")
"""Set for the whole site, so that their registers are read of every meter."""
PATIENCE_S = 300.0
SETTLED_S = 90.0
MOST_BACKLOG = 300


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    """All phases that the plan names."""
    folder = Path(plan["folder"])
    seen: dict[str, Any] = {}
    async with at_home(folder, ["bench_probe"]) as home:
        await mark(home)
        await lines(home, plan)
        seen["lines"] = await mark(home)
        await points(home, plan, seen)
        await settled(home, plan)
        await mark(home)
        seen["size_before"] = size(folder)
        await asyncio.sleep(plan["steady_s"])
        seen["steady"] = await mark(home)
        seen["size_after"] = size(folder)
        seen["health"] = await health(home)
        seen["states"] = len(await home.ask("get_states"))
        entry = (await home.ask("config_entries/get", domain="meter_batch"))[1]
        begin = time.monotonic()
        await home.post(f"/api/config/config_entries/entry/{entry['entry_id']}/reload", {})
        seen["reload_s"] = time.monotonic() - begin
        await asyncio.sleep(5)
        seen["reload"] = await mark(home)
        seen["dead_at"] = kill(plan, "silent")
        await asyncio.sleep(plan["dead_s"])
        seen["silent"] = await mark(home)
        seen["cut_at"] = kill(plan, "cut")
        await asyncio.sleep(plan["dead_s"])
        seen["cut"] = await mark(home)
        seen["alive_at"] = kill(plan, None)
        seen["size_end"] = size(folder)
    begin = time.monotonic()
    async with at_home(folder, ["bench_probe"]) as home:
        await live(home, len(plan["meters"]) - plan["dead"])
        seen["restart_s"] = time.monotonic() - begin
        seen["restart"] = await mark(home)
        seen["restart_at"] = begin
        await poll_by(home, plan, own_process=True)
        await live(home, len(plan["meters"]) - plan["dead"])
        await settled(home, plan)
        await mark(home)
        seen["process_at"] = time.monotonic()
        await asyncio.sleep(plan["steady_s"])
        seen["process"] = await mark(home)
        seen["process_health"] = await health(home)
        await poll_by(home, plan, own_process=False)
    if plan["foreign"]:
        seen |= await beside(folder, plan)
    return seen


async def beside(folder: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """The same fleet beside twenty thousand entities of somebody else, while their statistics are compiled."""
    seen: dict[str, Any] = {}
    async with at_home(folder, ["bench_probe", "bench_foreign"]) as home:
        await live(home, len(plan["meters"]) - plan["dead"])

        async def ready() -> bool:
            return any(one["entity_id"] == "bench_foreign.ready" for one in await home.ask("get_states"))

        await wait_until(ready, PATIENCE_S, "the foreign entities")
        await settled(home, plan)
        before = await health(home)
        await mark(home)
        seen["foreign_at"] = time.monotonic()
        seen["compiled"] = []
        until = time.monotonic() + plan["foreign_s"]
        # By hand once, for every run is to see one; then as they come by themselves, every five minutes.
        seen["compiled"].append(await home.action("bench_foreign", "compile", {}))
        await asyncio.sleep(max(10.0, until - time.monotonic()))
        seen["foreign"] = await mark(home)
        seen["foreign_until"] = time.monotonic()
        after = await health(home)
        seen["foreign_health"] = {
            line: {key: after[line][key] - one[key] for key in one} for line, one in before.items()
        }
    return seen


@asynccontextmanager
async def at_home(folder: Path, components: list[str]) -> AsyncIterator[Home]:
    """Home Assistant with components of the bench's own."""
    own = folder / "custom_components"
    own.mkdir(parents=True, exist_ok=True)
    for name in components:
        shutil.copytree(COMPONENTS / name, own / name, dirs_exist_ok=True)
    async with home_assistant(folder, "".join(f"{name}:\n" for name in components)) as home:
        yield home


async def mark(home: Home) -> dict[str, Any]:
    """What the probe measured since the last mark."""
    told: dict[str, Any] = await home.action("bench_probe", "mark", {})
    return told


async def lines(home: Home, plan: dict[str, Any]) -> None:
    """Every line by its config flow and options."""
    for line in plan["lines"]:
        first = {"name": line["name"], "host": "127.0.0.1", "port": line["port"], "protocol": line["protocol"]}
        wire = [{"baud": str(line["baud"]), "parity": "none", "stop_bits": "1"}] if line["baud"] else []
        made = await home.flow("meter_batch", {"next_step_id": "tcp"}, first, *wire, {})
        await home.options(made["result"]["entry_id"], {"next_step_id": "settings"}, plan["settings"])
    for kind in RULES:
        await home.action("meter_batch", "set_alarm_rule", {"kind": kind, "enabled": True})


async def poll_by(home: Home, plan: dict[str, Any], *, own_process: bool) -> None:
    """Has all lines polled by a process of their own, or by Home Assistant itself."""
    for entry in await home.ask("config_entries/get", domain="meter_batch"):
        settings = plan["settings"] | {"own_process": own_process}
        await home.options(entry["entry_id"], {"next_step_id": "settings"}, settings)


async def points(home: Home, plan: dict[str, Any], seen: dict[str, Any]) -> None:
    """The list of all meters: first dry, then in earnest, until all of them show values."""
    rows = [f"{name},{line},modbus,{unit},{plan['template']}" for name, line, unit in plan["meters"]]
    content = "\n".join(["name,line,protocol,address,template", *rows])
    begin = time.monotonic()
    await home.action("meter_batch", "import_points", {"content": content, "dry_run": True})
    seen["dry_s"] = time.monotonic() - begin
    seen["dry"] = await mark(home)
    begin = time.monotonic()
    seen["import_at"] = begin
    await home.action("meter_batch", "import_points", {"content": content})
    seen["apply_s"] = time.monotonic() - begin
    await live(home, len(rows))
    seen["live_s"] = time.monotonic() - begin
    seen["apply"] = await mark(home)


async def live(home: Home, count: int) -> None:
    """Waits until so many meters show their power."""

    async def there() -> bool:
        states = await home.ask("get_states")
        powers = [
            one
            for one in states
            if one["attributes"].get("device_class") == "power" and "foreign" not in one["entity_id"]
        ]
        return sum(one["state"] not in ("unknown", "unavailable") for one in powers) >= count

    await wait_until(there, PATIENCE_S, f"values of {count} meters")


async def settled(home: Home, plan: dict[str, Any]) -> None:
    """Waits until the recorder has eaten the beginning: thousands of states and statistics."""
    await asyncio.sleep(plan["settle_s"])
    calm: list[bool] = []

    async def eaten() -> bool:
        calm.append((await mark(home))["backlog_max"] < MOST_BACKLOG)
        await asyncio.sleep(2)
        return len(calm) > 2 and all(calm[-3:])

    # Where it never does, that is what is measured.
    with contextlib.suppress(HomeError):
        await wait_until(eaten, SETTLED_S, "the recorder to catch up")


async def health(home: Home) -> dict[str, dict[str, int]]:
    """What the pollers counted, by line, as diagnostics tell it."""
    found = {}
    for entry in await home.ask("config_entries/get", domain="meter_batch"):
        told = await home.get(f"/api/diagnostics/config_entry/{entry['entry_id']}")
        found[entry["title"]] = told["data"]["health"]["counters"]
    return found


def size(folder: Path) -> dict[str, float]:
    """How large the databases are: when, and bytes of the recorder's and of the ledger's."""

    def of(path: Path) -> int:
        return sum(one.stat().st_size for one in path.parent.glob(path.name + "*"))

    return {
        "at": time.monotonic(),
        "recorder": of(folder / "home-assistant_v2.db"),
        "ledger": of(folder / ".storage" / "meter_batch.ledger.db"),
    }


def kill(plan: dict[str, Any], fault: str | None) -> float:
    """Gives the line that is to die a fault, or takes it away."""
    text = Path(plan["fleet"]).read_text(encoding="utf-8")
    head, _, _ = text.partition("# faults\n")
    tail = "" if fault is None else f'[[line.fault]]\nkind = "{fault}"\n'
    Path(plan["fleet"]).write_text(f"{head}# faults\n{tail}", encoding="utf-8")
    os.kill(plan["fleet_pid"], signal.SIGHUP)
    return time.monotonic()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))))
