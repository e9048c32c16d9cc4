"""Checks what Home Assistant's hassfest and HACS ask of a custom integration, offline: `script/check` runs it.

Manifest keys and order, imported components among the dependencies, requirements that Home Assistant's own constraints
allow and the lock holds, languages with the same keys and placeholders, actions and triggers described in every file,
exception keys that exist, all 54 rules of the quality scale, hacs.json, the brand icon.
"""

from __future__ import annotations

import ast
import json
import re
import struct
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from quality_scale import problems as rules_problems

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "custom_components" / "meter_batch"

RULES = """
action-setup appropriate-polling brands common-modules config-flow config-flow-test-coverage dependency-transparency
docs-actions docs-conditions docs-triggers docs-high-level-description docs-installation-instructions
docs-removal-instructions entity-event-setup entity-unique-id has-entity-name runtime-data test-before-configure
test-before-setup unique-config-entry action-exceptions config-entry-unloading docs-configuration-parameters
docs-installation-parameters entity-unavailable integration-owner log-when-unavailable parallel-updates
reauthentication-flow test-coverage devices diagnostics discovery discovery-update-info docs-data-update docs-examples
docs-known-limitations docs-supported-devices docs-supported-functions docs-troubleshooting docs-use-cases
dynamic-devices entity-category entity-device-class entity-disabled-by-default entity-translations
exception-translations icon-translations reconfiguration-flow repair-issues stale-devices async-dependency
inject-websession strict-typing
""".split()
MANIFEST_KEYS = {
    "domain", "name", "after_dependencies", "codeowners", "config_flow", "dependencies", "documentation",
    "import_executor", "integration_type", "iot_class", "issue_tracker", "loggers", "quality_scale", "requirements",
    "single_config_entry", "usb", "version", "zeroconf", "dhcp", "ssdp",
}  # fmt: skip
HACS_KEYS = {
    "name", "content_in_root", "country", "filename", "hacs", "hide_default_branch", "homeassistant",
    "persistent_directory", "render_readme", "zip_release",
}  # fmt: skip
# Components that Home Assistant always loads, so an integration need not name them.
ALWAYS = {"sensor", "binary_sensor", "event", "update", "number", "select", "switch", "button", "diagnostics",
          "repairs", "system_health", "homeassistant", "persistent_notification", "logbook"}  # fmt: skip

problems: list[str] = []


def check(condition: object, message: str) -> None:
    """Notes a problem unless the condition holds."""
    if not condition:
        problems.append(message)


def flat(tree: Any, prefix: str = "") -> dict[str, str]:
    """A tree of translations as dotted keys."""
    if not isinstance(tree, dict):
        return {prefix: str(tree)}
    found: dict[str, str] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def manifest() -> None:
    """Keys, their order, addresses and requirements of manifest.json."""
    data = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    keys = list(data)
    check(
        keys == ["domain", "name", *sorted(set(keys) - {"domain", "name"})],
        "manifest.json: domain, name, then the rest sorted",
    )
    check(not set(keys) - MANIFEST_KEYS, f"manifest.json: unknown keys {sorted(set(keys) - MANIFEST_KEYS)}")
    for key in (
        "domain",
        "name",
        "codeowners",
        "documentation",
        "issue_tracker",
        "iot_class",
        "version",
        "integration_type",
    ):
        check(data.get(key), f"manifest.json: {key} is missing")
    for key in ("documentation", "issue_tracker"):
        check(str(data.get(key, "")).startswith("https://"), f"manifest.json: {key} must be an https address")
    check(re.fullmatch(r"\d+\.\d+\.\d+", data.get("version", "")), "manifest.json: version must be like 1.2.3")
    check(all(owner.startswith("@") for owner in data.get("codeowners", [])), "manifest.json: codeowners begin with @")
    named = {*data.get("dependencies", ()), *data.get("after_dependencies", ())}
    for component, where in imported_components():
        check(component in named | ALWAYS, f"{where}: imports {component}, which manifest.json does not name")
    spec = find_spec("homeassistant")
    assert spec and spec.origin
    constraints = (Path(spec.origin).parent / "package_constraints.txt").read_text(encoding="utf-8").lower()
    lock = (ROOT / "requirements" / "ha.txt").read_text(encoding="utf-8").lower()
    for requirement in data.get("requirements", ()):
        name = re.split(r"[=<>!~\[]", requirement)[0].lower()
        pinned = re.search(rf"^{re.escape(name)}==(\S+)", constraints, re.M)
        exact = re.search(r"==(\S+)", requirement)
        if pinned and exact:
            check(
                pinned[1] == exact[1],
                f"manifest.json: {requirement}, but Home Assistant constrains {name}=={pinned[1]}",
            )
        check(
            re.search(rf"^{re.escape(name)}==", lock, re.M),
            f"requirements/ha.txt lacks {name}, which manifest.json requires",
        )


def imported_components() -> list[tuple[str, str]]:
    """Every Home Assistant component imported by the integration, with the file that does it."""
    found = []
    for path in HERE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                if node.module == "homeassistant.components":
                    names = [alias.name for alias in node.names]
                elif node.module.startswith("homeassistant.components."):
                    names = [node.module.split(".")[2]]
            elif isinstance(node, ast.Import):
                names = [a.name.split(".")[2] for a in node.names if a.name.startswith("homeassistant.components.")]
            found += [(name, str(path.relative_to(ROOT))) for name in names]
    return found


