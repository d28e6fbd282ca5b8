"""Snapshots: a start from one equals a start from the rows, and a bad one costs time, never a row."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gallery.galleries import KEY, NOW, OTHER_KEY, enrol, filled, live, unit, units, unlocked

from turnkey.database import StorageDamaged, StorageNewer
from turnkey.gallery import partition, rows
from turnkey.gallery.gallery import Gallery, GalleryLocked
from turnkey.gallery.pack_rows import exportable
from turnkey.gallery.rotation import RotationUnderWay, rotate_batch
from turnkey.gallery.store import TemplateStore, WrongKey
from turnkey.interlock.permit import Permit, Stopped

COUNT = 60


@pytest.fixture(autouse=True)
def _small_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "SNAPSHOT_ROWS", 20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A gallery of sixty, with a snapshot."""
    path = tmp_path / "gallery.db"
    filled(path, units(COUNT, 1))
    unlocked(path).lock()
    assert len(snapshots(path)) == 1
    return path


def snapshots(path: Path) -> list[Path]:
    return sorted(path.parent.glob("gallery.db.cases.*"))


def opened_rows(gallery: Gallery) -> int:
    return gallery._indexes["cases"].opened_rows


def fault(gallery: Gallery) -> str | None:
    return gallery._indexes["cases"].fault


def assert_index_equals_rows(gallery: Gallery, path: Path) -> None:
    """Row for row, and every live row is found by its own template."""
    store = TemplateStore(path, None)
    for name in rows.PARTITIONS:
        assert np.array_equal(gallery._indexes[name].matrix.numbers(), store.numbers(name))
    store.close()


def test_a_start_from_a_snapshot_opens_no_row_and_finds_the_same(path: Path) -> None:
    gallery = unlocked(path)
    assert opened_rows(gallery) == 0
    probe = units(COUNT, 1)[41]
    result = gallery.search("cases", probe, 3, live())
    assert result.candidates[0].reference == "R-42"
    assert result.gallery_size == COUNT
    gallery.lock()


def test_rows_since_the_snapshot_are_added_and_removed_ones_left_out(path: Path) -> None:
    gallery = unlocked(path)
    enrol(gallery, "C-new", 500)
    gallery.lock()
    raw = sqlite3.connect(path)
    raw.execute("DELETE FROM template WHERE row IN (3, 17)")
    raw.commit()
    raw.close()
    gallery = unlocked(path)
    assert opened_rows(gallery) == 1
    assert_index_equals_rows(gallery, path)
    assert gallery.search("cases", unit(500), 1, live()).candidates[0].reference == "C-new"
    assert "R-3" not in {c.reference for c in gallery.search("cases", units(COUNT, 1)[2], 60, live()).candidates}
    gallery.lock()


@pytest.mark.parametrize("place", [0, 9, 40, 5000, -1])
def test_one_flipped_byte_sets_a_snapshot_aside_and_the_rows_serve(path: Path, place: int) -> None:
    (snapshot,) = snapshots(path)
    damaged = bytearray(snapshot.read_bytes())
    damaged[place] ^= 1
    snapshot.write_bytes(damaged)
    gallery = unlocked(path)
    assert opened_rows(gallery) == COUNT
    assert fault(gallery)
    assert_index_equals_rows(gallery, path)
    gallery.lock()
    again = unlocked(path)
    assert opened_rows(again) == 0, "a new snapshot was written"
    again.lock()


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: os.truncate(file, file.stat().st_size - 1),
        lambda file: file.write_bytes(file.read_bytes() + b"x"),
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b"TKSNAP1\n\xff\xff\xff\xff"),
    ],
)
def test_a_bad_or_missing_snapshot_is_rebuilt_from_rows(path: Path, damage: Callable[[Path], None]) -> None:
    damage(snapshots(path)[0])
    gallery = unlocked(path)
    assert opened_rows(gallery) == COUNT
    assert_index_equals_rows(gallery, path)
    gallery.lock()


def test_a_snapshot_of_another_partition_is_not_believed(path: Path) -> None:
    (snapshot,) = snapshots(path)
    shutil.copy(snapshot, snapshot.with_name(snapshot.name.replace("cases", "bookings")))
    gallery = unlocked(path)
    assert gallery.size("bookings") == 0
    assert gallery._indexes["bookings"].fault
    gallery.lock()


