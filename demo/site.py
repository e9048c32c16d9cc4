"""Sets the site up as its owner would: lines by the config flow, points by the import, dashboards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .dashboard import TEXTS, dashboards, statistic
from .home import Home, wait_until

POLLING = {"fast_s": 10, "slow_s": 300, "interval_min": "1"}
"""Options of a line. Energies every minute: nobody waits a quarter of an hour in front of a demo."""
YEAR = timedelta(days=364)


async def set_up(home: Home, lines: list[dict[str, Any]], points: Path, language: str, *, standard: bool) -> None:
    """Everything a first-time user does by hand, through the same doors."""
    text = TEXTS[language]
    await home.ask(
        "config/core/update",
        location_name=text["site"],
        language=language,
        country="CN",
        currency="CNY",
        time_zone="Asia/Shanghai",  # as the clocks of the virtual meters
    )
    settings = POLLING | ({"detail": "standard"} if standard else {})
    for line in lines:
        entry = (await home.flow("meter_batch", *flow_steps(line)))["result"]["entry_id"]
        await home.options(entry, {"next_step_id": "settings"}, settings)
    content = points.read_text(encoding="utf-8")
    await home.action("meter_batch", "import_points", {"content": content})
    await _wait_for_entities(home)
    kinds = sorted((await home.action("meter_batch", "list_alarm_rules", {}))["rules"])
    made = dashboards(await fleet(home), await line_entities(home), await site_entities(home), kinds, language)
    for url_path, title, icon, config in made:
        await home.ask(
            "lovelace/dashboards/create", url_path=url_path, title=title, icon=icon, mode="storage",
            show_in_sidebar=True, require_admin=False,
        )  # fmt: skip
        await home.ask("lovelace/config/save", url_path=url_path, config=config)
    await home.ask("frontend/set_system_data", key="core", value={"default_panel": "meter-batch"})
    suns = {meter["name"] for line in lines for meter in line["meter"] if meter.get("load") == "pv"}
    await home.ask("energy/save_prefs", **energy_preferences(await fleet(home), suns))


async def _wait_for_entities(home: Home) -> None:
    """Home Assistant adds entities in the background: waits until every point has them and none comes any more."""
    counts: list[int] = []

    async def settled() -> bool:
        points = await fleet(home)
        counts.append(sum(len(point["entities"]) for point in points))
        return all(point["entities"] for point in points) and len(counts) > 8 and len(set(counts[-8:])) == 1

    await wait_until(settled, 60, "the entities of every point")


def flow_steps(line: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers to the config flow of one line of the fleet file."""
    scheme, _, address = line["listen"].partition("://" if "://" in line["listen"] else ":")
    protocol = line["protocol"]
    if scheme == "pty":
        first = {"name": line["name"], "serial_port": address, "protocol": protocol}
        kind = "serial"
    else:
        host, _, port = address.rpartition(":")
        first = {"name": line["name"], "host": host, "port": int(port), "protocol": protocol}
        kind = "tcp"
    wire = {
        "baud": str(line.get("baud", 9600)),
        "parity": {"N": "none", "E": "even", "O": "odd"}[line.get("parity", "N")],
        "stop_bits": str(line.get("stop_bits", 1)),
    }
    steps: list[dict[str, Any]] = [{"next_step_id": kind}, first]
    if protocol != "modbus-tcp":
        steps.append(wire)
    return [*steps, {}]


async def fleet(home: Home) -> list[dict[str, Any]]:
    """Every point with its `id`, `name`, `area`, `parent` and its `entities` by register key."""
    entities: dict[str, dict[str, str]] = {}
    for entry in await home.ask("config/entity_registry/list"):
        if entry["platform"] == "meter_batch" and not entry["disabled_by"]:
            point, _, key = entry["unique_id"].partition("_")
            entities.setdefault(point, {})[key] = entry["entity_id"]
    listed: dict[str, dict[str, Any]] = (await home.ask("meter_batch/points/list"))["points"]
    return [point | {"id": id_, "entities": entities.get(id_, {})} for id_, point in listed.items()]


