"""One run of a notebook makes the files of a report: all or none, the same bytes each time, whatever goes wrong."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
import pytest

from meter_batch_analytics.errors import ReportError
from meter_batch_analytics.report import files
from meter_batch_analytics.report.kernel import Kernel
from meter_batch_analytics.report.make import NOTEBOOK, make, notebook
from meter_batch_analytics.report.page import Page

from . import example_facts

PARAMETERS = "facts_file = language = formats = folder = None"


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Kernel() as made:
        yield made


def book(folder: Path, *cells: str, tagged: bool = True) -> Path:
    first = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"] if tagged else []})
    path = folder / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[first, *map(nbformat.v4.new_code_cell, cells)]), path)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_one_run_makes_all_three_and_again_the_same_bytes_in_a_new_process_too(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = example_facts.monthly()
    first = make(facts, "zh-CN", ("pdf", "xlsx", "html"), tmp_path / "first", kernel=kernel)
    assert [one.name for one in first] == [f"energy-monthly-2026-10-zh-Hans.{end}" for end in ("pdf", "xlsx", "html")]
    assert sorted(one.name for one in (tmp_path / "first").iterdir()) == sorted(one.name for one in first)
    assert [one.read_bytes()[:4] for one in first] == [b"%PDF", b"PK\x03\x04", b"<!DO"]
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("TZ", "America/New_York")
    again = make(facts, "zh-CN", ("pdf", "xlsx", "html"), tmp_path / "again")
    assert [digest(one) for one in again] == [digest(one) for one in first]


def test_only_what_was_asked_for_is_made(kernel: Kernel, tmp_path: Path) -> None:
    made = make(example_facts.daily(), "en", ["html"], tmp_path, kernel=kernel)
    assert [one.name for one in tmp_path.iterdir()] == [made[0].name] == ["energy-daily-2026-10-15-en.html"]


@pytest.mark.parametrize("formats", [["docx"], []])
def test_a_format_that_there_is_not_is_said_before_anything_is_done(formats: list[str], tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="format"):
        make(example_facts.daily(), "en", formats, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_one_process_serves_many_reports_and_nothing_of_one_is_seen_by_the_next(kernel: Kernel, tmp_path: Path) -> None:
    kernel.run(book(tmp_path, "left_behind = 1"), {})
    before = kernel.pid
    kernel.run(book(tmp_path, "assert 'left_behind' not in globals()"), {})
    assert kernel.pid == before


def test_a_notebook_that_raises_is_said_in_words_and_the_next_report_is_made(kernel: Kernel, tmp_path: Path) -> None:
    facts = example_facts.daily()
    out = tmp_path / "out"
    with pytest.raises(ReportError, match=r"a\.ipynb stopped with ZeroDivisionError: division by zero"):
        make(facts, "en", ["html"], out, kernel=kernel, template=book(tmp_path, "1 / 0"))
    assert list(out.iterdir()) == []
    process = kernel.pid
    assert make(facts, "en", ["html"], out, kernel=kernel)[0].is_file()
    assert kernel.pid == process


def test_our_own_errors_come_through_a_notebook_as_they_are(kernel: Kernel, tmp_path: Path) -> None:
    template = book(tmp_path, "from meter_batch_analytics.errors import ReportError\nraise ReportError('the reason')")
    with pytest.raises(ReportError, match=r"^the reason$"):
        make(example_facts.daily(), "en", ["html"], tmp_path / "out", kernel=kernel, template=template)


def test_a_notebook_that_forgets_a_file_makes_no_report(kernel: Kernel, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"did not write energy-daily-2026-10-15-en\.xlsx"):
        make(example_facts.daily(), "en", ["xlsx"], tmp_path / "out", kernel=kernel, template=book(tmp_path, "pass"))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_process_that_dies_or_hangs_is_replaced(tmp_path: Path) -> None:
    with Kernel(timeout_s=2) as kernel:
        with pytest.raises(ReportError, match="ended from outside"):
            kernel.run(book(tmp_path, "import os; os._exit(3)"), {})
        with pytest.raises(ReportError, match="ran for over 2 s"):
            kernel.run(book(tmp_path, "import time; time.sleep(60)"), {})
        kernel.run(book(tmp_path, "pass"), {})


def test_a_process_is_replaced_after_so_many_reports_and_ends_with_its_owner(tmp_path: Path) -> None:
    with Kernel(reports=2) as kernel:
        seen = []
        for _ in range(3):
            kernel.run(book(tmp_path, "pass"), {})
            seen.append(kernel.pid)
        assert seen[0] == seen[1] != seen[2]
        assert not psutil.pid_exists(seen[0] or 0)
    assert not psutil.pid_exists(seen[2] or 0)


def test_a_process_that_has_grown_is_replaced(tmp_path: Path) -> None:
    with Kernel(memory_mb=1) as kernel:
        kernel.run(book(tmp_path, "pass"), {})
        first = kernel.pid
        kernel.run(book(tmp_path, "pass"), {})
        assert kernel.pid != first


def test_a_worker_that_is_ended_in_the_middle_of_a_report_takes_its_process_with_it_and_complains_of_nothing(
    tmp_path: Path,
) -> None:
    short = book(tmp_path, "pass").rename(tmp_path / "short.ipynb")
    long = book(tmp_path, f"open({str(tmp_path / 'begun')!r}, 'w').close()", "import time; time.sleep(60)")
    program = f"""
