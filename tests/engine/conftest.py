"""Fixtures for everything that takes time on a wire: the simulated clock and wire of the benches."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:  # pytest by itself does not put it there
    sys.path.insert(0, ROOT)

from bench.simulated import Wire, run_simulated  # noqa: E402


@pytest.fixture(scope="session")
def simulated() -> Callable[..., Any]:
    """Runs a coroutine function, which is given the loop, on a simulated clock."""
    return run_simulated


@pytest.fixture(scope="session")
def wire() -> type[Wire]:
    """The class of simulated wires."""
    return Wire
