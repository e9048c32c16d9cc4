"""What the analytics part may know of the engine."""

from __future__ import annotations

import ast
from pathlib import Path

import meter_batch_analytics

ALLOWED = (
    "meter_batch_engine.model.",
    "meter_batch_engine.wire",
    "meter_batch_engine.errors",
    "meter_batch_engine.ledger.virtual",  # pure: what virtual points are made of
)


def test_of_the_engine_only_what_is_pure_is_imported() -> None:
    folder = Path(meter_batch_analytics.__file__).parent
    found = [
        name
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else
            [one.name for one in node.names] if isinstance(node, ast.Import) else []
        )
        if name.startswith("meter_batch_engine")
    ]  # fmt: skip
    assert found
    assert [name for name in found if not name.startswith(ALLOWED)] == []