def test_a_row_moved_between_partitions_is_found_though_a_snapshot_exists(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("UPDATE template SET partition = 'bookings' WHERE row = 5")
    raw.commit()
    raw.close()
    with pytest.raises(StorageDamaged, match="changed or moved"):
        unlocked(path)


def test_a_row_changed_behind_the_snapshot_serves_no_candidate(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("UPDATE template SET sealed = (SELECT sealed FROM template WHERE row = 6) WHERE row = 5")
    raw.commit()
    raw.close()
    gallery = unlocked(path)
    with pytest.raises(StorageDamaged, match="changed or moved"):
        gallery.search("cases", units(COUNT, 1)[4], 1, live())
    gallery.lock()


@pytest.mark.parametrize("locked", [True, False])
def test_an_expunged_template_is_in_no_snapshot(path: Path, locked: bool) -> None:
    gallery = Gallery(path, "sface-0123")
    if not locked:
        gallery.unlock(KEY)
    before = {file.read_bytes() for file in snapshots(path)}
    assert gallery.expunge("cases", "R-9") == [9]
    after = {file.read_bytes() for file in snapshots(path)}
    assert not before & after
    assert len(after) == (0 if locked else 1)
    gallery.lock()
    gallery.unlock(KEY)
    assert gallery.size("cases") == COUNT - 1
    assert_index_equals_rows(gallery, path)
    gallery.lock()


def test_withdrawing_the_newest_row_costs_no_snapshot(path: Path) -> None:
    gallery = unlocked(path)
    before = snapshots(path)
    gallery.withdraw("cases", enrol(gallery, "C-1", 9))
    assert snapshots(path) == before
    gallery.lock()


def test_a_stop_does_not_wait_for_an_unlocking(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock comes from another thread while rows are being opened: the unlocking is abandoned."""
    snapshots(path)[0].unlink()
    gallery = Gallery(path, "sface-0123", progress=lambda *_: gallery._locking.set())
    with pytest.raises(GalleryLocked):
        gallery.unlock(KEY)
    with pytest.raises(GalleryLocked):
        gallery.size("cases")


def test_rotation_changes_the_key_and_every_row(path: Path) -> None:
    gallery = unlocked(path)
    raw = sqlite3.connect(path)
    before = dict(raw.execute("SELECT row, sealed FROM template").fetchall())
    gallery.rotate(KEY, OTHER_KEY, live())
    assert gallery.rotation_pending
    gallery.continue_rotation(live())
    assert not gallery.rotation_pending
    after = dict(raw.execute("SELECT row, sealed FROM template").fetchall())
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())
    assert raw.execute("SELECT number, wrapped FROM gallery_key").fetchall() == [(2, None)]
    raw.close()
    gallery.lock()
    with pytest.raises(WrongKey):
        unlocked(path)
    again = unlocked(path, OTHER_KEY)
    assert again.search("cases", units(COUNT, 1)[8], 1, live()).candidates[0].reference == "R-9"
    assert opened_rows(again) == 0, "the new key has its snapshot"
    again.lock()


def test_a_rotation_cut_short_is_continued_with_the_new_key_alone(path: Path) -> None:
    filled(path, units(600, 2))
    gallery = unlocked(path)
    gallery.rotate(KEY, OTHER_KEY, live())
    rotate_batch(gallery._store, 0, live())
    with pytest.raises(RotationUnderWay):
        gallery.rotate(OTHER_KEY, bytes(32), live())
    gallery.lock()
    with pytest.raises(WrongKey):
        unlocked(path)
    again = unlocked(path, OTHER_KEY)
    assert again.rotation_pending
    assert again.search("cases", units(600, 2)[599], 1, live()).candidates[0].score == pytest.approx(1.0)
    enrol(again, "C-new", 77)
    again.continue_rotation(live())
    assert_index_equals_rows(again, path)
    again.lock()


def test_a_stop_ends_a_rotation_between_batches(path: Path) -> None:
    class DiesSoon(Permit):
        checks = 0

        def check(self) -> None:
            self.checks += 1
            if self.checks == 3:
                self.revoke("key-opened")
            super().check()

    filled(path, units(600, 2))
    gallery = unlocked(path)
    gallery.rotate(KEY, OTHER_KEY, live())
    with pytest.raises(Stopped):
        gallery.continue_rotation(DiesSoon(lambda: 0, 10**9))
    assert gallery.rotation_pending
    gallery.continue_rotation(live())
    assert not gallery.rotation_pending
    gallery.lock()


def test_a_gallery_of_the_first_format_is_brought_up_to_date(tmp_path: Path) -> None:
    """A file as version 1 wrote it: same sealing, no key numbers."""
    path = tmp_path / "gallery.db"
    filled(path, units(3, 5))
    raw = sqlite3.connect(path)
    raw.executescript(
        "CREATE TABLE old AS SELECT * FROM template; CREATE TABLE proof AS SELECT proof FROM gallery_key;"
        "DROP TABLE template; DROP TABLE gallery_key; DROP TABLE import_file; DROP TABLE pack; DROP TABLE pack_row;"
    )
    raw.executescript(rows._TEMPLATE)
    raw.executescript(
        "INSERT INTO template SELECT row, partition, reference, model_id, quality, enrolled_at, sealed FROM old;"
        "CREATE TABLE key_proof (one INTEGER PRIMARY KEY CHECK (one = 1), sealed BLOB NOT NULL) STRICT;"
        "INSERT INTO key_proof SELECT 1, proof FROM proof; DROP TABLE old; DROP TABLE proof; PRAGMA user_version = 1;"
    )
    raw.close()
    gallery = unlocked(path)
    assert gallery.search("cases", units(3, 5)[1], 1, live()).candidates[0].reference == "R-2"
    gallery.lock()


def test_a_gallery_from_before_there_were_packs_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    filled(path, units(3, 5))
    raw = sqlite3.connect(path)
    raw.executescript("DROP TABLE pack; DROP TABLE pack_row; PRAGMA user_version = 2;")
    raw.close()
    gallery = unlocked(path)
    with gallery.rows() as store:
        assert exportable(store, "cases", NOW).rows.tolist() == [1, 2, 3]
    gallery.lock()


def test_a_gallery_from_a_newer_version_is_left_alone(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version = 99")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(StorageNewer):
        unlocked(path)
    assert path.read_bytes() == before


def test_what_retention_has_ended_is_dropped(path: Path) -> None:
    gallery = unlocked(path)
    row = gallery.enrol("cases", "C-1", unit(1), quality=50, enrolled_at=NOW, permit=live(), delete_after=NOW)
    assert gallery.retain("bookings", NOW) == []
    assert gallery.retain("cases", NOW) == [row]
    assert gallery.retain("cases", NOW) == []
    assert gallery.size("cases") == COUNT
    gallery.lock()
