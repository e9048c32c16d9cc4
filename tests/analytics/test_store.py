"""The archive holds the final layer of the ledger, exactly, whatever comes in whatever order."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meter_batch_analytics.archive import durable
from meter_batch_analytics.archive.read import periods
from meter_batch_analytics.archive.store import LEAST_ROWS, Archive
from meter_batch_analytics.archive.verify import verify
from meter_batch_analytics.errors import ArchiveError
from meter_batch_engine.ledger import Boundary, Ledger, Observed
from meter_batch_engine.model.point import Multiplier

from .conftest import EXPORT, IMPORT, QUARTER, START, TARIFF, ZONE, changes, interval, kept

SINCE, UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("record"), st.integers(0, 2), st.integers(0, 60), st.sampled_from(["poll", "memory"]), st.booleans()
        ),
        st.tuples(st.just("edit"), st.integers(0, 2), st.integers(0, 60), st.sampled_from([None, "3.141592653589793"])),
        st.tuples(st.just("multiplier"), st.integers(0, 2), st.integers(0, 60), st.sampled_from(["80", "1.5", "0.3"])),
        st.tuples(st.just("follow"), st.booleans(), st.booleans()),
        st.tuples(st.just("compact")),
        st.tuples(st.just("reopen")),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_whatever_happens_to_the_ledger_the_archive_becomes_its_final_layer(steps) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        ledger = Ledger(folder / "ledger.db", time_zone=ZONE, now=lambda: START + timedelta(days=30))
        archive = Archive(folder / "archive", time_zone=ZONE, writing=True)
        ledger.subscribe("archive")
        for step, *facts in steps:
            if step == "record":
                _record(ledger, *facts)
            elif step == "edit":
                _edit(ledger, *facts)
            elif step == "multiplier":
                point, number, ratio = facts
                since = START + number * QUARTER
                ledger.set_multipliers(
                    f"p{point}", [Multiplier(since, Decimal(ratio))], author="somebody", reason="a test"
                )
            elif step == "follow":
                _follow(ledger, archive, *facts)
            elif step == "compact":
                archive.compact()
            else:
                archive.close()
                archive = Archive(folder / "archive", writing=True)
        _follow(ledger, archive, lost=False, again=True)
        final = ledger.intervals(ledger.points, SINCE, UNTIL) if ledger.points else []
        expected = {(one.point, one.start): one for one in final}
        assert kept(archive) == expected
        archive.compact()
        assert kept(archive) == expected
        assert verify(archive).named == []
        archive.close()
        ledger.close()
    finally:
        shutil.rmtree(folder)


def _record(ledger: Ledger, point: int, number: int, source: str, seen: bool) -> None:
    # Registers that grow with time, so that any order of records is one history.
    registers = {
        IMPORT: Decimal(1000 + number * number * (point + 1)).scaleb(-2),
        EXPORT: Decimal(50 + number).scaleb(-3),
        TARIFF: Decimal(1000 + number).scaleb(-1),
    }
    observed = Observed(4.217, 229.1, 230.0, 230.9, 0.987) if seen else Observed()
    at = START + number * QUARTER
    ledger.take([Boundary(f"p{point}", at, registers, 1.0, source, "m", observed=observed)])  # type: ignore[arg-type]


def _edit(ledger: Ledger, point: int, number: int, energy: str | None) -> None:
    id_ = f"p{point}"
    at = START + number * QUARTER
    if id_ in ledger.points and any(one.start == at for one in ledger.intervals([id_], at, at + QUARTER)):
        energies = None if energy is None else {IMPORT: Decimal(energy)}
        ledger.edit(id_, at, energies, author="somebody", reason="a test")


def _follow(ledger: Ledger, archive: Archive, lost: bool, again: bool) -> None:
    """The subscriber's loop; `lost`: the acknowledgement does not arrive; `again`: it is given the same twice."""
    for _ in range(1000):
        found = ledger.changes("archive", limit=20)
        if not found.intervals and not found.more:
            return
        archive.take("archive", found)
        if again:
            assert archive.take("archive", found).again
        if lost:
            return
        ledger.acknowledge("archive", found.revision, found.cursor)
    pytest.fail("the ledger never says that it has no more")


def test_what_returned_from_take_is_there_after_opening_anew(archive: Archive, folder: Path) -> None:
    archive.take("archive", changes(7, [interval(0), interval(1, point="q")]))
    found = Archive(folder)
    assert len(kept(found)) == 2
    assert found.cursor("archive").revision == 7


