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
        "power_hour": "Power, last hour",
        "biggest": "Largest loads",
        "name": "Meter",
        "voltage": "U (V)",
        "current": "I (A)",
        "active": "P (kW)",
        "reactive": "Q (kvar)",
        "factor": "PF",
        "energy": "Import (kWh)",
        "elsewhere": "No area",
        "since": "since {}",
        "hourly": "Energy by hour",
        "line_success_rate": "Success",
        "line": "Line",
        "line_cycle": "Cycle",
        "line_latency": "Reply",
        "line_silent": "Silent",
        "line_gaps": "With gaps",
        "line_backfill": "To read",
        "energy_today": "Today · {}",
        "energy_this_month": "Month · {}",
        "monthly": "Energy by month",
        "alarms": "Alarms",
        "alarms_critical": "Critical",
        "alarms_warning": "Warning",
        "alarms_info": "Notice",
        "alarms_unacknowledged": "Unacknowledged",
        "no_alarm": "No alarm.",
        "acknowledge": "Acknowledge all",
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
        "power_hour": "最近 1 小时功率",
        "biggest": "最大负荷",
        "name": "电表",
        "voltage": "U (V)",
        "current": "I (A)",
        "active": "P (kW)",
        "reactive": "Q (kvar)",
        "factor": "PF",
        "energy": "正向电能 (kWh)",
        "elsewhere": "未分区",
        "since": "自 {} 起",
        "hourly": "每小时电量",
        "line_success_rate": "成功率",
        "line": "线路",
        "line_cycle": "轮询周期",
        "line_latency": "应答延时",
        "line_silent": "无响应",
        "line_gaps": "有缺口",
        "line_backfill": "待补读",
        "energy_today": "今日 · {}",
        "energy_this_month": "本月 · {}",
        "monthly": "每月电量",
        "alarms": "告警",
        "alarms_critical": "严重",
        "alarms_warning": "警告",
        "alarms_info": "提示",
        "alarms_unacknowledged": "未确认",
        "no_alarm": "无告警。",
        "acknowledge": "全部确认",
    },
}

REASONS: dict[str, dict[str, str]] = {
    "en": {
        "silent": "does not answer",
        "damaged": "damaged replies",
        "refused": "refuses a register",
        "wrong_meter": "another meter answers",
        "implausible": "implausible value",
    },
    "zh-Hans": {
        "silent": "无应答",
        "damaged": "应答损坏",
        "refused": "拒绝读取",
        "wrong_meter": "其他电表应答",
        "implausible": "数值不合理",
    },
}

type Card = dict[str, Any]
type Fleet = list[dict[str, Any]]


def dashboards(
    fleet: Fleet, lines: list[dict[str, str]], site: dict[str, str], kinds: list[str], language: str
) -> list[tuple[str, str, str, Card]]:
    """Every dashboard as (address, title, icon, configuration)."""
    text = TEXTS[language]
    first = overview(fleet, lines, text, REASONS[language])
    first["sections"][1]["cards"][:0] = alarms(fleet, site, kinds, text)
    views = [first, table(fleet, text), curves(fleet, text)]
    return [("meter-batch", text["title"], "mdi:meter-electric", {"title": text["title"], "views": views})]


