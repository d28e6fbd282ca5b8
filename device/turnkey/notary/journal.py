"""The ledger on disk, and the signed leads that still have to reach the outbox. One SQLite file, owned by the notary.

Rules kept here:
1. Entries are only added. An index is the entry's place in the tree; nothing is ever updated or deleted.
2. An entry, the tree over it and (for a lead) its envelope are written in one transaction.
3. An envelope is on disk before anybody else sees it, and stays marked until the outbox has confirmed it, so a crash in
   between loses nothing.
4. What is derived from the entries (the tree's nodes, the tally of the gallery's rows) is written with them, and made
   anew out of them where a file of an earlier version has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from turnkey.database import Database, Format, StorageDamaged
from turnkey.leads.records import Enrolled, Expunged, LedgerEntry, PackEnrolled, Partition
from turnkey.notary.ledger import Frontier, leaf_hash, node_hash
from turnkey.notary.proofs import consistency_proof, inclusion_proof, tree_root

_ENTRIES = """
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
"""
_DERIVED = """
CREATE TABLE node (place INTEGER PRIMARY KEY, hash BLOB NOT NULL) STRICT;
CREATE TABLE tally (
    partition TEXT PRIMARY KEY CHECK (partition IN ('bookings', 'cases')),
    standing INTEGER NOT NULL DEFAULT 0,
    highest INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO tally (partition) VALUES ('bookings'), ('cases');
CREATE TABLE standing (row INTEGER PRIMARY KEY, partition TEXT NOT NULL) STRICT;
CREATE INDEX standing_partition ON standing (partition, row);
CREATE TABLE derived (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL) STRICT;
INSERT INTO derived VALUES (1, 0);
CREATE TABLE checkpoint (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, note TEXT NOT NULL) STRICT;
"""

FORMAT = Format(
    name="ledger",
    application_id=int.from_bytes(b"TKLG"),
    version=2,
    schema=_ENTRIES + _DERIVED,
    upgrades=(_DERIVED,),
)
_BATCH = 1000


@dataclass(frozen=True)
class SignedLead:
    """A lead's envelope as it was signed."""

    sequence: int
    lead_id: str
    envelope: bytes


@dataclass(frozen=True)
class SignedCheckpoint:
    """A checkpoint as its note was signed, and the size of its tree."""

    size: int
    note: str


@dataclass(frozen=True)
class Tally:
    """What the ledger says of a partition of the gallery.

    Attributes:
        standing: rows enrolled and not expunged.
        highest: highest row number ever enrolled, 0 where there is none.
    """

    standing: int
    highest: int


class Journal:
    """The ledger's file at `path`.

    Raises:
        StorageError: see `turnkey.database.Database`; also where tree and entries disagree.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, FORMAT)
        try:
            self._frontier = self._read_frontier()
            self._derive_missing()
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
        self._derive(place, kind, data)
        self._database.execute("UPDATE derived SET size = ?", place + 1)
        return place

    def _derive(self, place: int, kind: str, data: bytes) -> None:
        """Store the nodes that this entry completes, and count the gallery's row where it speaks of one."""
        level, hashed = 0, leaf_hash(data)
        self._database.execute("INSERT INTO node VALUES (?, ?)", _node_place(0, place), hashed)
        while place & 1:
            hashed = node_hash(self._node(level, place - 1), hashed)
            level, place = level + 1, place >> 1
            self._database.execute("INSERT INTO node VALUES (?, ?)", _node_place(level, place), hashed)
        if kind in ("enrolment", "template-pack-enrolment", "expungement"):
            self._count(LedgerEntry.model_validate_json(data))

    def _count(self, entry: LedgerEntry) -> None:
        match entry.event:
            case Enrolled(partition=partition, row=row):
                self._count_enrolled(partition, row, 1)
            case PackEnrolled(partition=partition, first_row=row, rows=count):
                self._count_enrolled(partition, row, count)
            case Expunged(partition=partition, row=row):
                self._database.execute("DELETE FROM standing WHERE row = ?", row)
                self._database.execute("UPDATE tally SET standing = standing - 1 WHERE partition = ?", partition)

    def _count_enrolled(self, partition: Partition, first: int, count: int) -> None:
        self._database.execute(
            "UPDATE tally SET standing = standing + ?, highest = max(highest, ?) WHERE partition = ?",
            count,
            first + count - 1,
            partition,
        )
        for row in range(first, first + count):
            self._database.execute("INSERT OR REPLACE INTO standing VALUES (?, ?)", row, partition)

    def _derive_missing(self) -> None:
        """Derive what an earlier version of this file did not hold."""
        ((done,),) = self._database.rows("SELECT size FROM derived")
        while done < self._frontier.size:
            with self._database.transaction():
                for place, kind, data in self._database.rows(
                    "SELECT place, kind, data FROM entry WHERE place >= ? ORDER BY place LIMIT ?", done, _BATCH
                ):
                    self._derive(place, kind, data)
                    done = place + 1
                self._database.execute("UPDATE derived SET size = ?", done)

    def _node(self, level: int, place: int) -> bytes:
        rows = self._database.rows("SELECT hash FROM node WHERE place = ?", _node_place(level, place))
        if not rows:
            raise StorageDamaged("corrupt", f"{self._database.path}: the tree has no node {place} of level {level}")
        return bytes(rows[0][0])

    def root_at(self, size: int) -> bytes:
        """Root hash of the tree over the first `size` entries, 32 bytes.

        Raises:
            ValueError: there are not so many.
        """
        if not 0 <= size <= self.size:
            raise ValueError(f"there are {self.size} entries, not {size}")
        return tree_root(0, size, self._node) if size else Frontier().root()

    def frontier_at(self, size: int) -> Frontier:
        """The tree over the first `size` entries. Raises: ValueError: there are not so many."""
        if not 0 <= size <= self.size:
            raise ValueError(f"there are {self.size} entries, not {size}")
        roots, start = [], 0
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                roots.append(self._node(level, start >> level))
                start += 1 << level
        return Frontier(size, tuple(roots))

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Proof that the entry at `index` is in the tree of `size` entries. Raises: ValueError: it is not."""
        return inclusion_proof(index, min(size, self.size), self._node)

    def consistency(self, first: int, second: int) -> tuple[bytes, ...]:
        """Proof that the tree of `second` entries only added to that of `first`.

        Raises:
            ValueError: they are not sizes that this tree had, in this order.
        """
        if second > self.size:
            raise ValueError(f"there are {self.size} entries, not {second}")
        return consistency_proof(first, second, self._node)

    def tally(self, partition: Partition) -> Tally:
        """What the entries say of a partition of the gallery."""
        ((standing, highest),) = self._database.rows(
            "SELECT standing, highest FROM tally WHERE partition = ?", partition
        )
        return Tally(standing, highest)

    def standing_rows(self, partition: Partition, after: int) -> list[int]:
        """Rows enrolled and not expunged, rising: the next few above `after`; none: that was all."""
        rows = self._database.rows(
            "SELECT row FROM standing WHERE partition = ? AND row > ? ORDER BY row LIMIT ?", partition, after, _BATCH
        )
        return [int(row) for (row,) in rows]

    def keep_checkpoint(self, checkpoint: SignedCheckpoint) -> None:
        """Keep the newest signed checkpoint in place of the one before, inside `transaction`."""
        self._database.execute(
            "INSERT INTO checkpoint VALUES (1, ?, ?) ON CONFLICT DO UPDATE SET size = excluded.size,"
            " note = excluded.note",
            checkpoint.size,
            checkpoint.note,
        )

    def checkpoint(self) -> SignedCheckpoint | None:
        """The newest signed checkpoint; None before the first."""
        rows = self._database.rows("SELECT size, note FROM checkpoint")
        return SignedCheckpoint(*rows[0]) if rows else None

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

    def count(self, kind: str, since: int) -> int:
        """How many entries of a kind there are from place `since` on."""
        ((number,),) = self._database.rows("SELECT count(*) FROM entry WHERE kind = ? AND place >= ?", kind, since)
        return int(number)

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


def _node_place(level: int, place: int) -> int:
    """One number for each node, by in-order numbering of an unbounded tree: leaves are the even ones."""
    return (2 * place + 1 << level) - 1
