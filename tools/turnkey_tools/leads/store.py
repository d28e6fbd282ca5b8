"""The lead desk's memory: accepted leads and a trail of refusals, in one SQLite file.

Rules kept here:
1. A lead is on disk before the broker is told that it arrived; a desk that dies in between gets it again.
2. Nothing here is ever changed or removed by receiving a message; envelopes are kept byte for byte, for discovery.
3. The trail of refusals is bounded, so that rubbish on a topic cannot fill the disk. Duplicates are not on it: they are
   ordinary at-least-once delivery.
"""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from turnkey_tools.leads.desk import Accepted, Reason, Refused, Verdict

APPLICATION_ID: Final = 0x544B4C44  # "TKLD"
SCHEMA_VERSION: Final = 1
MAX_REFUSALS: Final = 10_000
_MAX_TOPIC: Final = 200

_TABLES: Final = (
    "CREATE TABLE lead (device_id TEXT NOT NULL, sequence INTEGER NOT NULL, lead_id TEXT NOT NULL UNIQUE,"
    " digest TEXT NOT NULL, received_at TEXT NOT NULL, envelope BLOB NOT NULL,"
    " PRIMARY KEY (device_id, sequence)) STRICT",
    "CREATE TABLE refusal (id INTEGER PRIMARY KEY, received_at TEXT NOT NULL, topic TEXT NOT NULL,"
    " reason TEXT NOT NULL, detail TEXT NOT NULL) STRICT",
)


class StoreError(Exception):
    """The file is not a desk's store, is damaged, or is from a newer version. It is left as it was."""


class Store:
    """The store at `path`, created (mode 0600) where there is none.

    Raises:
        StoreError: the file is not ours to use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise StoreError(f"{path}: {error}") from error
        except StoreError:
            self._db.close()
            raise

    def _open(self) -> None:
        pages = self._db.execute("PRAGMA page_count").fetchone()[0]
        if pages and self._db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StoreError(f"{self.path}: not a lead desk's store")
        if self._db.execute("PRAGMA user_version").fetchone()[0] > SCHEMA_VERSION:
            raise StoreError(f"{self.path}: written by a newer version")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("BEGIN IMMEDIATE")
        if self._db.execute("PRAGMA user_version").fetchone()[0] == 0:
            for table in _TABLES:
                self._db.execute(table)
            self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._db.execute("COMMIT")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def digest_of(self, device_id: str, sequence: int) -> str | None:
        """See `desk.Memory`."""
        row = self._db.execute(
            "SELECT digest FROM lead WHERE device_id = ? AND sequence = ?", (device_id, sequence)
        ).fetchone()
        return None if row is None else str(row[0])

    def number_of(self, lead_id: str) -> tuple[str, int] | None:
        """See `desk.Memory`."""
        row = self._db.execute("SELECT device_id, sequence FROM lead WHERE lead_id = ?", (lead_id,)).fetchone()
        return None if row is None else (str(row[0]), int(row[1]))

    def highest(self, device_id: str) -> int:
        """See `desk.Memory`."""
        row = self._db.execute("SELECT max(sequence) FROM lead WHERE device_id = ?", (device_id,)).fetchone()
        return int(row[0] or 0)

    def missing(self, device_id: str) -> list[tuple[int, int]]:
        """Sequence numbers below the highest that never arrived, as inclusive ranges."""
        rows = self._db.execute(
            "SELECT previous + 1, sequence - 1 FROM"
            " (SELECT sequence, lag(sequence, 1, 0) OVER (ORDER BY sequence) AS previous FROM lead WHERE device_id = ?)"
            " WHERE sequence > previous + 1 ORDER BY sequence",
            (device_id,),
        )
        return [(int(first), int(last)) for first, last in rows]

    def leads(self) -> int:
        """How many leads were accepted."""
        return int(self._db.execute("SELECT count(*) FROM lead").fetchone()[0])

    def keep(self, verdict: Verdict) -> None:
        """Write a verdict down; on disk when this returns."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        if isinstance(verdict, Accepted):
            lead = verdict.lead
            self._db.execute(
                "INSERT INTO lead VALUES (?, ?, ?, ?, ?, ?)",
                (lead.device_id, lead.sequence, lead.lead_id, verdict.digest, now, verdict.envelope),
            )
        elif verdict.reason is not Reason.DUPLICATE:
            self._keep_refusal(verdict, now)

    def _keep_refusal(self, refused: Refused, now: str) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        topic = refused.topic[:_MAX_TOPIC].encode(errors="backslashreplace").decode()
        self._db.execute(
            "INSERT INTO refusal (received_at, topic, reason, detail) VALUES (?, ?, ?, ?)",
            (now, topic, refused.reason, refused.detail.encode(errors="backslashreplace").decode()),
        )
        self._db.execute("DELETE FROM refusal WHERE id <= (SELECT max(id) FROM refusal) - ?", (MAX_REFUSALS,))
        self._db.execute("COMMIT")

    def refusals(self) -> list[tuple[str, str]]:
        """Reason and detail of the refusals on the trail, oldest first."""
        return [(str(a), str(b)) for a, b in self._db.execute("SELECT reason, detail FROM refusal ORDER BY id")]