import signal, sys
from pathlib import Path
from meter_batch_analytics.report.run import kept_kernel
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
kernel = kept_kernel()
kernel.run(Path({str(short)!r}), {{}})
print(kernel.pid, flush=True)
kernel.run(Path({str(long)!r}), {{}})
"""
    (tmp_path / "worker.py").write_text(program)
    worker = subprocess.Popen(
        [sys.executable, tmp_path / "worker.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        worker.terminate()
        _, complaints = worker.communicate(timeout=30)
    finally:
        worker.kill()
    assert (worker.returncode, complaints) == (0, "")
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("broken", ["missing", "text", "untagged"])
def test_a_notebook_that_is_none_is_said(broken: str, kernel: Kernel, tmp_path: Path) -> None:
    path = book(tmp_path, "pass", tagged=broken != "untagged")
    if broken == "missing":
        path.unlink()
    elif broken == "text":
        path.write_text("no notebook")
    with pytest.raises(ReportError, match="notebook"):
        make(example_facts.daily(), "en", ["html"], tmp_path / "out", kernel=kernel, template=path)


def test_a_missing_font_is_said_and_other_formats_are_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "fonts.conf"
    (tmp_path / "fonts").mkdir()
    config.write_text(
        f"<fontconfig><dir>{tmp_path / 'fonts'}</dir><cachedir>{tmp_path / 'cache'}</cachedir></fontconfig>"
    )
    monkeypatch.setenv("FONTCONFIG_FILE", str(config))
    out = tmp_path / "out"
    with Kernel() as kernel:
        with pytest.raises(ReportError, match=r"the font Noto Sans CJK SC is missing .* fonts-noto-cjk"):
            make(example_facts.daily(), "en", ["html", "pdf"], out, kernel=kernel)
        assert list(out.iterdir()) == []
        assert len(make(example_facts.daily(), "en", ["html", "xlsx"], out, kernel=kernel)) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(example_facts.daily(), "en")
    (tmp_path / files.file_name(page.facts, "en", "xlsx")).symlink_to("/dev/full")
    with pytest.raises(ReportError, match=r"the disk is full .* make room"):
        files.write(page, ["xlsx"], tmp_path)


def test_where_one_file_cannot_get_its_name_none_of_them_does(kernel: Kernel, tmp_path: Path) -> None:
    facts = example_facts.daily()
    (tmp_path / files.file_name(facts, "en", "xlsx")).mkdir()
    (tmp_path / files.file_name(facts, "en", "xlsx") / "occupied").touch()
    with pytest.raises(ReportError, match="cannot be written"):
        make(facts, "en", ["html", "xlsx"], tmp_path, kernel=kernel)
    assert [one.name for one in tmp_path.iterdir()] == [files.file_name(facts, "en", "xlsx")]


def test_a_folder_that_may_not_be_written_is_said() -> None:
    # Not even root may make anything there.
    with pytest.raises(ReportError, match="cannot be written"):
        make(example_facts.daily(), "en", ["html"], Path("/proc/meter-batch"))


def test_the_notebook_is_thin_has_no_outputs_and_none_of_the_widgets_that_hang() -> None:
    assert notebook().name == NOTEBOOK
    text = notebook().read_text(encoding="utf-8")
    cells = nbformat.read(notebook(), as_version=4).cells
    code = [one for one in cells if one.cell_type == "code"]
    assert len(code) <= 4 and sum(len(one.source.splitlines()) for one in code) <= 16
    assert all(not one.outputs and one.execution_count is None for one in code)
    assert not any(word in text for word in ("Output(", "interact(", "interactive("))
