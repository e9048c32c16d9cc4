"""The notebooks are thin, and run as the product runs them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from meter_batch_analytics.session import DATA, IDENTITY, QUERY

from ...conftest import ROOT
from ..data_site import ALL

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda one: one.stem)
def test_a_notebook_is_thin_and_clean(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    book = nbformat.reads(text, 4)
    nbformat.validate(book)
    code = [one for one in book.cells if one.cell_type == "code"]
    assert 1 < len(code) <= 6
    # Both are known to hang a page now and then.
    assert "Output(" not in text
    assert "interact(" not in text
    assert all(not one.outputs and one.execution_count is None for one in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda one: one.stem)
def test_a_notebook_shows_its_app_in_a_kernel(path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {
        DATA: str(data), IDENTITY: json.dumps(ALL.as_dict()), QUERY: "lang=zh&period=2026-08-10..2026-09-20",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "analytics")]), "IPYTHONDIR": str(data / "ipython"),
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    book = nbformat.read(path, 4)
    look = "await app.ready()\n[app.notice.kind, len(app.figures.items), len(app.chart.figure['data']), app.chart.busy]"
    book.cells.append(new_code_cell(look))
    NotebookClient(book, timeout=90, kernel_name="python3").execute()
    shown: list[Any] = [one["data"] for cell in book.cells[1:-1] for one in cell.outputs if "data" in one]
    assert [list(one) for one in shown if "application/vnd.jupyter.widget-view+json" not in one] == []
    assert len(shown) == 5
    (last,) = book.cells[-1].outputs
    kind, cards, traces, busy = json.loads(last["data"]["text/plain"].replace("'", '"').replace("False", "false"))
    assert kind != "error"
    assert cards >= 2
    assert traces >= 1
    assert busy is False
