"""Which case packets were used, on disk, for good: a packet is worked on once.

Rules kept here:
1. A packet is marked before it is worked on: a crash in between costs the packet, never gives a second search.
2. Asking and marking are one transaction.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from turnkey.database import Database, Format

_FORMAT: Final = Format(
    name="list of used case packets",
    application_id=int.from_bytes(b"TKPU"),
    version=1,
    schema="CREATE TABLE used_packet (packet_id TEXT PRIMARY KEY, used_at TEXT NOT NULL) WITHOUT ROWID;",
)


class UsedPackets:
    """The list at `path`, created where there is none.

    Raises:
        StorageError: the file is not ours to use.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _FORMAT)

    def take(self, packet_id: str, now: datetime) -> bool:
        """Mark a packet as used; False where it was already. On disk when this returns.

        Raises:
            StorageError: it cannot be written; the packet is not marked.
        """
        with self._database.transaction():
            marked = self._database.execute(
                "INSERT OR IGNORE INTO used_packet (packet_id, used_at) VALUES (?, ?)", packet_id, now.isoformat()
            )
            return marked.rowcount == 1

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._database.close()
