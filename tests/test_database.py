"""Stores: what was committed is there, and a file that is not ours is left as it was."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from turnkey.database import Database, Format, StorageDamaged, StorageError, StorageFull, StorageNewer

FORM = Format("test store", int.from_bytes(b"TEST"), 2, "CREATE TABLE item (value INTEGER NOT NULL) STRICT;\n")


def test_a_transaction_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    database = Database(tmp_path / "s.db", FORM)
    with database.transaction():
        database.execute("INSERT INTO item VALUES (?)", 1)
    with pytest.raises(RuntimeError), database.transaction():
        database.execute("INSERT INTO item VALUES (?)", 2)
        raise RuntimeError
    database.close()
    database.close()
    assert Database(tmp_path / "s.db", FORM).rows("SELECT value FROM item") == [(1,)]


def test_the_file_is_private_durable_and_names_its_format(tmp_path: Path) -> None:
    database = Database(tmp_path / "s.db", FORM)
    assert (tmp_path / "s.db").stat().st_mode & 0o777 == 0o600
    assert database.rows("PRAGMA journal_mode") == [("wal",)]
    assert database.rows("PRAGMA synchronous") == [(2,)]
    assert database.rows("PRAGMA application_id") == [(FORM.application_id,)]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda db: db.execute("PRAGMA application_id = 7"), StorageDamaged),
        (lambda db: db.execute("PRAGMA user_version = 3"), StorageNewer),
    ],
)
def test_foreign_and_newer_files_are_refused_untouched(tmp_path: Path, make, error) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "s.db"
    Database(path, FORM).close()
    raw = sqlite3.connect(path)
    make(raw)
    raw.execute("PRAGMA journal_mode=DELETE")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(error):
        Database(path, FORM)
    assert path.read_bytes() == before


def test_rubbish_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(b"not a database at all " * 99)
    with pytest.raises(StorageDamaged):
        Database(path, FORM)
    assert path.read_bytes() == b"not a database at all " * 99


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        Database(tmp_path / "nowhere" / "s.db", FORM)


def test_a_full_disk_is_named_and_nothing_is_half_written(tmp_path: Path) -> None:
    database = Database(tmp_path / "s.db", FORM)
    ((pages,),) = database.rows("PRAGMA page_count")
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFull), database.transaction():
        for value in range(10_000):
            database.execute("INSERT INTO item VALUES (?)", value)
    assert database.rows("SELECT count(*) FROM item") == [(0,)]
