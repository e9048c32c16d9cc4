"""Findings and their journal are kept, whatever becomes of the disk, and a backup holds a whole file of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_fire_time_changed

from custom_components.meter_batch import alarm_store, backup
from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.alarm_store import FILE, ISSUE, AlarmFile, AlarmStore, Asked, Records
from custom_components.meter_batch.alarms import SiteAlarms
from custom_components.meter_batch.backup_copy import adopt_copy, copy_of, mark_of
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.engine import AlarmState, Event, Finding, JournalEntry, Severity
from custom_components.meter_batch.site import async_get_site

from .conftest import make_point
from .test_alarm_actions import act, measure

T0 = datetime(2026, 7, 1, 10, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def finding(id_: str, subject: str = "p1", since: datetime = T0, **more: Any) -> Finding:
    return Finding(id_, "over_voltage", "point", subject, Severity.WARNING, since, **more)


def records(*findings: Finding) -> Records:
    raised = [JournalEntry(one.id, one.since, Event.RAISED) for one in findings]
    return Records({one.id: one for one in findings}, raised)


def over(one: Finding, after: timedelta = HOUR) -> Finding:
    return replace(one, until=one.since + after, state=AlarmState.NORMAL)


@pytest.fixture
async def store(hass: HomeAssistant, add_line: Callable[..., MockConfigEntry], monkeypatch: pytest.MonkeyPatch) -> Any:
    add_line("East", disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    monkeypatch.setattr(alarm_store, "WAIT_S", 0.05)
    return (await async_get_site(hass)).alarms.store


def on_disk(store: AlarmStore) -> list[str]:
    with closing(sqlite3.connect(store.path)) as db:
        return [id_ for (id_,) in db.execute("SELECT id FROM finding ORDER BY id")]


async def reopened(hass: HomeAssistant, store: AlarmStore) -> None:
    """It opens the file anew when it is used again."""
    await hass.loop.run_in_executor(store._thread, store._close)


async def written(hass: HomeAssistant) -> None:
    await hass.async_block_till_done(wait_background_tasks=True)


async def test_what_happened_is_on_the_disk_and_is_found_by_period_and_subject(
    hass: HomeAssistant, store: AlarmStore
) -> None:
    old, new, other = over(finding("a")), finding("b", since=T0 + 5 * HOUR), finding("c", "p2", T0 + 5 * HOUR)
    store.async_take(records(old, new, other))
    await written(hass)
    assert on_disk(store) == ["a", "b", "c"]

    async def ids(**asked: Any) -> list[str]:
        return list((await store.async_read(Asked(**asked))).findings)

    assert await ids() == ["a", "b", "c"]
    assert await ids(until=T0 + 2 * HOUR) == ["a"]
    assert await ids(since=T0 + 2 * HOUR) == ["b", "c"]
    assert await ids(since=T0 + HOUR / 2, until=T0 + 2 * HOUR) == ["a"]
    assert await ids(subjects=frozenset({"p2"})) == ["c"]
    found = await store.async_read(Asked(), journal=True)
    assert found.findings["a"] == old
    assert [one.finding for one in found.journal] == ["a", "b", "c"]


async def test_while_the_file_is_locked_alarms_go_on_and_nothing_is_lost(
    hass: HomeAssistant, store: AlarmStore
) -> None:
    store.async_take(records(finding("a")))
    await written(hass)
    await reopened(hass, store)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        store.async_take(records(finding("b")))
        await written(hass)
        issue = ir.async_get(hass).async_get_issue(DOMAIN, ISSUE)
        assert issue is not None and issue.translation_placeholders is not None
        assert "in use by another program" in issue.translation_placeholders["problem"]
        assert list((await store.async_read(Asked())).findings) == ["b"]  # what can be known now
        store.async_take(records(over(finding("b")), finding("c")))
        other.execute("ROLLBACK")
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=alarm_store.AGAIN_S + 1))
    await written(hass)
    assert ir.async_get(hass).async_get_issue(DOMAIN, ISSUE) is None
    assert on_disk(store) == ["a", "b", "c"]
    assert (await store.async_read(Asked())).findings["b"].until is not None
    assert store.waiting == 0


async def test_a_full_disk_is_told_in_words_of_the_house(
    hass: HomeAssistant, store: AlarmStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hass.config.language = "zh-Hans"
    store.async_take(records(finding("a")))
    await written(hass)
    assert store._file is not None

    def limit(file: AlarmFile) -> None:
        (pages,) = file._db.execute("PRAGMA page_count").fetchone()
        file._db.execute(f"PRAGMA max_page_count = {pages}")

    await store._call(limit)  # SQLite itself says then that the disk is full
    many = records(*(finding(f"x{number}", comment="long" * 50) for number in range(100)))
    store.async_take(many)
    await written(hass)
    issue = ir.async_get(hass).async_get_issue(DOMAIN, ISSUE)
    assert issue is not None and issue.translation_placeholders is not None
    assert "磁盘已满" in issue.translation_placeholders["problem"]
    assert len((await store.async_read(Asked())).findings) == 101  # the file is opened anew, without that limit
    assert len(on_disk(store)) == 101


async def test_a_damaged_file_is_left_alone_and_alarms_go_on_in_memory(hass: HomeAssistant, store: AlarmStore) -> None:
    await store.async_read(Asked())
    await reopened(hass, store)
    damaged = b"not a database, but something somebody may still want" * 100
    store.path.write_bytes(damaged)
    for ending in ("-wal", "-shm"):
        store.path.with_name(store.path.name + ending).unlink(missing_ok=True)
    store.async_take(records(finding("a")))
    await written(hass)
    issue = ir.async_get(hass).async_get_issue(DOMAIN, ISSUE)
    assert issue is not None and issue.translation_placeholders is not None
    assert "damaged" in issue.translation_placeholders["problem"]
    assert list((await store.async_read(Asked())).findings) == ["a"]
    assert store.path.read_bytes() == damaged


async def test_what_is_too_old_or_too_much_is_forgotten_but_never_what_is_open(tmp_path: Path) -> None:
    file = AlarmFile(tmp_path / FILE)
    findings = [over(finding(f"f{number}", since=T0 + number * HOUR)) for number in range(10)]
    file.write(records(finding("open", since=T0 - 100 * HOUR), *findings))
    assert file.forget(T0 + 2 * HOUR, most=100) == 2
    assert file.forget(T0, most=3) == 5
    left = file.read(Asked(), journal=True)
    assert list(left.findings) == ["open", "f7", "f8", "f9"]
    assert {one.finding for one in left.journal} == set(left.findings)
    file.close()


async def test_a_backup_holds_a_whole_copy_and_a_restored_one_takes_its_place(
    hass: HomeAssistant, store: AlarmStore
) -> None:
    store.async_take(records(finding("a")))
    await backup.async_pre_backup(hass)
    copy, mark = copy_of(store.path), mark_of(store.path)
    assert copy.exists() and mark.exists() and mark.name.endswith(".db-shm")
    whole = copy.read_bytes()
    await backup.async_post_backup(hass)
    assert not copy.exists() and not mark.exists()

    restored = store.path.with_name("restored") / FILE
    restored.parent.mkdir()
    restored.write_bytes(b"torn")
    copy_of(restored).write_bytes(whole)
    adopt_copy(restored)
    file = AlarmFile(restored)
    assert [one.id for one in file.open_findings()] == ["a"]
    file.close()


async def test_what_was_open_is_known_again_when_a_file_that_was_locked_at_the_start_can_be_read(
    hass: HomeAssistant, store: AlarmStore
) -> None:
    site = await async_get_site(hass)
    volts = {"nominal_v": "230"}
    points = {id_: make_point(id_, id_, address, attributes=volts) for id_, address in (("p1", "1"), ("p2", "2"))}
    await site.registry.async_apply({**points}, SYSTEM, "add")
    await act(hass, "set_alarm_rule", kind="over_voltage", on_delay_s=0)
    store.async_take(records(finding("a"), finding("b", "p2")))
    await written(hass)
    await site.alarms.async_stop()
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        again = SiteAlarms(hass, site.registry, site.templates, site.alarms.rules, AlarmStore(hass))
        await again.async_start()
        assert again.open == []
        measure(again, p1=260.0)  # meanwhile the same is found once more
        (new,) = again.open
        other.execute("ROLLBACK")
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=alarm_store.AGAIN_S + 1))
    await written(hass)
    assert {one.id for one in again.open} == {new.id, "b"}
    found = await again.store.async_read(Asked())
    assert found.findings["a"].state is AlarmState.NORMAL
    await again.async_stop()