def translations() -> None:
    """Both languages have the same keys and placeholders; no markup, no addresses."""
    english = flat(json.loads((HERE / "translations" / "en.json").read_text(encoding="utf-8")))
    for path in sorted((HERE / "translations").glob("*.json")):
        other = flat(json.loads(path.read_text(encoding="utf-8")))
        problems.extend(
            f"translations: {key} is in {'en' if key in english else path.stem} only"
            for key in sorted(english.keys() ^ other.keys())
        )
        for key in english.keys() & other.keys():
            marks = [sorted(re.findall(r"{(\w+)}", text[key])) for text in (english, other)]
            check(marks[0] == marks[1], f"{path.name}: {key} has placeholders {marks[1]}, English has {marks[0]}")
            check(other[key].strip(), f"{path.name}: {key} is empty")
            check(not re.search(r"<\w+[^>]*>|https?://", other[key]), f"{path.name}: {key} holds markup or an address")
            check(not re.search(r"'{\w+}'", other[key]), f"{path.name}: {key} has a placeholder in single quotes")
            same = other[key] == english[key] and re.search("[A-Za-z]{4,}", re.sub(r"{\w+}", "", english[key]))
            known = r"Modbus|DL/T|RS-485|Meter Batch|CSV|COM|TCP"
            check(
                path.stem == "en" or not same or re.search(known, english[key]), f"{path.name}: {key} is not translated"
            )
    sources = "\n".join(path.read_text(encoding="utf-8") for path in HERE.glob("*.py"))
    for match in re.finditer(r"async_create_issue\((?:[^()]|\([^()]*\))*?translation_key=\"(\w+)\"", sources):
        check(
            any(one.startswith(f"issues.{match[1]}.") for one in english), f"translations: issue {match[1]} is missing"
        )
    raised = {
        keyword.value.value
        for path in HERE.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "").endswith(("Error", "Failed", "NotReady", "Validation"))
        for keyword in node.keywords
        if keyword.arg == "translation_key" and isinstance(keyword.value, ast.Constant)
    }
    for key in raised:
        check(f"exceptions.{key}.message" in english, f"translations: exceptions.{key}.message is missing")


def actions() -> None:
    """Every action stands in services.yaml, icons.json and the translations, with all its fields."""
    described = yaml.safe_load((HERE / "services.yaml").read_text(encoding="utf-8")) or {}
    icons = json.loads((HERE / "icons.json").read_text(encoding="utf-8"))
    texts = json.loads((HERE / "translations" / "en.json").read_text(encoding="utf-8")).get("services", {})
    check(
        set(described) == set(texts),
        f"services: services.yaml has {sorted(described)}, translations have {sorted(texts)}",
    )
    check(set(described) == set(icons.get("services", {})), "services: icons.json does not list the same actions")
    for name, action in described.items():
        fields = set((action or {}).get("fields", {}))
        check(
            fields == set(texts.get(name, {}).get("fields", {})),
            f"services: the fields of {name} differ in the translations",
        )


def triggers() -> None:
    """Every trigger stands in triggers.yaml, icons.json and the translations, with all its fields."""
    described = yaml.safe_load((HERE / "triggers.yaml").read_text(encoding="utf-8"))
    described = {name: one for name, one in described.items() if not name.startswith(".")}
    icons = json.loads((HERE / "icons.json").read_text(encoding="utf-8")).get("triggers", {})
    english = json.loads((HERE / "translations" / "en.json").read_text(encoding="utf-8"))
    texts = english.get("triggers", {})
    check(
        set(described) == set(texts), f"triggers: triggers.yaml has {sorted(described)}, translations {sorted(texts)}"
    )
    check(set(described) == set(icons), "triggers: icons.json does not list the same triggers")
    for name, trigger in described.items():
        fields = trigger.get("fields", {})
        check(
            set(fields) == set(texts.get(name, {}).get("fields", {})),
            f"triggers: the fields of {name} differ in the translations",
        )
        for field, one in fields.items():
            select = one.get("selector", {}).get("select", {})
            known = english["selector"].get(select.get("translation_key"), {}).get("options", {})
            check(set(select.get("options", ())) <= set(known), f"triggers: options of {name}.{field} have no names")


def quality_scale() -> None:
    """Each of the 54 rules has a status, and an exemption its reason."""
    rules = yaml.safe_load((HERE / "quality_scale.yaml").read_text(encoding="utf-8"))["rules"]
    check(set(rules) == set(RULES), f"quality_scale.yaml: {sorted(set(rules) ^ set(RULES))} missing or unknown")
    for rule, status in rules.items():
        value = status if isinstance(status, str) else status.get("status")
        check(value in {"done", "todo", "exempt"}, f"quality_scale.yaml: {rule} has status {value}")
        check(value != "exempt" or status.get("comment"), f"quality_scale.yaml: {rule} is exempt without a reason")
    problems.extend(rules_problems())


def repository() -> None:
    """hacs.json and the brand icon."""
    hacs = json.loads((ROOT / "hacs.json").read_text(encoding="utf-8"))
    check(
        hacs.get("name") and not set(hacs) - HACS_KEYS, f"hacs.json: name, and none of {sorted(set(hacs) - HACS_KEYS)}"
    )
    icon = (HERE / "brand" / "icon.png").read_bytes()
    check(
        icon[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", icon[16:24]) == (256, 256),
        "brand/icon.png: 256 × 256 PNG",
    )


def borders() -> None:
    """The contract that keeps the integration out of the engine's rooms lists every module of the integration."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (listed,) = (set(one["source_modules"]) for one in contracts if "front door" in one["name"])
    modules = {f"custom_components.meter_batch.{path.stem}" for path in HERE.glob("*.py") if path.stem != "__init__"}
    check(listed == modules, f"pyproject.toml: the front door lacks or has too much: {sorted(listed ^ modules)}")


def main() -> int:
    """Runs every check; 1 where something is wrong."""
    for part in (manifest, translations, actions, triggers, quality_scale, repository, borders):
        part()
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems" if problems else "no problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