def test_the_same_changes_twice_write_nothing(archive: Archive, folder: Path) -> None:
    archive.take("archive", changes(1, [interval(0)]))
    before = sorted(path.name for path in folder.rglob("*"))
    assert archive.take("archive", changes(1, [interval(0)])).again
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_a_withdrawn_interval_takes_away_what_was_there(archive: Archive) -> None:
    archive.take("archive", changes(1, [interval(0), interval(1)]))
    archive.compact()
    archive.take("archive", changes(2, [interval(0, flag="withdrawn", revision=2)]))
    assert [one.start for one in kept(archive).values()] == [START + QUARTER]
    archive.compact()
    assert [one.start for one in kept(archive).values()] == [START + QUARTER]
    archive.take("archive", changes(3, [interval(1, flag="withdrawn", revision=3)]))
    archive.compact()
    assert archive.manifest.months == {} and archive.manifest.years == {}


def test_energies_of_any_size_and_fineness_come_back_exactly(archive: Archive) -> None:
    energies = {IMPORT: Decimal(10) ** 30, EXPORT: Decimal("1e-90"), TARIFF: Decimal("-0.123456789012345678901234")}
    one = interval(0, energies=energies)
    two = interval(1, energies={EXPORT: Decimal("12345678901234567.8")})
    archive.take("archive", changes(1, [one, two]))
    archive.compact()
    assert list(kept(archive).values()) == [one, two]


def test_late_data_restate_their_month_and_no_other(archive: Archive) -> None:
    archive.take("archive", changes(1, [interval(0), interval(500)]))
    archive.compact()
    january, february = (archive.manifest.months[name] for name in ("2026-01", "2026-02"))
    archive.take("archive", changes(2, [interval(500, "9.5", flag="meter_memory", revision=2)]))
    archive.compact()
    assert archive.manifest.months["2026-01"] == january
    assert archive.manifest.months["2026-02"] != february
    assert kept(archive)["p", START + 500 * QUARTER].energies[IMPORT] == Decimal("9.5")


def test_months_are_due_by_the_number_and_size_of_their_parts_and_by_age(archive: Archive) -> None:
    archive.take("archive", changes(1, [interval(0)]))
    assert archive.due() == []
    assert archive.due(idle=True) == []
    assert archive.due(idle=True, now=datetime(2100, 1, 1, tzinfo=UTC).timestamp()) == ["2026-01"]
    for number in range(63):
        archive.take("archive", changes(2 + number, [interval(0, str(number))]))
    assert archive.due() == ["2026-01"]
    assert LEAST_ROWS > 64


def test_a_ledger_that_was_brought_back_from_a_backup_is_followed_and_noticed(archive: Archive) -> None:
    archive.take("archive", changes(80, [interval(0)]))
    assert archive.take("archive", changes(50, [interval(1)])).older
    assert len(kept(archive)) == 2


def test_where_the_time_zone_changes_days_are_added_up_anew(archive: Archive) -> None:
    archive.take("archive", changes(1, [interval(number, point=point) for number in range(400) for point in "pq"]))
    archive.compact()
    before = kept(archive)
    since, until = START, START + timedelta(days=10)

    def days() -> list[tuple[datetime, int]]:
        return [
            (row["start"], row["energy_import"] * row["step"])
            for table in periods(archive, ["p"], since, until, "day")
            for row in table.to_pylist()
        ]

    in_berlin = days()
    assert archive.move("Asia/Shanghai")
    assert not archive.move("Asia/Shanghai")
    uncompacted = days()
    archive.compact()
    assert days() == uncompacted != in_berlin
    assert {start.hour for start, _ in uncompacted} == {16}
    assert sum(count for _, count in uncompacted) == sum(count for _, count in in_berlin)
    assert kept(archive) == before
    assert verify(archive).named == []


def test_two_writers_are_refused_in_words(archive: Archive, folder: Path) -> None:
    with pytest.raises(ArchiveError, match="another process writes"):
        Archive(folder, writing=True)
    archive.close()
    Archive(folder, writing=True).close()


def test_a_full_disk_is_said_in_words_and_changes_nothing(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.take("archive", changes(1, [interval(0)]))
    before = archive.manifest

    def full(path: Path, work: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write", full)
    with pytest.raises(ArchiveError, match=r"disk of the archive is full.*Nothing is lost"):
        archive.take("archive", changes(2, [interval(1)]))
    monkeypatch.undo()
    assert archive.manifest == before
    archive.take("archive", changes(2, [interval(1)]))
    assert len(kept(archive)) == 2


def test_there_must_be_an_archive_to_read(folder: Path) -> None:
    with pytest.raises(ArchiveError, match="there is no archive in"):
        Archive(folder)


def test_files_without_their_manifest_are_not_taken_for_a_new_archive(archive: Archive, folder: Path) -> None:
    archive.take("archive", changes(1, [interval(0)]))
    archive.close()
    (folder / "manifest.json").unlink()
    with pytest.raises(ArchiveError, match="no manifest"):
        Archive(folder, time_zone=ZONE, writing=True)
