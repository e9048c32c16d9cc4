"""Killed at any step, damaged in any byte, with any key: the archive is whole, or says what is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from meter_batch_analytics.archive import durable, files, manifest, schema
from meter_batch_analytics.archive.keys import KeyFile, KeyRing
from meter_batch_analytics.archive.read import periods
from meter_batch_analytics.archive.store import Archive
from meter_batch_analytics.archive.subscriber import follow
from meter_batch_analytics.archive.verify import verify
from meter_batch_analytics.errors import ArchiveError
from meter_batch_engine.model.interval import Changes
from meter_batch_engine.wire import RegistrySnapshot

from .conftest import EXPORT, IMPORT, START, TARIFF, ZONE, changes, interval, kept
from .endless_writer import expected

HERE = Path(__file__).parent
TWO_MONTHS = [
    *(
        interval(number, f"{number}.5", f"p{point:02d}", energies={TARIFF: Decimal(number)})
        for number in range(200, 220)
        for point in range(12)
    ),
    *(interval(number, point="q") for number in range(20)),
]


def test_killed_at_any_step_it_is_in_the_state_before_or_after(
    archive: Archive, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.take("archive", changes(1, TWO_MONTHS))
    archive.compact()
    pictures: list[Path] = []

    def photographed(real):
        def call(*arguments, **more):
            # What is on the disk now is what a kill before this step would leave.
            picture = tmp_path / f"picture-{len(pictures)}"
            shutil.copytree(folder, picture)
            pictures.append(picture)
            return real(*arguments, **more)

        return call

    before = kept(archive)
    late = [interval(3, "99", "p00", revision=2), interval(210, "77", "p03", revision=2)]
    after = before | {(one.point, one.start): one for one in late}
    with monkeypatch.context() as patch:
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink")):
            patch.setattr(owner, name, photographed(getattr(owner, name)))
        archive.take("archive", changes(2, late))
        archive.compact()
    assert len(pictures) > 20
    revisions = []
    for picture in pictures:
        with Archive(picture, writing=True) as found:
            revision = found.cursor("archive").revision
            assert kept(found) == {1: before, 2: after}[revision]
            assert verify(found).named == []
            there = {path.relative_to(picture).as_posix() for path in picture.rglob("*.*") if path.is_file()}
            assert there == {one.path for one in found.manifest.files()} | {manifest.NAME}
            revisions.append(revision)
    assert revisions == sorted(revisions) and set(revisions) == {1, 2}


def test_kill_9_loses_nothing_that_was_acknowledged(folder: Path) -> None:
    for round_ in range(3):
        writer = subprocess.Popen(
            [sys.executable, str(HERE / "endless_writer.py"), str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(7 + 6 * round_)]
        writer.kill()
        said += [int(line) for line in writer.stdout.read().splitlines()]
        writer.wait()
        with Archive(folder, writing=True) as found:
            revision = found.cursor("archive").revision
            assert revision >= said[-1]
            assert kept(found) == expected(revision)
            assert verify(found).named == []


class Desk:
    """A ledger that gives one answer and remembers what it is told."""

    def __init__(self, answer: Changes) -> None:
        self.answer, self.acknowledged = answer, []

    def changes(self, subscriber: str, limit: int) -> Changes:
        return self.answer

    def registry(self) -> RegistrySnapshot:
        return RegistrySnapshot({}, {}, {}, ZONE, 1)

    def acknowledge(self, subscriber: str, changes: Changes) -> None:
        self.acknowledged.append(changes.revision)


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("name", ["rows", "other"])
def test_a_disk_that_returns_other_bytes_is_noticed_and_nothing_is_acknowledged(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, name: str, place: float
) -> None:
    real, desk = os.fsync, Desk(changes(1, TWO_MONTHS))

    def lying(descriptor: int) -> None:
        real(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.name.startswith(f"{name}-"):
            whole = bytearray(path.read_bytes())
            whole[int(place * (len(whole) - 1))] ^= 0x10
            path.write_bytes(whole)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lying)
        with pytest.raises(ArchiveError, match="does not hold what was written to it"):
            follow(archive, desk, once=True)
    assert desk.acknowledged == [] and archive.cursor("archive").revision == 0 and kept(archive) == {}
    follow(archive, desk, once=True)
    assert desk.acknowledged == [1] and len(kept(archive)) == len(TWO_MONTHS)
    assert verify(archive).ok


def test_a_part_that_reads_otherwise_than_it_was_written_is_not_acknowledged_and_written_anew(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole bytes are not enough: the rows that they hold are compared too, and their number."""
    desk, real = Desk(changes(1, TWO_MONTHS)), durable.write

    def forgetful(path: Path, work):
        checksum = real(path, work)
        if path.name.startswith("rows-"):
            table = pq.read_table(path, partitioning=None)
            pq.write_table(table.slice(0, table.num_rows - 1), path)
        return checksum

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write", forgetful)
        with pytest.raises(ArchiveError, match="does not hold what was written to it"):
            follow(archive, desk, once=True)
    assert desk.acknowledged == [] and kept(archive) == {}
    follow(archive, desk, once=True)
    assert desk.acknowledged == [1] and len(kept(archive)) == len(TWO_MONTHS)


