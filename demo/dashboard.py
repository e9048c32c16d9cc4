"""The demo's dashboard: an overview, every meter in one table, curves. Home Assistant's own cards only."""

from __future__ import annotations

from typing import Any

TEXTS: dict[str, dict[str, str]] = {
    "en": {
        "site": "Demo site",
        "title": "Meters",
        "overview": "Overview",
        "table": "All meters",
        "curves": "Curves",
        "supply": "Supply",
        "lines": "Lines",
        "attention": "Needs attention",
        "all_well": "Every meter answers.",
        "power_day": "Power, last 6 hours",
        "biggest": "Largest loads",
        "name": "Meter",
        "voltage": "U (V)",
        "current": "I (A)",
        "active": "P (kW)",
        "reactive": "Q (kvar)",
        "factor": "PF",
        "energy": "Import (kWh)",
        "elsewhere": "No area",
        "hourly": "Energy by hour",
    },
    "zh-Hans": {
        "site": "演示园区",
        "title": "电表",
        "overview": "总览",
        "table": "全部电表",
        "curves": "曲线",
        "supply": "进线",
        "lines": "线路",
        "attention": "需要处理",
        "all_well": "所有电表均正常应答。",
        "power_day": "最近 6 小时功率",
        "biggest": "最大负荷",
        "name": "电表",
        "voltage": "U (V)",
        "current": "I (A)",
        "active": "P (kW)",
        "reactive": "Q (kvar)",
        "factor": "PF",
        "energy": "正向电能 (kWh)",
        "elsewhere": "未分区",
        "hourly": "每小时电量",
    },
}

type Card = dict[str, Any]
type Fleet = list[dict[str, Any]]


def dashboards(fleet: Fleet, lines: list[dict[str, str]], language: str) -> list[tuple[str, str, str, Card]]:
    """Every dashboard as (address, title, icon, configuration)."""
    text = TEXTS[language]
    views = [overview(fleet, lines, text), table(fleet, text), curves(fleet, text)]
    return [("meter-batch", text["title"], "mdi:meter-electric", {"title": text["title"], "views": views})]


def overview(fleet: Fleet, lines: list[dict[str, str]], text: dict[str, str]) -> Card:
    """What comes in, how the lines do, and which meters need somebody."""
    mains = [point for point in fleet if not point["parent"] and "active_power" in point["entities"]]
    supply = [heading(text["supply"], "mdi:transmission-tower")]
    supply += [tile(point["entities"]["active_power"], point["name"]) for point in mains[:6]]
    supply.append(
        {
            "type": "history-graph",
            "title": text["power_day"],
            "hours_to_show": 6,
            "entities": [{"entity": p["entities"]["active_power"], "name": p["name"]} for p in mains[:6]],
            "grid_options": {"columns": "full"},
        }
    )
    health = [heading(text["lines"], "mdi:lan")]
    for line in lines:
        keys = ("success_rate", "cycle_time", "silent_meters")
        entities = [{"entity": line[key], "name": name} for key in keys if key in line for name in [None]]
        health.append(
            {"type": "heading", "heading": line["name"], "heading_style": "subtitle", "icon": "mdi:cable-data"}
        )
        health += [tile(str(one["entity"])) for one in entities]
    problems = [point["entities"]["problem"] for point in fleet if "problem" in point["entities"]]
    conditions = "{% set bad = expand(" + repr(problems) + ") | selectattr('state', 'ne', 'off') | list %}"
    attention = [
        heading(text["attention"], "mdi:alert-circle-outline"),
        {
            "type": "markdown",
            "grid_options": {"columns": "full"},
            "content": conditions
            + "{% if not bad %}"
            + text["all_well"]
            + "{% endif %}{% for one in bad %}\n- **{{ device_name(one.entity_id) }}**: "
            + "{{ state_attr(one.entity_id, 'reason') or one.state }}{% endfor %}",
        },
    ]
    return {
        "type": "sections",
        "title": text["overview"],
        "path": "overview",
        "icon": "mdi:view-dashboard-outline",
        "max_columns": 3,
        "sections": [{"type": "grid", "cards": cards} for cards in (supply, health, attention)],
    }


def table(fleet: Fleet, text: dict[str, str]) -> Card:
    """Every meter with voltage, current, active and reactive power, by area."""
    columns = ("name", "voltage", "current", "active", "reactive", "factor", "energy")
    head = "| " + " | ".join(text[column] for column in columns) + " |\n|:--|" + "--:|" * (len(columns) - 1) + "\n"
    areas: dict[str, list[str]] = {}
    for point in fleet:
        areas.setdefault(point.get("area") or text["elsewhere"], []).append(row(point))
    cards = [
        {"type": "markdown", "title": area, "content": head + "\n".join(rows), "grid_options": {"columns": "full"}}
        for area, rows in areas.items()
    ]
    return {
        "type": "sections",
        "title": text["table"],
        "path": "table",
        "icon": "mdi:table",
        "max_columns": 2,
        "sections": [{"type": "grid", "column_span": 1, "cards": [card]} for card in cards],
    }


def row(point: dict[str, Any]) -> str:
    """One line of the table: the phases of a three-phase meter stand side by side."""
    entities = point["entities"]

    def value(*keys: str) -> str:
        found = [entities[key] for key in keys if key in entities]
        if not found:
            return "–"
        return " / ".join(f"{{{{ states('{one}', rounded=True) if has_value('{one}') else '–' }}}}" for one in found)

    phases = ("l1", "l2", "l3")
    cells = (
        value(*(f"voltage_{phase}" for phase in phases)) if "voltage_l1" in entities else value("voltage"),
        value(*(f"current_{phase}" for phase in phases)) if "current_l1" in entities else value("current"),
        value("active_power"),
        value("reactive_power"),
        value("power_factor"),
        value("energy_import"),
    )
    return f"| {point['name']} | " + " | ".join(cells) + " |"


def curves(fleet: Fleet, text: dict[str, str]) -> Card:
    """Power of every area's meters as curves, energy by hour as bars."""
    sections = []
    for area in dict.fromkeys(point.get("area") or text["elsewhere"] for point in fleet):
        here = [p for p in fleet if (p.get("area") or text["elsewhere"]) == area and "active_power" in p["entities"]]
        curve = {
            "type": "history-graph",
            "title": area,
            "hours_to_show": 6,
            "entities": [{"entity": p["entities"]["active_power"], "name": p["name"]} for p in here[:8]],
            "grid_options": {"columns": "full"},
        }
        bars = {
            "type": "statistics-graph",
            "title": text["hourly"],
            "chart_type": "bar",
            "period": "hour",
            "days_to_show": 1,
            "stat_types": ["change"],
            "entities": [{"entity": p["statistics"]["energy_import"], "name": p["name"]} for p in here[:8]
                         if "energy_import" in p.get("statistics", {})],
            "grid_options": {"columns": "full"},
        }  # fmt: skip
        sections.append({"type": "grid", "cards": [curve, *([bars] if bars["entities"] else [])]})
    return {
        "type": "sections",
        "title": text["curves"],
        "path": "curves",
        "icon": "mdi:chart-line",
        "max_columns": 2,
        "sections": sections,
    }


def heading(text: str, icon: str) -> Card:
    """The title of a section."""
    return {"type": "heading", "heading": text, "icon": icon}


def tile(entity: str, name: str | None = None) -> Card:
    """One value."""
    return {"type": "tile", "entity": entity, **({"name": name} if name else {})}
