"""Fixtures for every test: where the foreign oracles and vectors lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def need(thing: str, present: bool) -> None:
    """Skips the test where a tool or data folder is absent; fails instead on CI, where everything must be there."""
    if present:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{thing} is missing, and on CI nothing may be missing")
    pytest.skip(f"{thing} is not here")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with published frames and foreign peers (METER_BATCH_SHARED, or `shared` beside the checkout)."""
    folder = Path(os.environ.get("METER_BATCH_SHARED", ROOT.parent / "shared"))
    need(f"the folder of published frames ({folder.name})", folder.is_dir())
    return folder
