"""The outbox: signed messages that have not safely left yet, on disk.

One SQLite file (WAL, `synchronous=FULL`). The notary puts, the uplink takes from the head and removes; both may have
the file open at once. The outbox never looks inside a payload.

Rules kept here, in the order in which they matter:
1. `Outbox.put` returns only once the row is on disk.
2. A row leaves only through `Outbox.done`, and the uplink calls that only after the broker's PUBACK said success.
3. `put` with a message id that is known returns the first row's sequence and adds nothing, so that a notary that
   crashed between ledger and outbox can simply put again.
4. Over a limit `put` raises `OutboxFull`. The booth then stops capturing; nothing queued is dropped to make room.
5. A file that is corrupt, foreign or written by a newer version is refused by name and left exactly as it was.

A PUBACK means that the broker has taken over, but a broker's memory is only as durable as its last save (mosquitto
saves each `autosave_interval`, not before each PUBACK). A row can therefore be *acknowledged* first and removed once
it has *settled*; `Outbox.restore` puts acknowledged rows back in the queue where the connection broke before that.
The price is a duplicate, which the lead desk recognises; the alternative is a lost lead.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

APPLICATION_ID: Final = 0x544B4F42  # "TKOB": tells this file from the gallery's and the ledger's
SCHEMA_VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE message (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    acknowledged INTEGER NOT NULL DEFAULT 0 CHECK (acknowledged IN (0, 1))
) STRICT;
CREATE INDEX message_waiting ON message (sequence) WHERE acknowledged = 0;
CREATE TABLE sent (sequence INTEGER PRIMARY KEY, message_id TEXT NOT NULL UNIQUE, digest BLOB NOT NULL) STRICT;
CREATE TABLE tally (one INTEGER PRIMARY KEY CHECK (one = 1), messages INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
INSERT INTO tally VALUES (1, 0, 0);
CREATE TRIGGER message_added AFTER INSERT ON message BEGIN
    UPDATE tally SET messages = messages + 1, bytes = bytes + length(new.payload);
END;
CREATE TRIGGER message_removed AFTER DELETE ON message BEGIN
    UPDATE tally SET messages = messages - 1, bytes = bytes - length(old.payload);
END;
"""


