"""Runs the real command in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

type Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def meter_batch() -> Run:
    """`meter_batch("decode", "…", text="…")`: what the command did; `text` is its stdin."""

    def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "meter_batch_cli", *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)

    return run


def objects(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The JSON objects on stdout, one a line."""
    return [json.loads(line) for line in done.stdout.splitlines()]