def test_a_flipped_byte_anywhere_is_found_and_its_file_named(archive: Archive, folder: Path) -> None:
    archive.take("archive", changes(1, TWO_MONTHS))
    archive.compact()
    archive.take("archive", changes(2, [interval(4, "3", revision=2)]))
    assert verify(archive).ok
    for entry in archive.manifest.files():
        path = folder / entry.path
        whole = path.read_bytes()
        for place in (0, len(whole) // 3, len(whole) - 9):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
            verdict = verify(archive)
            assert verdict.failures == 1
            assert entry.path in verdict.named[0] and "checksum" in verdict.named[0]
        path.write_bytes(whole)
    assert verify(archive).ok


def test_a_missing_file_and_a_damaged_manifest_are_named(archive: Archive, folder: Path) -> None:
    archive.take("archive", changes(1, TWO_MONTHS))
    first = next(iter(archive.manifest.files()))
    (folder / first.path).rename(folder / "elsewhere")
    assert first.path in verify(archive).named[0] and "missing" in verify(archive).named[0]
    text = (folder / manifest.NAME).read_text()
    (folder / manifest.NAME).write_text(text.replace('"rows": 20', '"rows": 21'))
    with pytest.raises(ArchiveError, match=r"manifest\.json is damaged"):
        Archive(folder)


def test_roll_ups_that_are_not_the_sum_of_their_intervals_are_found(archive: Archive, monkeypatch) -> None:
    archive.take("archive", changes(1, TWO_MONTHS))
    archive.compact()
    years = archive.manifest.years
    old = {
        entry.path: (archive.folder / entry.path).read_bytes() for entry in (years["2026"].days, years["2026"].months)
    }
    archive.take("archive", changes(2, [interval(0, "8", "q", revision=2)]))
    archive.compact()
    for path, content in old.items():
        (archive.folder / path).write_bytes(content)
    monkeypatch.setattr(archive, "manifest", archive.manifest.next(years=years))
    named = verify(archive).named
    assert len(named) == 2
    assert all("2026-01 is not what its intervals add up to" in one for one in named)


def test_an_older_schema_is_read_and_migrated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added = ("voltage_below_dv", "voltage_above_dv", "power_factor_pm", "skew_s")
    old = [
        interval(number, f"{number}.5", f"p{point:02d}", energies={EXPORT: Decimal(number)})
        for number in range(20)
        for point in range(12)
    ]
    with monkeypatch.context() as patch, Archive(folder, time_zone=ZONE, writing=True) as archive:
        # What version 1 wrote: fewer columns, and its number.
        write = files.Files.write

        def written(self, path, groups, kind):
            fields = [field for field in kind if field.name not in added]
            smaller = pa_schema(fields)
            return write(self, path, (one.select(smaller.names) for one in groups), smaller)

        for module in (files, manifest):
            patch.setattr(module, "VERSION", 1)
        patch.setattr(files.Files, "write", written)
        patch.setattr("meter_batch_analytics.archive.store.same", lambda *_: True)
        archive.take("archive", changes(1, old))
    one = next(folder.rglob("rows-*.parquet"))
    assert pq.read_metadata(one).metadata[schema.MARK.encode()] == b"1"
    with Archive(folder, writing=True) as archive:
        found = kept(archive)
        assert {one.energies[IMPORT] for one in found.values()} == {one.energies[IMPORT] for one in old}
        assert archive.migrate() == 1
        assert {entry.schema for entry in archive.manifest.files()} == {schema.VERSION}
        assert kept(archive) == found
        assert verify(archive).named == []


def test_roll_ups_of_an_older_schema_are_passed_over_until_they_are_made_anew(folder: Path, monkeypatch) -> None:
    began = datetime(2026, 1, 30, tzinfo=UTC)
    with monkeypatch.context() as patch, Archive(folder, time_zone=ZONE, writing=True) as archive:
        # What version 2 wrote: periods without the time that they cover.
        write = files.Files.write

        def written(self, path, groups, kind):
            smaller = pa_schema([field for field in kind if field.name != "covered_s"])
            return write(self, path, (one.select(smaller.names) for one in groups), smaller)

        for module in (files, manifest):
            patch.setattr(module, "VERSION", 2)
        patch.setattr(files.Files, "write", written)
        archive.take("archive", changes(1, [interval(number) for number in range(96 * 3)]))
        archive.compact()
    with Archive(folder, writing=True) as archive:

        def days() -> list[tuple[int, int]]:
            tables = periods(archive, None, began, began + timedelta(days=9), "day", archive.zone)
            return [(one["known_s"], one["covered_s"]) for table in tables for one in table.to_pylist()]

        found = days()
        assert len(found) == 4 and all(known == covered for known, covered in found)
        assert verify(archive).named == []
        archive.take("archive", changes(2, [interval(0, "9")]))
        archive.compact()  # of January only, but February is in the same files
        assert {one.schema for one in archive.manifest.files()} == {schema.VERSION}
        assert days() == found and verify(archive).named == []


def pa_schema(fields):
    import pyarrow as pa

    return pa.schema(fields)


def test_a_newer_schema_is_refused_in_words(archive: Archive, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.take("archive", changes(1, [interval(0)]))
    monkeypatch.setattr(manifest, "VERSION", 1)
    with pytest.raises(ArchiveError, match="newer Meter Batch"):
        Archive(folder)


def test_an_encrypted_archive_opens_with_its_key_only(folder: Path, tmp_path: Path) -> None:
    key, other = KeyFile(tmp_path / "key"), KeyFile(tmp_path / "other")
    key.create()
    other.create()
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    with Archive(folder, time_zone=ZONE, keys=key, writing=True) as archive:
        archive.take("archive", changes(1, TWO_MONTHS))
        archive.compact()
        archive.take("archive", changes(2, [interval(0, "8")]))
        assert len(kept(archive)) == len(TWO_MONTHS) + 1
        assert verify(archive).ok
        (path, *_) = [folder / entry.path for entry in archive.manifest.files()]
    assert path.read_bytes()[:4] == b"PARE"
    assert b"poll" not in path.read_bytes()
    assert len(kept(Archive(folder, keys=key))) == len(TWO_MONTHS) + 1
    with pytest.raises(ArchiveError, match="encrypted: say where its key is"):
        Archive(folder)
    with pytest.raises(ArchiveError, match="not the key"):
        Archive(folder, keys=other)
    (tmp_path / "other").unlink()
    with pytest.raises(ArchiveError, match=r"key file .*other is missing"):
        Archive(folder, keys=other)
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(ArchiveError, match="chmod 600"):
        Archive(folder, keys=key)


def test_an_archive_that_is_not_encrypted_takes_no_key(archive: Archive, folder: Path, tmp_path: Path) -> None:
    key = KeyFile(tmp_path / "key")
    key.create()
    with pytest.raises(ArchiveError, match="not encrypted"):
        Archive(folder, keys=key)


def test_a_key_file_is_never_overwritten_and_must_hold_a_key(tmp_path: Path) -> None:
    key = KeyFile(tmp_path / "key")
    key.create()
    with pytest.raises(ArchiveError, match="already"):
        key.create()
    (tmp_path / "key").write_text("short")
    with pytest.raises(ArchiveError, match="64 hexadecimal digits"):
        key.key()


def test_the_keyring_of_the_system_keeps_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    import keyring
    from keyring.backend import KeyringBackend

    class Memory(KeyringBackend):
        priority = 1  # type: ignore[assignment]

        def __init__(self) -> None:
            super().__init__()
            self.kept: dict[tuple[str, str], str] = {}

        def get_password(self, service: str, username: str) -> str | None:
            return self.kept.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            self.kept[service, username] = password

        def delete_password(self, service: str, username: str) -> None:
            del self.kept[service, username]

    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    try:
        ring = KeyRing("plant")
        with pytest.raises(ArchiveError, match='no key "plant"'):
            ring.key()
        assert ring.create() == ring.key()
        with pytest.raises(ArchiveError, match="already"):
            ring.create()
    finally:
        keyring.set_keyring(before)
    assert START
