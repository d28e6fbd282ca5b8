"""The ledger on disk, and the signed leads that still have to reach the outbox. One SQLite file, owned by the notary.

Rules kept here:
1. Entries are only added. An index is the entry's place in the tree; nothing is ever updated or deleted.
2. An entry, the tree over it and (for a lead) its envelope are written in one transaction.
3. An envelope is on disk before anybody else sees it, and stays marked until the outbox has confirmed it, so a crash in
   between loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from turnkey.database import Database, Format, StorageDamaged
from turnkey.notary.ledger import Frontier, leaf_hash

FORMAT = Format(
    name="ledger",
    application_id=int.from_bytes(b"TKLG"),
    version=1,
    schema="""
CREATE TABLE entry (place INTEGER PRIMARY KEY, kind TEXT NOT NULL, data BLOB NOT NULL) STRICT;
CREATE INDEX entry_kind ON entry (kind, place);
CREATE TABLE tree (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, roots BLOB NOT NULL) STRICT;
INSERT INTO tree VALUES (1, 0, x'');
CREATE TABLE lead (
    sequence INTEGER PRIMARY KEY,
    lead_id TEXT NOT NULL UNIQUE,
    envelope BLOB NOT NULL,
    handed_over INTEGER NOT NULL DEFAULT 0 CHECK (handed_over IN (0, 1))
) STRICT;
CREATE INDEX lead_waiting ON lead (sequence) WHERE handed_over = 0;
CREATE TRIGGER entry_is_final_1 BEFORE UPDATE ON entry BEGIN SELECT raise(ABORT, 'the ledger only grows'); END;
CREATE TRIGGER entry_is_final_2 BEFORE DELETE ON entry BEGIN SELECT raise(ABORT, 'the ledger only grows'); END;
""",
)


@dataclass(frozen=True)
class SignedLead:
    """A lead's envelope as it was signed."""

    sequence: int
    lead_id: str
    envelope: bytes


class Journal:
    """The ledger's file at `path`.

    Raises:
        StorageError: see `turnkey.database.Database`; also where tree and entries disagree.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, FORMAT)
        try:
            self._frontier = self._read_frontier()
        except BaseException:
            self._database.close()
            raise

    def _read_frontier(self) -> Frontier:
        ((size, roots),) = self._database.rows("SELECT size, roots FROM tree")
        ((last,),) = self._database.rows("SELECT coalesce(max(place), -1) FROM entry")
        try:
            frontier = Frontier.from_bytes(size, roots)
        except ValueError as error:
            raise StorageDamaged("corrupt", f"{self._database.path}: the tree is not one of {size} entries") from error
        if last != size - 1:
            raise StorageDamaged("corrupt", f"{self._database.path}: {last + 1} entries, but a tree of {size}")
        return frontier

    @property
    def size(self) -> int:
        """How many entries there are."""
        return self._frontier.size

    def root(self) -> bytes:
        """Root hash of the tree over all entries, 32 bytes."""
        return self._frontier.root()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is appended inside is kept whole, or not at all where anything was raised."""
        before = self._frontier
        try:
            with self._database.transaction():
                # Another process may have appended since (the device's command line beside the services).
                self._frontier = self._read_frontier()
                yield
        except BaseException:
            self._frontier = before
            raise

    def append(self, kind: str, data: bytes) -> int:
        """Add one entry of a kind (an event's `kind`), inside `transaction`. Returns its place."""
        place = self._frontier.size
        self._frontier = self._frontier.append(leaf_hash(data))
        self._database.execute("INSERT INTO entry VALUES (?, ?, ?)", place, kind, data)
        self._database.execute("UPDATE tree SET size = ?, roots = ?", self._frontier.size, self._frontier.to_bytes())
        return place

    def next_sequence(self) -> int:
        """The next lead's sequence, to be used inside the same `transaction`."""
        ((last,),) = self._database.rows("SELECT coalesce(max(sequence), 0) FROM lead")
        return int(last) + 1

    def keep(self, lead: SignedLead) -> None:
        """Store a signed lead, inside `transaction`."""
        self._database.execute(
            "INSERT INTO lead (sequence, lead_id, envelope) VALUES (?, ?, ?)",
            lead.sequence,
            lead.lead_id,
            lead.envelope,
        )

    def waiting(self) -> list[SignedLead]:
        """Signed leads that the outbox has not confirmed, in order."""
        rows = self._database.rows(
            "SELECT sequence, lead_id, envelope FROM lead WHERE handed_over = 0 ORDER BY sequence"
        )
        return [SignedLead(*row) for row in rows]

    def handed_over(self, sequence: int) -> None:
        """The outbox has confirmed this lead."""
        with self._database.transaction():
            self._database.execute("UPDATE lead SET handed_over = 1 WHERE sequence = ?", sequence)

    def entries(self, start: int = 0, limit: int = 1000) -> list[bytes]:
        """Up to `limit` entries from place `start` on."""
        rows = self._database.rows("SELECT data FROM entry WHERE place >= ? ORDER BY place LIMIT ?", start, limit)
        return [row[0] for row in rows]

    def last(self, kind: str) -> bytes | None:
        """The newest entry of a kind; None where there is none."""
        rows = self._database.rows("SELECT data FROM entry WHERE kind = ? ORDER BY place DESC LIMIT 1", kind)
        return rows[0][0] if rows else None

    def of_kind(self, kind: str) -> Iterator[bytes]:
        """Every entry of a kind, oldest first, read one by one."""
        place = -1
        while rows := self._database.rows(
            "SELECT place, data FROM entry WHERE kind = ? AND place > ? ORDER BY place LIMIT 1", kind, place
        ):
            ((place, data),) = rows
            yield data

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._database.close()
