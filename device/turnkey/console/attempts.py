"""How often a PIN was tried: five failures lock a badge for 15 minutes, and no restart unlocks it.

Rules kept here:
1. A try is on disk before the PIN is looked at: pulling the plug in between wins nothing, and neither do tries at the
   same time.
2. A badge that nobody has is counted like any other, so that a lock does not say which badges there are.
3. Old rows go when there are many: a stranger at the touch screen cannot fill the disk.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from turnkey.database import Database, Format

TRIES: Final = 5
LOCK: Final = timedelta(minutes=15)
MOST_ROWS: Final = 1000

_FORMAT: Final = Format(
    name="console",
    application_id=int.from_bytes(b"TKCN"),
    version=1,
    schema="""
    CREATE TABLE tries (
        badge TEXT PRIMARY KEY,
        failures INTEGER NOT NULL,
        last_at REAL NOT NULL
    ) STRICT;
    """,
)


class Attempts:
    """The counted tries, in a file of their own.

    Raises:
        StorageError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _FORMAT)

    def begin(self, badge: str, now: datetime) -> datetime | None:
        """Count one try as failed; `succeeded` takes it back.

        Args:
            now: wall clock, UTC.

        Returns:
            Until when the badge is locked, where it is: then the PIN must not be looked at. None: look at it.

        Raises:
            StorageError: it could not be counted, so the PIN must not be looked at.
        """
        with self._database.transaction():
            rows = self._database.rows("SELECT failures, last_at FROM tries WHERE badge = ?", badge)
            failures, last = (rows[0][0], datetime.fromtimestamp(rows[0][1], UTC)) if rows else (0, now)
            if failures >= TRIES:
                until = last + LOCK  # in the future too, where a clock was set back
                if now < until:
                    return until
                failures = 0
            self._database.execute(
                "INSERT INTO tries VALUES (?, ?, ?) ON CONFLICT (badge) DO UPDATE SET failures = ?, last_at = ?",
                *(badge, failures + 1, now.timestamp(), failures + 1, now.timestamp()),
            )
            self._database.execute(
                "DELETE FROM tries WHERE badge IN (SELECT badge FROM tries ORDER BY last_at DESC LIMIT -1 OFFSET ?)",
                MOST_ROWS,
            )
        return None

    def succeeded(self, badge: str) -> None:
        """The PIN was right: forget what failed before. Raises: StorageError."""
        with self._database.transaction():
            self._database.execute("DELETE FROM tries WHERE badge = ?", badge)

    def close(self) -> None:
        """Close the file."""
        self._database.close()
