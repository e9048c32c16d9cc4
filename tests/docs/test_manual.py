"""The manual says the same in both languages, and only what is there."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from meter_batch_analytics.__main__ import _parser as analytics_parser
from meter_batch_cli.main import COMMANDS, app
from meter_batch_engine.template import available, load

ROOT = Path(__file__).resolve().parents[2]
MANUAL = ROOT / "docs" / "manual"
INTEGRATION = ROOT / "custom_components" / "meter_batch"
LANGUAGES = ("en", "zh-Hans")
PAGES = sorted(path.name for path in (MANUAL / "en").glob("*.md"))

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
HEADING = re.compile(r"^(#{1,6}) (.+)$", re.M)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(path: Path) -> str:
    """A page without its code blocks, in which # and ] mean other things."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def whole(language: str) -> str:
    return "\n".join((MANUAL / language / name).read_text(encoding="utf-8") for name in PAGES)


def translations(language: str) -> dict[str, Any]:
    texts: dict[str, Any] = json.loads((INTEGRATION / "translations" / f"{language}.json").read_text(encoding="utf-8"))
    return texts


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-") for _, text in HEADING.findall(prose(path))}


def fields(steps: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Key and label of every field of a flow."""
    for step in steps.values():
        yield from step.get("data", {}).items()


def test_both_languages_have_the_same_pages() -> None:
    assert PAGES
    assert sorted(path.name for path in (MANUAL / "zh-Hans").iterdir()) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_both_languages_have_the_same_structure(page: str) -> None:
    english, chinese = ([level for level, _ in HEADING.findall(prose(MANUAL / one / page))] for one in LANGUAGES)
    assert chinese == english
    english, chinese = (
        [line.count(" | ") for line in prose(MANUAL / one / page).splitlines() if line.startswith("|")]
        for one in LANGUAGES
    )
    assert chinese == english, "the tables differ"
    english, chinese = (
        [kind for kind, _ in FENCE.findall((MANUAL / one / page).read_text(encoding="utf-8"))] for one in LANGUAGES
    )
    assert chinese == english, "the examples differ"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(language: str, page: str) -> None:
    path = MANUAL / language / page
    for target in LINK.findall(prose(path)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.is_file(), f"{language}/{page}: {target}"
        assert not anchor or anchor in anchors(there), f"{language}/{page}: {target} is none of {anchors(there)}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_is_reached_from_the_index(language: str) -> None:
    linked = {target.partition("#")[0] for target in LINK.findall(prose(MANUAL / language / "index.md"))}
    assert set(PAGES) - {"index.md"} <= linked


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_action_and_its_fields_are_described(language: str) -> None:
    page = (MANUAL / language / "actions.md").read_text(encoding="utf-8")
    services = (INTEGRATION / "services.yaml").read_text(encoding="utf-8")
    actions = re.findall(r"^(\w+):$", services, re.M)
    assert len(actions) >= 5
    described = {one[1] for one in HEADING.findall(prose(MANUAL / language / "actions.md"))}
    assert set(actions) <= described
    for part in re.split(r"^(?=\w+:$)", services, flags=re.M)[1:]:
        action = part.partition(":")[0]
        section = page.partition(f"\n## {action}\n")[2].partition("\n## ")[0]
        for field in re.findall(r"^    (\w+):$", part, re.M):
            assert f"| `{field}` |" in section, f"{action}: {field}"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("flow", ["config", "options"])
def test_every_field_of_the_flows_is_described_under_its_label(language: str, flow: str) -> None:
    text = whole(language)
    for key, label in fields(translations(language)[flow]["step"]):
        assert f"`{key}`" in text, key
        assert label.partition(" (")[0].partition("（")[0] in text, f"{key}: {label}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_menu_is_called_what_the_screen_calls_it(language: str) -> None:
    text, texts = whole(language), translations(language)
    for flow in ("config", "options"):
        for step in texts[flow]["step"].values():
            for label in step.get("menu_options", {}).values():
                assert label in text, label


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_refusal_of_the_flows_and_of_an_import_is_in_troubleshooting(language: str) -> None:
    page = (MANUAL / language / "troubleshooting.md").read_text(encoding="utf-8").replace("*", "")
    texts = translations(language)
    refusals = dict(texts["config"]["error"])
    refusals |= {key: one["message"] for key, one in texts["exceptions"].items() if key.startswith("import_")}
    # These say what to do themselves: a header of all problems, and cells that hold one of a few words.
    plain = {
        "import_has_problems",
        "import_refused",
        "import_at_row",
        "import_unknown_protocol",
        "import_unknown_detail",
    }
    plain |= {"import_protocol_not_template", "import_multiplier_later"}
    for key in refusals.keys() - plain:
        message = refusals[key]
        parts = [part.strip(' "“”') for part in re.split(r"\{\w+\}|[.。,，:：;；]", message)]
        telling = [part for part in parts if len(part) >= {"en": 5, "zh-Hans": 2}[language]]
        assert any(part in page for part in telling[:2]), f"{key}: {message}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_of_a_problem_is_explained(language: str) -> None:
    page = (MANUAL / language / "entities-and-energy.md").read_text(encoding="utf-8")
    problem = translations(language)["entity"]["binary_sensor"]["problem"]
    for reason in problem["state_attributes"]["reason"]["state"]:
        assert f"| `{reason}` |" in page, reason


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_list_of_models_is_that_of_the_templates(language: str) -> None:
    """Where this fails: add or change the row, in both languages."""
    page = (MANUAL / language / "supported-devices.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[2:7]] for line in page.splitlines() if line.count("|") == 7]
    listed = {row[0].strip("`"): row[1:] for row in rows if row[0].startswith("`")}
    names = {"modbus": "Modbus", "dlt645-2007": "DL/T 645-2007", "dlt645-1997": "DL/T 645-1997"}
    doubtful = {"en": "yes", "zh-Hans": "是"}[language]
    there = {}
    for id_ in available():
        model = load(id_)
        wire = f"{model.serial.baud} 8{model.serial.parity}{model.serial.stop_bits}"
        there[id_] = [names[model.protocol], str(model.phases), wire, doubtful if model.doubt else ""]
    assert listed == there


ANALYTICS = {
    name: parser
    for action in analytics_parser()._actions  # argparse has no other way to ask
    for name, parser in (action.choices if isinstance(action.choices, dict) else {}).items()
    if name != "report-worker"  # a child of the server, no command for people
}


def options(command: str, program: str = "script/meter-batch") -> set[str]:
    """The long options of a command, and of its own commands where it has some."""
    if program == "script/meter-batch-analytics":
        actions = [one for one in ANALYTICS[command]._actions if one.help != argparse.SUPPRESS]
        return {option for one in actions for option in one.option_strings if option.startswith("--")}
    one = typer.main.get_command(importlib.import_module(f"meter_batch_cli.{command}").app)
    parameters = [*one.params, *(it for under in getattr(one, "commands", {}).values() for it in under.params)]
    return {option for it in parameters for option in (*it.opts, *it.secondary_opts) if option.startswith("--")}


def shown_commands() -> Iterator[tuple[str, list[str], str]]:
    """Page, words of the command and the output that is shown below it."""
    for language in LANGUAGES:
        for name in PAGES:
            text = (MANUAL / language / name).read_text(encoding="utf-8")
            for kind, block in FENCE.findall(text):
                if kind == "console":
                    for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
                        command, _, output = part.partition("\n")
                        yield f"{language}/{name}", shlex.split(command), output


def test_commands_that_are_shown_exist_with_their_options() -> None:
    seen = set()
    for page, words, _ in shown_commands():
        assert {word for word in words[2:] if word.startswith("--")} <= options(words[1], words[0]), f"{page}: {words}"
        seen.add((words[0], words[1]))
    there = {("script/meter-batch", one) for one in COMMANDS}
    there |= {("script/meter-batch-analytics", one) for one in ANALYTICS}
    assert seen == there, "every command has an example"


def test_options_that_are_described_exist_and_none_is_left_out() -> None:
    known = set().union(*map(options, COMMANDS)) | {"--help"}
    known = known.union(*(options(one, "script/meter-batch-analytics") for one in ANALYTICS))
    for language in LANGUAGES:
        text = (MANUAL / language / "command-line.md").read_text(encoding="utf-8")
        described = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
        assert described == known, language


def test_outputs_that_are_shown_are_those_of_the_program() -> None:
    compared = 0
    for page, words, shown in shown_commands():
        if words[1] not in ("decode", "templates") or words[-1].endswith(".toml"):
            continue
        result = CliRunner().invoke(app, words[1:], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
        lines = [line.rstrip() for line in result.output.splitlines()]
        lines += [f"meter-batch: {result.exception}"] if result.exception else []
        for line in shown.splitlines():
            assert line.strip() == "…" or line.rstrip() in lines, f"{page}: {words}: {line!r} is not in {lines}"
        compared += 1
    assert compared >= 10


def test_scripts_that_are_named_exist() -> None:
    for language in LANGUAGES:
        for name in set(re.findall(r"script/[a-z-]+", whole(language))):
            assert (ROOT / name).is_file(), name