async def line_entities(home: Home) -> list[dict[str, str]]:
    """Every line with its `name` and the entities of its health by key."""
    entries = await home.ask("config_entries/get", domain="meter_batch")
    lines = {entry["entry_id"]: {"name": entry["title"]} for entry in entries}
    for entry in await home.ask("config/entity_registry/list"):
        owner, _, key = entry["unique_id"].partition("_")
        if entry["platform"] == "meter_batch" and owner in lines:
            lines[owner][key] = entry["entity_id"]
    return list(lines.values())


async def site_entities(home: Home) -> dict[str, str]:
    """The entities of the whole site by key, such as `alarms_critical`."""
    start = "meter_batch_site_"
    return {
        entry["unique_id"].removeprefix(start): entry["entity_id"]
        for entry in await home.ask("config/entity_registry/list")
        if entry["platform"] == "meter_batch" and entry["unique_id"].startswith(start)
    }


async def live_points(home: Home) -> int:
    """How many points have a value of their import energy now."""
    states = {state["entity_id"]: state["state"] for state in await home.ask("get_states")}
    energies = [
        point["entities"].get("energy_import") or point["entities"].get("active_power") for point in await fleet(home)
    ]
    return sum(1 for entity in energies if states.get(entity or "") not in (None, "unknown", "unavailable"))


def has_no_wire(line: dict[str, Any]) -> bool:
    """True for lines of the fleet file whose meters' year can be read at once."""
    return bool(line["protocol"] == "modbus-tcp")


async def outstanding(home: Home, lines: list[dict[str, Any]]) -> int | None:
    """How many intervals of the year the lines without wire time still have to read; None when it is complete.

    Complete is what the history says: a whole day of a year ago is known of every meter that answers.
    """
    names = [line["name"] for line in lines if has_no_wire(line)]
    dead = {meter["name"] for line in lines for meter in line["meter"] if _is_dead(meter)}
    day = (datetime.now(UTC) - YEAR).replace(hour=0, minute=0, second=0, microsecond=0)
    answer = await home.action(
        "meter_batch",
        "get_history",
        {
            "lines": names,
            "since": day.isoformat(),
            "until": (day + timedelta(days=1)).isoformat(),
            "resolution": "day",
            "time_zone": "UTC",
            "quantities": ["energy_import"],
        },
    )
    rows = {one["name"]: one["rows"] for one in answer["points"].values() if one["name"] not in dead}
    if all(found and found[0]["completeness"] == 1 for found in rows.values()):
        return None
    entities = [line["line_backfill"] for line in await line_entities(home) if line["name"] in names]
    states = {state["entity_id"]: state["state"] for state in await home.ask("get_states")}
    return sum(int(float(states[entity])) for entity in entities if states.get(entity, "unknown")[0].isdecimal())


def _is_dead(meter: dict[str, Any]) -> bool:
    return any(fault["kind"] == "silent" for fault in meter.get("faults", ()))


def energy_preferences(points: list[dict[str, Any]], suns: set[str]) -> dict[str, Any]:
    """The Energy dashboard: what has no parent is the grid, what exports by day the sun, what has a parent a device."""
    mains = [point for point in points if not point["parent"] and any(p["parent"] == point["id"] for p in points)]
    grid = [
        {
            "type": "grid",
            "stat_energy_from": statistic(point, "energy_import"),
            "stat_energy_to": statistic(point, "energy_export"),
            "stat_cost": None,
            "entity_energy_price": None,
            "number_energy_price": None,
            "stat_compensation": None,
            "entity_energy_price_export": None,
            "number_energy_price_export": None,
            "cost_adjustment_day": 0,
            "name": point["name"],
        }
        for point in mains
    ]
    solar = [
        {"type": "solar", "stat_energy_from": statistic(point, "energy_export"), "name": point["name"]}
        for point in points
        if point["name"] in suns
    ]
    devices = [
        {"stat_consumption": statistic(point, "energy_import"), "name": point["name"]}
        for point in points
        if point["parent"] and point["name"] not in suns
    ]
    return {"energy_sources": [*grid, *solar], "device_consumption": devices}