def overview(fleet: Fleet, lines: list[dict[str, str]], text: dict[str, str], reasons: dict[str, str]) -> Card:
    """What comes in, how the lines do, and which meters need somebody."""
    mains = [point for point in fleet if not point["parent"] and "active_power" in point["entities"]]
    supply = [heading(text["supply"], "mdi:transmission-tower")]
    supply += [tile(point["entities"]["active_power"], point["name"]) for point in mains[:6]]
    supply += [
        tile(point["entities"][key], text[key].format(point["name"]))
        for point in mains[:3]
        for key in ("energy_today", "energy_this_month")
        if key in point["entities"]
    ]
    supply.append(
        {
            "type": "history-graph",
            "title": text["power_hour"],
            "hours_to_show": 1,
            "entities": [{"entity": p["entities"]["active_power"], "name": p["name"]} for p in mains[:6]],
            "grid_options": {"columns": "full"},
        }
    )
    supply.append(
        {
            "type": "statistics-graph",
            "title": text["monthly"],
            "chart_type": "bar",
            "period": "month",
            "days_to_show": 365,
            "stat_types": ["change"],
            "entities": [{"entity": statistic(p, "energy_import"), "name": p["name"]} for p in mains[:6]],
            "grid_options": {"columns": "full"},
        }
    )
    keys = ("line_success_rate", "line_cycle", "line_latency", "line_silent", "line_gaps", "line_backfill")
    head = "| " + " | ".join(text[key] for key in ("line", *keys)) + " |\n|:--|" + "--:|" * len(keys) + "\n"
    rows = (
        f"| {line['name']} | "
        + " | ".join(
            f"{{{{ states('{line[key]}', rounded=True, with_unit=True) if has_value('{line[key]}') else '–' }}}}"
            for key in keys
        )
        + " |"
        for line in lines
        if all(key in line for key in keys)
    )
    health = [
        heading(text["lines"], "mdi:lan"),
        {"type": "markdown", "content": head + "\n".join(rows), "grid_options": {"columns": "full"}},
    ]
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
            + f"{{{{ {reasons!r}.get(state_attr(one.entity_id, 'reason'), one.state) }}}}"
            + f", {{{{ {text['since']!r}.format(one.last_changed | as_timestamp | timestamp_custom('%H:%M')) }}}}"
            + "{% endfor %}",
        },
    ]
    return {
        "type": "sections",
        "title": text["overview"],
        "path": "overview",
        "icon": "mdi:view-dashboard-outline",
        "max_columns": 2,
        "sections": [{"type": "grid", "cards": cards} for cards in (supply, attention + health)],
    }


def alarms(fleet: Fleet, site: dict[str, str], kinds: list[str], text: dict[str, str]) -> list[Card]:
    """How many alarms there are, which, and a button that says that somebody has seen them."""
    keys = [key for key in site if key.startswith("alarms_")]
    ordered = [key for key in text if key in keys]
    entities = [point["entities"]["alarm"] for point in fleet if "alarm" in point["entities"]]
    found = "{% set on = expand(" + repr(entities) + ") | selectattr('state', 'eq', 'on') | list %}"
    return [
        heading(text["alarms"], "mdi:bell-alert-outline"),
        *(tile(site[key], text[key]) for key in ordered),
        {
            "type": "markdown",
            "grid_options": {"columns": "full"},
            "content": found
            + "{% if not on %}"
            + text["no_alarm"]
            + "{% endif %}{% for one in on %}{% for alarm in state_attr(one.entity_id, 'alarms') %}\n- {{ alarm }}"
            + "{% endfor %}{% endfor %}",
        },
        {
            "type": "button",
            "name": text["acknowledge"],
            "show_icon": False,
            "show_state": False,
            "tap_action": {
                "action": "perform-action",
                "perform_action": "meter_batch.acknowledge_alarms",
                "data": {"kinds": kinds},
            },
            "grid_options": {"columns": 12, "rows": 1},
        },
    ]


def table(fleet: Fleet, text: dict[str, str]) -> Card:
    """Every meter with U, I, P and Q, by area: a wide table, and a narrow one for phones."""
    areas: dict[str, Fleet] = {}
    for point in (one for one in fleet if "active_power" in one["entities"]):
        areas.setdefault(point.get("area") or text["elsewhere"], []).append(point)
    wide = ["name", *(f"{text[q]} {p}" for q in ("voltage", "current") for p in ("L1", "L2", "L3"))]
    wide = [text["name"], *wide[1:], *(text[key] for key in ("active", "reactive", "factor", "energy"))]
    narrow = [text[key] for key in ("name", "voltage", "current", "active", "reactive")]
    sections = []
    for columns, row, media in (
        (wide, wide_row, "(min-width: 1000px)"),
        (narrow, narrow_row, "(max-width: 999px)"),
    ):
        head = "| " + " | ".join(columns) + " |\n|:--|" + "--:|" * (len(columns) - 1) + "\n"
        cards: list[Card] = []
        for area, points in areas.items():
            cards.append(heading(area, "mdi:map-marker-outline"))
            content = head + "\n".join(row(point) for point in points)
            cards.append({"type": "markdown", "content": content, "grid_options": {"columns": "full"}})
        visibility = [{"condition": "screen", "media_query": media}]
        sections.append({"type": "grid", "column_span": 3, "cards": cards, "visibility": visibility})
    return {
        "type": "sections",
        "title": text["table"],
        "path": "table",
        "icon": "mdi:table",
        "max_columns": 3,
        "sections": sections,
    }


