"""Meter models as people name them on the command line: an id, or a file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meter_batch_engine import Template


def by_name(name: str) -> Template:
    """The shipped template of this id, or the one in a file ending in .toml; raises TemplateError."""
    from meter_batch_engine.template import load, load_file

    return load_file(Path(name)) if name.endswith(".toml") else load(name)
