"""What the manual says of alarms and of the apps is what the rules say, and what the screens say."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MANUAL = ROOT / "docs" / "manual"
INTEGRATION = ROOT / "custom_components" / "meter_batch"
ANALYTICS = ROOT / "analytics" / "meter_batch_analytics"
SHOWN = (
    "points period view view_curve view_map view_bars view_duration quantity resolution resolution_auto by compare "
    "rows energy_total peak load_factor night_share completeness view_trend view_calendar view_profile ranking "
    "growth mean_day weekend holiday_use strongest_month only show points_complete missing_days open_gaps "
    "longest_gap estimates edits doubts verdict_grows verdict_shrinks verdict_unsure verdict_short"
)
"""Controls and figures of the apps, by the keys of their words."""


def read_toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def seconds(cell: str) -> int:
    """A delay as the table has it: "1 min", "2 hours in a row", "30 s", "–"."""
    number = re.search(r"\d+", cell)
    unit = 60 if "min" in cell else 1 if re.search(r"\d s\b", cell) else 3600
    return int(number[0]) * unit if number else 0


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_the_list_of_alarms_is_that_of_the_rules(language: str) -> None:
    """Where this fails: change the row, in both languages."""
    rules = read_toml(INTEGRATION / "engine" / "rule" / "rules.toml")
    texts = json.loads((INTEGRATION / "translations" / f"{language}.json").read_text(encoding="utf-8"))
    severities = texts["selector"]["severity"]["options"]
    page = (MANUAL / language / "alarms.md").read_text(encoding="utf-8").split("\n## ")[1]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in page.splitlines()]
    listed = {row[0].strip("`"): row for row in cells if len(row) == 6 and row[0].startswith("`")}
    assert {kind: (seconds(row[2]), seconds(row[4]), row[5].casefold()) for kind, row in listed.items()} == {
        kind: (rule.get("on_delay_s", 0), rule.get("off_delay_s", 0), severities[rule["severity"]].casefold())
        for kind, rule in rules.items()
    }


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_controls_and_figures_of_the_apps_are_called_what_the_screen_calls_them(language: str) -> None:
    page = (MANUAL / language / "analytics.md").read_text(encoding="utf-8")
    words = read_toml(ANALYTICS / "apps" / "words.toml")
    assert [key for key in SHOWN.split() if f"*{words[key][language]}*" not in page] == []
    for app in read_toml(ANALYTICS / "server" / "apps.toml").values():
        assert f"\n## {app[language]}\n" in page