def value(point: dict[str, Any], *keys: str, form: str = "") -> str:
    """The states of the first of the registers that has an entity, as a template; a dash where there is none."""
    entity = next((point["entities"][key] for key in keys if key in point["entities"]), None)
    if entity is None:
        return "–"
    shown = f"'{form}'.format(states('{entity}') | float)" if form else f"states('{entity}', rounded=True)"
    return f"{{{{ {shown} if has_value('{entity}') else '–' }}}}"


def short(point: dict[str, Any], *keys: str) -> str:
    """The same with as many decimals as a phone has room for: three below 10, one from there on."""
    entity = next((point["entities"][key] for key in keys if key in point["entities"]), None)
    if entity is None:
        return "–"
    shown = "{{ ('{:.3f}' if (N) | abs < 10 else '{:.1f}').format(N) if has_value('E') else '–' }}"
    return shown.replace("N", f"states('{entity}') | float").replace("'E'", f"'{entity}'")


def phases(point: dict[str, Any], quantity: str) -> list[str]:
    """The three phases of a quantity; a single-phase meter has the first alone."""
    first = value(point, f"{quantity}_l1", quantity)
    return [first, *(value(point, f"{quantity}_l{phase}") for phase in (2, 3))]


def wide_row(point: dict[str, Any]) -> str:
    """One line of the wide table."""
    cells = [
        *phases(point, "voltage"),
        *phases(point, "current"),
        value(point, "active_power"),
        value(point, "reactive_power"),
        value(point, "power_factor"),
        value(point, "energy_import", "energy_gross", form="{:,.2f}"),
    ]
    return f"| {point['name']} | " + " | ".join(cells) + " |"


def narrow_row(point: dict[str, Any]) -> str:
    """One line of the narrow table: the phases of a quantity below one another."""

    def stacked(quantity: str) -> str:
        keys = (f"{quantity}_l1", quantity), (f"{quantity}_l2",), (f"{quantity}_l3",)
        return "<br>".join(cell for cell in (short(point, *names) for names in keys) if cell != "–") or "–"

    cells = [stacked("voltage"), stacked("current"), short(point, "active_power"), short(point, "reactive_power")]
    return f"| {point['name']} | " + " | ".join(cells) + " |"


def curves(fleet: Fleet, text: dict[str, str]) -> Card:
    """Power of every area's meters as curves, energy by hour as bars."""
    sections = []
    for area in dict.fromkeys(point.get("area") or text["elsewhere"] for point in fleet):
        here = [p for p in fleet if (p.get("area") or text["elsewhere"]) == area and "active_power" in p["entities"]]
        curve = {
            "type": "history-graph",
            "title": area,
            "hours_to_show": 1,
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
            "entities": [{"entity": statistic(p, "energy_import"), "name": p["name"]} for p in here[:8]],
            "grid_options": {"columns": "full"},
        }
        sections.append({"type": "grid", "cards": [curve, bars]})
    return {
        "type": "sections",
        "title": text["curves"],
        "path": "curves",
        "icon": "mdi:chart-line",
        "max_columns": 2,
        "sections": sections,
    }


def statistic(point: dict[str, Any], register: str) -> str:
    """The long-term statistic of a register of a point."""
    return f"meter_batch:{point['id']}_{register}"


def heading(text: str, icon: str) -> Card:
    """The title of a section."""
    return {"type": "heading", "heading": text, "icon": icon}


def tile(entity: str, name: str | None = None) -> Card:
    """One value."""
    return {"type": "tile", "entity": entity, **({"name": name} if name else {})}
