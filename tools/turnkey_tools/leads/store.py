"""The lead desk's memory: accepted leads and a trail of refusals, in one SQLite file.

Rules kept here:
1. A lead is on disk before the broker is told that it arrived; a desk that dies in between gets it again.
2. Nothing here is ever changed or removed by receiving a message; envelopes are kept byte for byte, for discovery.
3. The trail of refusals is bounded, so that rubbish on a topic cannot fill the disk. Duplicates are not on it: they are
   ordinary at-least-once delivery.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from turnkey.database import Database, Format
from turnkey_tools.leads.desk import Accepted, Reason, Refused, Verdict

MAX_REFUSALS: Final = 10_000
_MAX_TOPIC: Final = 200

_REVIEW: Final = """
CREATE TABLE examiner (name TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE action (
    id INTEGER PRIMARY KEY, lead_id TEXT NOT NULL, kind TEXT NOT NULL, examiner TEXT NOT NULL, envelope BLOB NOT NULL,
    UNIQUE (lead_id, kind, examiner)
) STRICT;
CREATE TABLE trail (place INTEGER PRIMARY KEY, lead_id TEXT NOT NULL, entry BLOB NOT NULL, hash TEXT NOT NULL) STRICT;
CREATE INDEX trail_lead ON trail (lead_id, place);
CREATE TRIGGER action_is_final_1 BEFORE UPDATE ON action BEGIN SELECT raise(ABORT, 'what was signed stays'); END;
CREATE TRIGGER action_is_final_2 BEFORE DELETE ON action BEGIN SELECT raise(ABORT, 'what was signed stays'); END;
CREATE TRIGGER trail_only_grows_1 BEFORE UPDATE ON trail BEGIN SELECT raise(ABORT, 'the trail only grows'); END;
CREATE TRIGGER trail_only_grows_2 BEFORE DELETE ON trail BEGIN SELECT raise(ABORT, 'the trail only grows'); END;
"""

_FORMAT: Final = Format(
    name="lead desk's store",
    application_id=0x544B4C44,  # "TKLD"
    version=2,
    upgrades=(_REVIEW,),
    schema="""
CREATE TABLE lead (
    device_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    lead_id TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    received_at TEXT NOT NULL,
    envelope BLOB NOT NULL,
    PRIMARY KEY (device_id, sequence)
) STRICT;
CREATE TABLE refusal (
    id INTEGER PRIMARY KEY, received_at TEXT NOT NULL, topic TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL
) STRICT;
"""
    + _REVIEW,
)


@dataclass(frozen=True, slots=True)
class Received:
    """An accepted lead as it lies in the store: its id, the digest of what was signed, when it came, the envelope."""

    lead_id: str
    digest: str
    received_at: str
    envelope: bytes


class Store:
    """The store at `path`, created (mode 0600) where there is none.

    Raises:
        StorageError: the file is not ours to use, or damaged, or newer. It is left as it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = Database(path, _FORMAT)
        self._db = self.database

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def digest_of(self, device_id: str, sequence: int) -> str | None:
        """See `desk.Memory`."""
        rows = self._db.rows("SELECT digest FROM lead WHERE device_id = ? AND sequence = ?", device_id, sequence)
        return str(rows[0][0]) if rows else None

    def number_of(self, lead_id: str) -> tuple[str, int] | None:
        """See `desk.Memory`."""
        rows = self._db.rows("SELECT device_id, sequence FROM lead WHERE lead_id = ?", lead_id)
        return (str(rows[0][0]), int(rows[0][1])) if rows else None

    def highest(self, device_id: str) -> int:
        """See `desk.Memory`."""
        return int(self._db.rows("SELECT max(sequence) FROM lead WHERE device_id = ?", device_id)[0][0] or 0)

    def missing(self, device_id: str) -> list[tuple[int, int]]:
        """Sequence numbers below the highest that never arrived, as inclusive ranges."""
        rows = self._db.rows(
            "SELECT previous + 1, sequence - 1 FROM"
            " (SELECT sequence, lag(sequence, 1, 0) OVER (ORDER BY sequence) AS previous FROM lead WHERE device_id = ?)"
            " WHERE sequence > previous + 1 ORDER BY sequence",
            device_id,
        )
        return [(int(first), int(last)) for first, last in rows]

    def leads(self) -> int:
        """How many leads were accepted."""
        return int(self._db.rows("SELECT count(*) FROM lead")[0][0])

    def transaction(self) -> AbstractContextManager[None]:
        """All that is written inside is on disk afterwards, or none of it where anything was raised.

        Raises:
            StorageError: it could not be written. Do not acknowledge the messages.
        """
        return self._db.transaction()

    def keep(self, verdict: Verdict) -> None:
        """Write a verdict down; on disk when this returns. Raises: see `transaction`."""
        with self.transaction():
            self.write(verdict)

    def write(self, verdict: Verdict) -> None:
        """Write a verdict down, inside `transaction`."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        if isinstance(verdict, Accepted):
            self._write_lead(verdict, now)
        elif verdict.reason is not Reason.DUPLICATE:
            self._write_refusal(verdict, now)

    def _write_lead(self, accepted: Accepted, now: str) -> None:
        lead = accepted.lead
        self._db.execute(
            "INSERT INTO lead VALUES (?, ?, ?, ?, ?, ?)",
            lead.device_id,
            lead.sequence,
            lead.lead_id,
            accepted.digest,
            now,
            accepted.envelope,
        )

    def _write_refusal(self, refused: Refused, now: str) -> None:
        self._db.execute(
            "INSERT INTO refusal (received_at, topic, reason, detail) VALUES (?, ?, ?, ?)",
            now,
            _storable(refused.topic[:_MAX_TOPIC]),
            refused.reason,
            _storable(refused.detail),
        )
        self._db.execute("DELETE FROM refusal WHERE id <= (SELECT max(id) FROM refusal) - ?", MAX_REFUSALS)

    def received(self) -> list[Received]:
        """Every accepted lead, oldest first."""
        return [
            Received(*row)
            for row in self._db.rows(
                "SELECT lead_id, digest, received_at, envelope FROM lead ORDER BY received_at, device_id, sequence"
            )
        ]

    def find(self, beginning: str) -> list[Received]:
        """The accepted leads whose id begins so."""
        return [lead for lead in self.received() if lead.lead_id.startswith(beginning)]

    def refusals(self) -> list[tuple[str, str]]:
        """Reason and detail of the refusals on the trail, oldest first."""
        return [
            (str(reason), str(detail))
            for reason, detail in self._db.rows("SELECT reason, detail FROM refusal ORDER BY id")
        ]


def _storable(text: str) -> str:
    """Lone surrogates are not UTF-8 and SQLite would refuse them."""
    return text.encode(errors="backslashreplace").decode()
