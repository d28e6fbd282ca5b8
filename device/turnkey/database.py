"""A durable SQLite file that one process owns: how the gallery, the ledger and the outbox are opened and written.

Rules kept here:
1. WAL and `synchronous=FULL`: what a transaction committed survives a power cut (SQLite, PRAGMA synchronous).
2. The file says whose it is (`application_id`) and of which version (`user_version`). A foreign, corrupt or newer file
   is refused by name and left exactly as it was.
3. A file is created whole or not at all, with mode 0600; an older one is brought up to date whole or not at all.
4. A full or failing disk is `StorageFull`, by name: what was being written is rolled back.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUSY_TIMEOUT_S = 5.0
"""How long to wait for another process's transaction, seconds."""


class StorageError(Exception):
    """A store that cannot be used. `reason` is a code for the ledger, the message is for a person."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StorageDamaged(StorageError):
    """The file is corrupt, or is something else. It was left as it is."""


class StorageNewer(StorageError):
    """The file was written by a newer version of this software. It was left as it is."""


class StorageFull(StorageError):
    """The disk is full or failing. Nothing of the transaction was kept."""


@dataclass(frozen=True)
class Format:
    """What a store's file is.

    Attributes:
        name: for messages: "gallery", "ledger", "outbox".
        application_id: four ASCII letters as a big-endian integer (sqlite.org/pragma.html#pragma_application_id).
        version: schema version, 1 or more.
        schema: SQL that makes an empty store.
        upgrades: SQL that takes version 1 to 2, 2 to 3, and so on.
        checked_below_bytes: larger files are opened without `quick_check`, which reads all of them; for a store whose
            rows authenticate themselves when read. None: always checked.
    """

    name: str
    application_id: int
    version: int
    schema: str
    upgrades: tuple[str, ...] = ()
    checked_below_bytes: int | None = None


class Database:
    """The store at `path`, created where there is none. Its methods may be called from any thread.

    Raises:
        StorageDamaged, StorageNewer, StorageError: the file is not ours to use; it is left untouched.
    """

    def __init__(self, path: Path, form: Format) -> None:
        self.path = path
        self._form = form
        self._lock = threading.RLock()
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StorageError("unwritable", f"{path}: {error.strerror}") from error
        self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            self._open()
        except sqlite3.OperationalError as error:
            self._db.close()
            raise _named(error, path) from error
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise StorageDamaged("corrupt", f"{path}: {error}") from error
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        application_id, version, pages = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version", "page_count")
        )
        # WAL is switched on, in the file, before the schema is there: cut off in between, it is empty and nobody's.
        empty = not pages or not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application_id != self._form.application_id and not (empty and application_id == 0 and version == 0):
            raise StorageDamaged("foreign", f"{self.path}: an SQLite file, but not a {self._form.name}")
        if version > self._form.version:
            raise StorageNewer("newer", f"{self.path}: schema {version}; this software knows {self._form.version}")
        largest = self._form.checked_below_bytes
        if largest is None or self.path.stat().st_size < largest:
            verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise StorageDamaged("corrupt", f"{self.path}: {verdict}")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA secure_delete=ON")
        with self.transaction():
            # Asked again inside the write lock: two processes may create the file at the same moment.
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == self._form.version:
                return
            scripts = self._form.upgrades[version - 1 :] if version else (self._form.schema,)
            for statement in (statement for script in scripts for statement in _statements(script)):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id={self._form.application_id}")
            self._db.execute(f"PRAGMA user_version={self._form.version}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what is done inside is on disk afterwards, or none of it where anything was raised.

        Raises:
            StorageFull: the disk is full or failing.
        """
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.OperationalError as error:
                raise _named(error, self.path) from error

    def empty_log(self) -> None:
        """Move the write-ahead log into the file and truncate it, so that no old page stays in it.

        Raises:
            StorageFull, StorageError: not now; everything committed stays so, and closing tries again.
        """
        with self._lock:
            try:
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.OperationalError as error:
                raise _named(error, self.path) from error

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """Run one statement; inside `transaction` where it writes."""
        with self._lock:
            return self._db.execute(statement, values)

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        with self._lock:
            self._db.close()


def _named(error: sqlite3.OperationalError, path: Path) -> StorageError:
    code = error.sqlite_errorcode & 0xFF
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return StorageFull("disk", f"{path}: {error}")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageError("busy", f"{path}: another process holds it")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
        return StorageError("unwritable", f"{path}: {error}")
    return StorageError("storage", f"{path}: {error}")


def _statements(script: str) -> Iterator[str]:
    """The script's statements one by one: `executescript` would commit the transaction that makes creation atomic."""
    pending = ""
    for line in script.strip().splitlines():
        pending += line + "\n"
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