class OutboxError(Exception):
    """Anything the outbox refuses. `reason` is a code for the status and the ledger."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class OutboxFull(OutboxError):
    """A limit or the disk is reached: stop capturing. Reasons: messages, bytes, disk."""


class PayloadRefused(OutboxError):
    """The payload can never be sent. Reasons: empty, too-large."""


class MessageConflict(OutboxError):
    """The message id is known with another topic or payload: the caller confused two messages."""


class OutboxDamaged(OutboxError):
    """The file is not a sound outbox. Reasons: not-an-outbox, corrupt. It is left as it was."""


class OutboxNewer(OutboxError):
    """The file was written by a newer version of this software. It is left as it was."""


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """What the outbox may hold.

    Attributes:
        max_messages: rows; 100 000 is years of bookings, or ten weeks of heartbeats, without a broker.
        max_bytes: sum of payloads, bytes.
        max_payload_bytes: one payload, bytes; the broker's `max_packet_size` must be larger than this.
        remembered: how many removed message ids stay known, so that a late second `put` is still recognised.
        busy_timeout_s: how long to wait for the other process's transaction.
    """

    max_messages: int = 100_000
    max_bytes: int = 512 * 1024 * 1024
    max_payload_bytes: int = 64 * 1024
    remembered: int = 10_000
    busy_timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Message:
    """One row: what is published, and under which name it is known."""

    sequence: int
    message_id: str
    topic: str
    payload: bytes


class Outbox:
    """The durable queue at `path`. Creates the file (mode 0600) where there is none.

    Raises:
        OutboxDamaged, OutboxNewer: the file is not ours to use; it is left untouched.
    """

    def __init__(self, path: Path, limits: OutboxLimits | None = None) -> None:
        self.path = path
        self.limits = limits or OutboxLimits()
        self._lock = threading.Lock()
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._db = sqlite3.connect(
            path, timeout=self.limits.busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise OutboxDamaged("corrupt", f"{path}: {error}") from error
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        application, version, pages = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version", "page_count")
        )
        if pages and application != APPLICATION_ID:
            raise OutboxDamaged("not-an-outbox", f"{self.path}: an SQLite file, but not an outbox")
        if version > SCHEMA_VERSION:
            raise OutboxNewer("newer", f"{self.path}: schema {version}, this software knows {SCHEMA_VERSION}")
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise OutboxDamaged("corrupt", f"{self.path}: {verdict}")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        with self._transaction():
            # Asked again inside the write lock: two processes may create the file at the same moment.
            if self._db.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in _statements(_SCHEMA):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. What was put stays put."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
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
            if error.sqlite_errorcode in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC):
                raise OutboxFull("disk", f"{self.path}: {error}") from error
            raise

    def put(self, topic: str, payload: bytes, message_id: str | None = None) -> int:
        """Queue one message; on disk when this returns.

        Args:
            topic: MQTT topic.
            payload: what is published, byte for byte.
            message_id: the caller's name for it; the payload's SHA-256 where absent.

        Returns:
            The row's sequence, which grows in the order of publishing. For a known message id: the first row's.

        Raises:
            PayloadRefused, MessageConflict, OutboxFull.
        """
        if not payload:
            raise PayloadRefused("empty", "an empty payload means 'delete' to a broker and is never published")
        if len(payload) > self.limits.max_payload_bytes:
            raise PayloadRefused("too-large", f"{len(payload)} bytes, limit {self.limits.max_payload_bytes}")
        digest = _digest(topic, payload)
        name = message_id or digest.hex()
        with self._lock, self._transaction():
            known = self._known(name)
            if known is not None:
                if known[1] != digest:
                    raise MessageConflict("conflict", f"message id {name} is known with other content")
                return known[0]
            messages, size = self._db.execute("SELECT messages, bytes FROM tally").fetchone()
            if messages >= self.limits.max_messages:
                raise OutboxFull("messages", f"{messages} messages wait, limit {self.limits.max_messages}")
            if size + len(payload) > self.limits.max_bytes:
                raise OutboxFull("bytes", f"{size} bytes wait, limit {self.limits.max_bytes}")
            row = self._db.execute(
                "INSERT INTO message (message_id, topic, payload) VALUES (?, ?, ?)", (name, topic, payload)
            )
            assert row.lastrowid is not None  # noqa: S101 - an INSERT always has one
            return row.lastrowid

    def _known(self, name: str) -> tuple[int, bytes] | None:
        row = self._db.execute("SELECT sequence, topic, payload FROM message WHERE message_id = ?", (name,)).fetchone()
        if row is not None:
            return row[0], _digest(row[1], row[2])
        row = self._db.execute("SELECT sequence, digest FROM sent WHERE message_id = ?", (name,)).fetchone()
        return None if row is None else (row[0], row[1])

    def head(self, limit: int, after: int = 0) -> list[Message]:
        """The first `limit` waiting messages behind sequence `after`, in the order in which they were put."""
        with self._lock:
            rows = self._db.execute(
                "SELECT sequence, message_id, topic, payload FROM message"
                " WHERE acknowledged = 0 AND sequence > ? ORDER BY sequence LIMIT ?",
                (after, limit),
            ).fetchall()
        return [Message(*row) for row in rows]

    def acknowledge(self, sequences: Sequence[int]) -> None:
        """Mark rows whose PUBACK said success; they are no longer at the head, but still on disk."""
        with self._lock, self._transaction():
            self._db.executemany("UPDATE message SET acknowledged = 1 WHERE sequence = ?", [(s,) for s in sequences])

    def restore(self) -> int:
        """Queue again every acknowledged row that was not yet removed. Returns how many."""
        with self._lock, self._transaction():
            return self._db.execute("UPDATE message SET acknowledged = 0 WHERE acknowledged = 1").rowcount

    def done(self, sequences: int | Sequence[int]) -> None:
        """Remove delivered rows and remember their ids (the newest `remembered` of them)."""
        wanted = [sequences] if isinstance(sequences, int) else sequences
        with self._lock, self._transaction():
            for sequence in wanted:
                row = self._db.execute(
                    "DELETE FROM message WHERE sequence = ? RETURNING message_id, topic, payload", (sequence,)
                ).fetchone()
                if row is not None:
                    self._db.execute("INSERT INTO sent VALUES (?, ?, ?)", (sequence, row[0], _digest(row[1], row[2])))
            self._db.execute(
                "DELETE FROM sent WHERE sequence <= (SELECT max(sequence) FROM sent) - ?", (self.limits.remembered,)
            )

    def depth(self) -> int:
        """How many messages wait for a PUBACK."""
        with self._lock:
            count: int = self._db.execute("SELECT count(*) FROM message WHERE acknowledged = 0").fetchone()[0]
            return count


def _digest(topic: str, payload: bytes) -> bytes:
    return hashlib.sha256(topic.encode() + b"\0" + payload).digest()


def _statements(script: str) -> Iterator[str]:
    """The script's statements one by one: `executescript` would commit the transaction that makes creation atomic."""
    pending = ""
    for line in script.strip().splitlines():
        pending += line + "\n"
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
