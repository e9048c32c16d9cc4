"""Home Assistant may be away, restart, have another token or an older version: it is said, and made good again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from meter_batch_analytics.__main__ import main
from meter_batch_analytics.mirror import Mirror
from meter_batch_analytics.server import link as module
from meter_batch_analytics.server.link import Link, address_for
from meter_batch_analytics.server.settings import Settings

from .small_house import House, opened


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "ledger.db")


def prepared(data: Path) -> Settings:
    data.mkdir(exist_ok=True)
    (data / "token").write_text("a-token")
    return Settings("", data / "token", data)


@asynccontextmanager
async def linked(url: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Link]:
    monkeypatch.setattr(module, "EVERY_S", 0.05)
    monkeypatch.setattr(module, "ANNOUNCE_S", 0.05)
    monkeypatch.setattr(module, "AGAIN_S", (0.05,))
    made = Link(replace(prepared(data), url=url), "s" * 43)
    made.address = "http://127.0.0.1:8130"
    task = asyncio.create_task(made._refresh())
    try:
        yield made
    finally:
        task.cancel()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_it_is_announced_again_when_home_assistant_was_away(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(house) as url:
        async with linked(url, tmp_path / "data", monkeypatch) as link:
            await until(lambda: link.home_assistant == "ok")
            assert len(house.announced) == 1
            house.down = True
            await until(lambda: "cannot answer" in link.home_assistant)
            house.down = False
            await until(lambda: len(house.announced) == 2)
            await until(lambda: link.home_assistant == "ok")
            assert link.problems == []


async def test_a_wrong_token_is_said_and_a_right_one_is_taken_without_a_restart(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.token = "another"
    with opened(house) as url:
        async with linked(url, tmp_path / "data", monkeypatch) as link:
            await until(lambda: "refuses the token" in link.home_assistant)
            (tmp_path / "data" / "token").unlink()
            await until(lambda: "cannot be read" in link.home_assistant)
            (tmp_path / "data" / "token").write_text("another")
            await until(lambda: link.home_assistant == "ok")


async def test_an_older_home_assistant_still_gives_what_it_can(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.unknown = {"alarms", "analytics_server"}
    with opened(house) as url:
        async with linked(url, tmp_path / "data", monkeypatch) as link:
            await until(lambda: link.home_assistant == "ok")
            assert [problem.split(":")[0] for problem in link.problems if "alarms" in problem] == ["alarms"]
            assert [problem for problem in link.problems if "did not take the address" in problem]
            registry = Mirror(tmp_path / "data" / "mirror").registry()
            assert registry is not None
            assert registry.points
            house.unknown = set()
            await until(lambda: house.announced and not link.problems)


async def test_events_wait_until_home_assistant_is_back(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(house) as url:
        async with linked(url, tmp_path / "data", monkeypatch) as link:
            await until(lambda: link.home_assistant == "ok")
            house.down = True
            await link.tell("report_failed", {"kind": "daily", "period": "2026-03-27", "reason": "why"})
            await until(lambda: "cannot answer" in link.home_assistant)
            assert house.events == []
            house.down = False
            await until(lambda: house.events)
            assert house.events == [
                {"event": "report_failed", "kind": "daily", "period": "2026-03-27", "reason": "why"}
            ]


async def test_a_mirror_that_cannot_be_written_is_said_and_nothing_else_stops(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mirror").write_text("in the way")
    with opened(house) as url:
        async with linked(url, tmp_path / "data", monkeypatch) as link:
            await until(lambda: house.announced)
            assert [problem for problem in link.problems if "mirror" in problem]


def test_forget_makes_home_assistant_unlearn_it(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house.announced.append({})
    (tmp_path / "token").write_text("a-token")
    with opened(house) as url:
        assert main(["forget", "--url", url, "--token-file", str(tmp_path / "token")]) == 0
    assert house.announced == []
    assert "does not know" in capsys.readouterr().err


def test_it_is_reached_where_it_listens() -> None:
    assert address_for("http://127.0.0.1:8123", "127.0.0.1", 8130) == "http://127.0.0.1:8130"
    assert address_for("http://127.0.0.1:8123", "0.0.0.0", 8130) == "http://127.0.0.1:8130"
    assert address_for("http://127.0.0.1:8123", "::1", 8130) == "http://[::1]:8130"


def test_what_it_cannot_start_with_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").write_text("a-token")
    usual = [
        "serve",
        "--url",
        "http://127.0.0.1:9",
        "--token-file",
        str(tmp_path / "token"),
        "--data",
        str(tmp_path / "d"),
    ]
    for more, words in (
        (["--listen", "nonsense"], "no address to listen on"),
        (["--url", "nonsense"], "--url"),
        (["--address", "ftp://x"], "--address"),
        (["--kernels", "0"], "--kernels"),
        (["--token-file", str(tmp_path / "none")], "cannot be read"),
        (["--ca", str(tmp_path / "none")], "--ca"),
        (["--notebooks", str(tmp_path / "none")], "notebooks"),
        (["--key-file", "a", "--keyring", "b"], "key"),
    ):
        assert main([*usual, *more]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_a_port_that_is_taken_is_said(tmp_path: Path, house: House, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").write_text("a-token")
    with opened(house) as url:
        taken = url.removeprefix("http://")
        arguments = ["--url", url, "--token-file", str(tmp_path / "token"), "--data", str(tmp_path / "d")]
        books = tmp_path / "books"
        books.mkdir()
        umask = os.umask(0o022)
        try:
            assert main(["serve", *arguments, "--listen", taken, "--notebooks", str(books)]) == 2
        finally:
            os.umask(umask)
    assert "cannot be listened on" in (said := capsys.readouterr().err) and "others" not in said
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o700, "a folder that it made is for its owner only"


def test_the_lab_wants_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "--data", str(tmp_path)]) == 2
    assert "there is no archive" in capsys.readouterr().err
