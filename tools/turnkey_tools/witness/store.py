"""A witness's durable memory: every tree that it believed, what it cosigned and when, and the forks that it caught.

Rules kept here:
1. What was believed is on disk before it is cosigned; a cosignature is on disk before anybody gets it.
2. Nothing is ever changed or deleted. A fork stays for good.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from turnkey.database import Database, Format
from turnkey.notary.note import Checkpoint, parse_note
from turnkey_tools.witness.judge import Consistent, Fork, Known, Refused, Verdict

_FORMAT: Final = Format(
    name="witness",
    application_id=int.from_bytes(b"TKWI"),
    version=1,
    schema="""
CREATE TABLE seen (
    device_id TEXT NOT NULL, size INTEGER NOT NULL, note TEXT NOT NULL, PRIMARY KEY (device_id, size)
) STRICT, WITHOUT ROWID;
CREATE TABLE cosigned (
    device_id TEXT NOT NULL, time_s INTEGER NOT NULL, size INTEGER NOT NULL, note TEXT NOT NULL,
    PRIMARY KEY (device_id, time_s)
) STRICT, WITHOUT ROWID;
CREATE TABLE fork (
    device_id TEXT NOT NULL, one TEXT NOT NULL, two TEXT NOT NULL, PRIMARY KEY (device_id, one, two)
) STRICT, WITHOUT ROWID;
CREATE TABLE refusal (
    device_id TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (device_id, reason)
) STRICT, WITHOUT ROWID;
""",
)


class Store:
    """The memory at `path`, created (mode 0600) where there is none.

    Raises:
        StorageError: the file is not ours to use.
    """

    def __init__(self, path: Path) -> None:
        self._db = Database(path, _FORMAT)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def transaction(self) -> AbstractContextManager[None]:
        """All that is written inside is on disk afterwards, or none of it."""
        return self._db.transaction()

    def devices(self) -> list[str]:
        """Devices of which anything was believed."""
        return [str(row[0]) for row in self._db.rows("SELECT DISTINCT device_id FROM seen ORDER BY device_id")]

    def newest(self, device_id: str) -> Known | None:
        """See `judge.Memory`."""
        return self._known("SELECT note FROM seen WHERE device_id = ? ORDER BY size DESC LIMIT 1", device_id)

    def at(self, device_id: str, size: int) -> Known | None:
        """See `judge.Memory`."""
        return self._known("SELECT note FROM seen WHERE device_id = ? AND size = ?", device_id, size)

    def sizes(self, device_id: str) -> list[tuple[int, str]]:
        """Size and note of every tree believed, by size."""
        return [
            (int(size), str(note))
            for size, note in self._db.rows("SELECT size, note FROM seen WHERE device_id = ? ORDER BY size", device_id)
        ]

    def _known(self, query: str, *values: object) -> Known | None:
        rows = self._db.rows(query, *values)
        if not rows:
            return None
        note = str(rows[0][0])
        return Known(Checkpoint.from_text(parse_note(note).text), note)

    def write(self, verdict: Verdict) -> None:
        """Keep a verdict, inside `transaction`."""
        match verdict:
            case Consistent(device_id, known):
                self._db.execute(
                    "INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", device_id, known.checkpoint.size, known.note
                )
            case Fork(device_id, one, two):
                self._db.execute("INSERT OR IGNORE INTO fork VALUES (?, ?, ?)", device_id, one, two)
            case Refused(device_id, reason) if reason != "duplicate":
                self._db.execute(
                    "INSERT INTO refusal VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
                    device_id,
                    reason,
                )

    def cosigned_last(self, device_id: str) -> tuple[int, int]:
        """Time (POSIX seconds) and size of the newest cosignature; (0, 0): there is none."""
        rows = self._db.rows(
            "SELECT time_s, size FROM cosigned WHERE device_id = ? ORDER BY time_s DESC LIMIT 1", device_id
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    def keep_cosigned(self, device_id: str, time_s: int, size: int, note: str) -> None:
        """Keep a cosignature, inside `transaction`."""
        self._db.execute("INSERT INTO cosigned VALUES (?, ?, ?, ?)", device_id, time_s, size, note)

    def cosigned(self, device_id: str) -> list[str]:
        """Every cosigned checkpoint, oldest first."""
        rows = self._db.rows("SELECT note FROM cosigned WHERE device_id = ? ORDER BY time_s", device_id)
        return [str(row[0]) for row in rows]

    def forks(self, device_id: str) -> list[tuple[str, str]]:
        """Pairs of notes that contradict each other."""
        rows = self._db.rows("SELECT one, two FROM fork WHERE device_id = ?", device_id)
        return [(str(one), str(two)) for one, two in rows]

    def refusals(self, device_id: str) -> dict[str, int]:
        """How many messages in a device's name were not believed, by reason."""
        rows = self._db.rows("SELECT reason, count FROM refusal WHERE device_id = ?", device_id)
        return {str(reason): int(count) for reason, count in rows}
