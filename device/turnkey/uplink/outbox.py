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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from turnkey.database import Database, Format, StorageError, StorageFull

FORMAT: Final = Format(
    name="outbox",
    application_id=0x544B4F42,  # "TKOB"
    version=1,
    schema="""
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
""",
)


class OutboxFull(StorageFull):
    """A limit is reached: stop capturing. Reasons: messages, bytes. (A full disk is `StorageFull`, reason disk.)"""


class PayloadRefused(StorageError):
    """The payload can never be sent. Reasons: empty, too-large."""


class MessageConflict(StorageError):
    """The message id is known with another topic or payload: the caller confused two messages."""


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """What the outbox may hold.

    Attributes:
        max_messages: rows; 100 000 is years of bookings, or ten weeks of heartbeats, without a broker.
        max_bytes: sum of payloads, bytes.
        max_payload_bytes: one payload, bytes; the broker's `max_packet_size` must be larger than this.
        remembered: how many removed message ids stay known, so that a late second `put` is still recognised.
    """

    max_messages: int = 100_000
    max_bytes: int = 512 * 1024 * 1024
    max_payload_bytes: int = 64 * 1024
    remembered: int = 10_000


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
        StorageDamaged, StorageNewer, StorageError: the file is not ours to use; it is left untouched.
    """

    def __init__(self, path: Path, limits: OutboxLimits | None = None) -> None:
        self.path = path
        self.limits = limits or OutboxLimits()
        self._db = Database(path, FORMAT)

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. What was put stays put."""
        self._db.close()

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
        with self._db.transaction():
            known = self._known(name)
            if known is not None:
                if known[1] != digest:
                    raise MessageConflict("conflict", f"message id {name} is known with other content")
                return known[0]
            messages, size = self._db.rows("SELECT messages, bytes FROM tally")[0]
            if messages >= self.limits.max_messages:
                raise OutboxFull("messages", f"{messages} messages wait, limit {self.limits.max_messages}")
            if size + len(payload) > self.limits.max_bytes:
                raise OutboxFull("bytes", f"{size} bytes wait, limit {self.limits.max_bytes}")
            row = self._db.execute(
                "INSERT INTO message (message_id, topic, payload) VALUES (?, ?, ?) RETURNING sequence",
                name,
                topic,
                payload,
            ).fetchone()
            return int(row[0])

    def _known(self, name: str) -> tuple[int, bytes] | None:
        for sequence, topic, payload in self._db.rows(
            "SELECT sequence, topic, payload FROM message WHERE message_id = ?", name
        ):
            return sequence, _digest(topic, payload)
        for sequence, digest in self._db.rows("SELECT sequence, digest FROM sent WHERE message_id = ?", name):
            return sequence, digest
        return None

    def head(self, limit: int, after: int = 0) -> list[Message]:
        """The first `limit` waiting messages behind sequence `after`, in the order in which they were put."""
        rows = self._db.rows(
            "SELECT sequence, message_id, topic, payload FROM message"
            " WHERE acknowledged = 0 AND sequence > ? ORDER BY sequence LIMIT ?",
            after,
            limit,
        )
        return [Message(*row) for row in rows]

    def acknowledge(self, sequences: Sequence[int]) -> None:
        """Mark rows whose PUBACK said success; they are no longer at the head, but still on disk."""
        with self._db.transaction():
            for sequence in sequences:
                self._db.execute("UPDATE message SET acknowledged = 1 WHERE sequence = ?", sequence)

    def restore(self) -> int:
        """Queue again every acknowledged row that was not yet removed. Returns how many."""
        with self._db.transaction():
            return self._db.execute("UPDATE message SET acknowledged = 0 WHERE acknowledged = 1").rowcount

    def done(self, sequences: int | Sequence[int]) -> None:
        """Remove delivered rows and remember their ids (the newest `remembered` of them)."""
        with self._db.transaction():
            for sequence in [sequences] if isinstance(sequences, int) else sequences:
                for message_id, topic, payload in self._db.execute(
                    "DELETE FROM message WHERE sequence = ? RETURNING message_id, topic, payload", sequence
                ).fetchall():
                    digest = _digest(topic, payload)
                    self._db.execute("INSERT INTO sent VALUES (?, ?, ?)", sequence, message_id, digest)
            self._db.execute(
                "DELETE FROM sent WHERE sequence <= (SELECT max(sequence) FROM sent) - ?", self.limits.remembered
            )

    def depth(self, topic: str | None = None) -> int:
        """How many messages wait for a PUBACK; of one topic where it is given."""
        condition = "acknowledged = 0 AND topic = coalesce(?, topic)"
        return int(self._db.rows(f"SELECT count(*) FROM message WHERE {condition}", topic)[0][0])  # noqa: S608 - constant


def _digest(topic: str, payload: bytes) -> bytes:
    return hashlib.sha256(topic.encode() + b"\0" + payload).digest()
