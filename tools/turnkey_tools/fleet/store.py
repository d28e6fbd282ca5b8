"""What IT's view remembers: every attestation of the last while, and which devices were caught in a contradiction.

Rules kept here:
1. An attestation is on disk before the broker is told that it arrived.
2. Per device the newest `KEPT` stay: ten weeks of heartbeats against which a second history shows.
3. A fork is never forgotten by receiving a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from turnkey.database import Database, Format
from turnkey.envelope import peek
from turnkey.leads.records import Attestation
from turnkey_tools.fleet.judge import Believed, Lost, Reason, Refused, Verdict

KEPT: Final = 100_000
_LOST: Final = "CREATE TABLE lost (device_id TEXT PRIMARY KEY, place INTEGER NOT NULL) STRICT;\n"
_FORMAT: Final = Format(
    name="fleet view",
    application_id=0x544B464C,  # "TKFL"
    version=2,
    schema="""
CREATE TABLE attestation (
    device_id TEXT NOT NULL,
    place INTEGER NOT NULL,
    kind TEXT NOT NULL,
    digest TEXT NOT NULL,
    received_at TEXT NOT NULL,
    envelope BLOB NOT NULL,
    PRIMARY KEY (device_id, place)
) STRICT;
CREATE INDEX attestation_kind ON attestation (device_id, kind, place);
CREATE TABLE refusal (
    device_id TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, last_at TEXT NOT NULL,
    PRIMARY KEY (device_id, reason)
) STRICT;
"""
    + _LOST,
    upgrades=(_LOST,),
)


class Store:
    """The store at `path`, created (mode 0600) where there is none.

    Raises:
        StorageError: the file is not ours to use. It is left as it was.
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

    def digest_at(self, device_id: str, index: int) -> str | None:
        """See `judge.Memory`."""
        rows = self._db.rows("SELECT digest FROM attestation WHERE device_id = ? AND place = ?", device_id, index)
        return str(rows[0][0]) if rows else None

    def write(self, verdict: Verdict) -> None:
        """Write a verdict down, inside `transaction`."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        if isinstance(verdict, Lost):
            self._db.execute(
                "INSERT OR REPLACE INTO lost SELECT ?, coalesce(max(place), -1) FROM attestation WHERE device_id = ?",
                verdict.device_id,
                verdict.device_id,
            )
            return
        if isinstance(verdict, Refused):
            if verdict.reason is not Reason.DUPLICATE:
                self._db.execute(
                    "INSERT INTO refusal VALUES (?, ?, 1, ?)"
                    " ON CONFLICT DO UPDATE SET count = count + 1, last_at = excluded.last_at",
                    verdict.device_id,
                    verdict.reason,
                    now,
                )
            return
        self._write_believed(verdict, now)

    def _write_believed(self, believed: Believed, now: str) -> None:
        place = believed.attestation
        self._db.execute(
            "INSERT INTO attestation VALUES (?, ?, ?, ?, ?, ?)",
            place.device_id,
            place.index,
            place.event.kind,
            believed.digest,
            now,
            believed.envelope,
        )
        self._db.execute(
            "DELETE FROM attestation WHERE device_id = ? AND place <="
            " (SELECT place FROM attestation WHERE device_id = ? ORDER BY place DESC LIMIT 1 OFFSET ?)",
            place.device_id,
            place.device_id,
            KEPT,
        )

    def newest(
        self, device_id: str, kinds: Sequence[str] = ("boot", "switch", "heartbeat", "update")
    ) -> Attestation | None:
        """The attestation with the highest place, of some kinds; its signature was good when it was kept."""
        marks = ", ".join("?" * len(kinds))
        rows = self._db.rows(
            f"SELECT envelope FROM attestation WHERE device_id = ? AND kind IN ({marks})"  # noqa: S608 - question marks
            " ORDER BY place DESC LIMIT 1",
            device_id,
            *kinds,
        )
        return Attestation.model_validate_json(peek(rows[0][0]).payload) if rows else None

    def is_lost(self, device_id: str) -> bool:
        """Whether the broker said that the device's connection ended, and no newer attestation has come since."""
        query = (
            "SELECT 1 FROM lost WHERE device_id = ?"
            " AND place >= (SELECT coalesce(max(place), -1) FROM attestation WHERE device_id = ?)"
        )
        return bool(self._db.rows(query, device_id, device_id))

    def refusals(self, device_id: str) -> dict[str, int]:
        """How many messages under this device's topic were refused, by reason."""
        rows = self._db.rows("SELECT reason, count FROM refusal WHERE device_id = ?", device_id)
        return {str(reason): int(count) for reason, count in rows}
