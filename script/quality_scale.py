"""What a machine can see of Home Assistant's rules of quality: `script/validate.py` asks for those that are done.

The rest of the rules is shown by tests (tests/integration/test_rules.py and others) or judged by people.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "custom_components" / "meter_batch"
MANUAL = ROOT / "docs" / "manual"

PAGES = {
    "docs-triggers": ("alarms", "Triggers"),
    "docs-high-level-description": ("index", "What it is"),
    "docs-installation-instructions": ("installation", "Install with HACS"),
    "docs-removal-instructions": ("installation", "Remove"),
    "docs-configuration-parameters": ("lines", "Options of a line"),
    "docs-installation-parameters": ("lines", "Add a line"),
    "docs-data-update": ("data-update", "Three groups"),
    "docs-examples": ("actions", "Automations"),
    "docs-known-limitations": ("index", "Known limitations"),
    "docs-supported-devices": ("supported-devices", "Models"),
    "docs-supported-functions": ("entities-and-energy", "Entities of a point"),
    "docs-troubleshooting": ("troubleshooting", "Where to look"),
    "docs-use-cases": ("index", "What you can do with it"),
}
"""The page of the manual and the heading under which a rule's text stands."""
FUNCTIONS = {
    "action-setup": ("__init__", "async_setup"),
    "config-flow": ("config_flow", "async_step_user"),
    "config-entry-unloading": ("__init__", "async_unload_entry"),
    "diagnostics": ("diagnostics", "async_get_config_entry_diagnostics"),
    "discovery": ("gateway_steps", "async_step_dhcp"),
    "reauthentication-flow": ("analytics_flow", "async_step_reauth"),
    "reconfiguration-flow": ("config_flow", "async_step_reconfigure"),
    "repair-issues": ("repairs", "async_create_fix_flow"),
    "stale-devices": ("__init__", "async_remove_config_entry_device"),
}
"""The module and the function that a rule asks for."""
CONTAINS = {
    "common-modules": ("entity", "CoordinatorEntity["),
    "entity-event-setup": ("event", "async def async_added_to_hass"),
    "has-entity-name": ("entity", "_attr_has_entity_name = True"),
    "runtime-data": ("__init__", "entry.runtime_data = "),
    "test-before-configure": ("line_test", "try_line("),
    "test-before-setup": ("coordinator", "raise ConfigEntryNotReady("),
    "unique-config-entry": ("config_flow", "async_set_unique_id("),
}
"""The module and what stands in it."""
HA_ERRORS = {
    "HomeAssistantError", "ServiceValidationError", "ConfigEntryNotReady", "ConfigEntryAuthFailed", "UpdateFailed",
}  # fmt: skip


def problems() -> Iterator[str]:
    """What is wrong with rules that quality_scale.yaml says are done."""
    rules = yaml.safe_load((HERE / "quality_scale.yaml").read_text(encoding="utf-8"))["rules"]
    for rule in sorted(rule for rule in rules if _status(rules[rule]) == "done"):
        for problem in _of(rule):
            yield f"quality scale, {rule}: {problem}"
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    todo = sorted(rule for rule in rules if _status(rules[rule]) == "todo")
    if manifest["quality_scale"] == "platinum" and todo:
        yield f"manifest.json says platinum, but to do are {', '.join(todo)}"


def _status(said: str | dict[str, str]) -> str:
    return said if isinstance(said, str) else said["status"]


def _of(rule: str) -> Iterator[str]:
    if rule in PAGES:
        yield from _page(*PAGES[rule])
    if rule in FUNCTIONS:
        module, name = FUNCTIONS[rule]
        if not re.search(rf"^\s*(async )?def {name}\(", _text(module), re.M):
            yield f"{module}.py has no {name}"
    if rule in CONTAINS:
        module, text = CONTAINS[rule]
        if text not in _text(module):
            yield f"{module}.py has no {text}"
    if rule in CHECKS:
        yield from CHECKS[rule]()


def _text(module: str) -> str:
    path = HERE / f"{module}.py"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(HERE.glob("*.py")):
        yield path.name, ast.parse(path.read_text(encoding="utf-8"))


def _page(page: str, heading: str) -> Iterator[str]:
    english, chinese = (MANUAL / language / f"{page}.md" for language in ("en", "zh-Hans"))
    if not english.exists() or f"\n## {heading}\n" not in english.read_text(encoding="utf-8"):
        yield f"{english.relative_to(ROOT)} has no heading {heading}"
        return
    counts = [len(re.findall(r"^## ", one.read_text(encoding="utf-8"), re.M)) for one in (english, chinese)]
    if counts[0] != counts[1]:
        yield f"{page}.md has {counts[0]} sections in English and {counts[1]} in Chinese"


def _actions_in_manual() -> Iterator[str]:
    names = yaml.safe_load((HERE / "services.yaml").read_text(encoding="utf-8"))
    for language in ("en", "zh-Hans"):
        text = "\n".join(one.read_text(encoding="utf-8") for one in (MANUAL / language).glob("*.md"))
        for name in names:
            if not re.search(rf"^#+ .*\b{name}\b|meter_batch\.{name}\b", text, re.M):
                yield f"{name} is not in the manual ({language})"


def _parallel_updates() -> Iterator[str]:
    for platform in ("binary_sensor", "event", "sensor"):
        if not re.search(r"^PARALLEL_UPDATES = \d", _text(platform), re.M):
            yield f"{platform}.py says no PARALLEL_UPDATES"


def _translated_exceptions() -> Iterator[str]:
    for name, tree in _modules():
        for node in ast.walk(tree):
            call = node.exc if isinstance(node, ast.Raise) else None
            if not isinstance(call, ast.Call) or getattr(call.func, "id", "") not in HA_ERRORS:
                continue
            if not any(one.arg == "translation_key" for one in call.keywords):
                yield f"{name}, line {node.lineno}: raised without a translation key"


def _websession() -> Iterator[str]:
    for name, tree in _modules():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "attr", getattr(node.func, "id", "")) == "ClientSession"
            ):
                yield f"{name}, line {node.lineno}: makes a session of its own"


def _typing() -> Iterator[str]:
    if not (HERE / "py.typed").exists():
        yield "py.typed is missing"
    if not tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"].get("strict"):
        yield "mypy is not strict"
    for name, _ in _modules():
        text = (HERE / name).read_text(encoding="utf-8")
        if re.search(r"# type: ignore(?!\[)|# mypy:", text):
            yield f"{name}: an error of types is ignored without saying which"


def _coverage() -> Iterator[str]:
    gate = re.search(r"--cov-fail-under=(\d+)", (ROOT / "script" / "test").read_text(encoding="utf-8"))
    if gate is None or int(gate[1]) < 95:
        yield "script/test does not ask for 95 % of the integration"


def _brand() -> Iterator[str]:
    if not (HERE / "brand" / "icon.png").exists():
        yield "brand/icon.png is missing"


def _conditions() -> Iterator[str]:
    if (HERE / "condition.py").exists():
        yield "there are conditions now: document them"


CHECKS: dict[str, Callable[[], Iterator[str]]] = {
    "brands": _brand,
    "docs-actions": _actions_in_manual,
    "docs-conditions": _conditions,
    "exception-translations": _translated_exceptions,
    "inject-websession": _websession,
    "parallel-updates": _parallel_updates,
    "strict-typing": _typing,
    "test-coverage": _coverage,
}
