"""The page of supported models is that of the templates and captures."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_supported_models_is_up_to_date() -> None:
    """Where this fails: run script/supported."""
    made = runpy.run_path(str(ROOT / "script/supported"))
    assert made["PAGE"].read_text(encoding="utf-8") == made["page"]()
