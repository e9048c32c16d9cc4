"""The command as a whole: help that teaches, exit codes, results on stdout and messages on stderr."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Run, objects


def test_help_names_every_sub_command_and_shows_examples(meter_batch: Run) -> None:
    done = meter_batch("--help")
    assert done.returncode == 0
    for name in ("read", "decode", "simulate", "templates"):
        assert f" {name} " in done.stdout
    assert "Examples" in done.stdout


@pytest.mark.parametrize("name", ["read", "decode", "templates"])
def test_help_of_a_sub_command_has_examples(meter_batch: Run, name: str) -> None:
    done = meter_batch(name, "--help")
    assert done.returncode == 0
    assert f"meter-batch {name}" in done.stdout
    assert "Examples" in done.stdout


@pytest.mark.parametrize("arguments", [["nosuch"], ["decode"], ["read"], ["templates", "--nosuch"]])
def test_wrong_usage_is_exit_code_2_and_says_so_on_stderr(meter_batch: Run, arguments: list[str]) -> None:
    done = meter_batch(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage" in done.stderr


def test_help_is_quick_because_it_imports_nothing_it_does_not_need() -> None:
    heavy = ("pymodbus", "rich.table", "asyncio", "meter_batch_engine.protocol")
    program = f"import sys, meter_batch_cli.main; sys.exit(any(one in sys.modules for one in {heavy}))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_templates_are_listed_shown_and_checked(meter_batch: Run, tmp_path: Path) -> None:
    listed = objects(meter_batch("templates", "--json"))
    assert {"eastron/sdm630", "generic/dlt645-3ph"} <= {one["id"] for one in listed}
    (shown,) = objects(meter_batch("templates", "eastron/sdm630", "--json"))
    assert "voltage_l1" in {one["key"] for one in shown["registers"]}
    assert "eastron/sdm630" in meter_batch("templates").stdout
    assert "voltage_l1" in meter_batch("templates", "eastron/sdm630").stdout
    broken = tmp_path / "mine.toml"
    broken.write_text('vendor = "Me"\nprotocol = "bacnet"\n', encoding="utf-8")
    done = meter_batch("templates", str(broken))
    assert done.returncode == 1
    assert "mine.toml" in done.stderr
    assert "protocol" in done.stderr


def test_an_unknown_template_is_an_error_of_one_line(meter_batch: Run) -> None:
    done = meter_batch("templates", "eastron/sdm631")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "sdm630" in done.stderr
