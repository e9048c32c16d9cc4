"""An alarm has one name in each language, wherever it is named: sentences, choices, blueprints, reports."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from custom_components.meter_batch.engine import load_rules

ROOT = Path(__file__).parents[2]
PART = ROOT / "custom_components" / "meter_batch"
KINDS = frozenset(load_rules().rules)
SEVERITIES = frozenset({"critical", "warning", "info"})
BLUEPRINTS = {"en": "alarm_notification.yaml", "zh-Hans": "alarm_notification_zh-Hans.yaml"}


def tables(data: Any, keys: frozenset[str]) -> Iterator[dict[str, str]]:
    """Every table of translations that names all of these."""
    if isinstance(data, dict):
        if keys <= data.keys() and isinstance(data["info" if "info" in keys else "overload"], str):
            yield {key: data[key] for key in keys}
        for one in data.values():
            yield from tables(one, keys)


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_each_kind_and_severity_has_one_name(language: str) -> None:
    texts = json.loads((PART / "translations" / f"{language}.json").read_text(encoding="utf-8"))
    report = tomllib.loads(
        (ROOT / "analytics" / "meter_batch_analytics" / "report" / "words.toml").read_text(encoding="utf-8")
    )
    blueprint = (PART / "blueprints" / "automation" / "meter_batch" / BLUEPRINTS[language]).read_text(encoding="utf-8")

    kinds = list(tables(texts, KINDS))
    assert len(kinds) > 3  # the events, and the choice
    for kind in KINDS:
        label = re.search(rf"value: {kind}, label: (.+?) }}", blueprint)
        assert label is not None, kind
        names = {
            *(one[kind] for one in kinds),
            capital(texts["exceptions"][f"engine_kind_{kind}"]["message"]),
            report[f"alarm_{kind}"][language],
            label[1],
        }
        assert len(names) == 1, names

    least = texts["selector"]["severity_at_least"]["options"]  # there the last one is called "all"
    severities = [one for one in tables(texts, SEVERITIES) if one != least]
    for severity in SEVERITIES:
        label = re.search(rf"value: {severity}\n +label: (.+)", blueprint)
        names = {*(one[severity] for one in severities), report[f"severity_{severity}"][language]}
        assert label is not None and names == {label[1]}
