"""The notary: what it signs is on the ledger, what is on the ledger leaves once, and nothing does after a stop."""

from __future__ import annotations

import itertools
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from turnkey.database import StorageDamaged, StorageError, StorageFull
from turnkey.envelope import SigningKey, verify
from turnkey.interlock.permit import Permit, Stopped
from turnkey.leads.records import (
    PAYLOAD_TYPE_LEAD,
    Enrolled,
    Expunged,
    Lead,
    LeadCandidate,
    LeadSigned,
    LedgerEntry,
    Refused,
)
from turnkey.notary.journal import Journal, Tally
from turnkey.notary.ledger import Frontier, leaf_hash
from turnkey.notary.notary import Clocks, LeadDraft, Notary
from turnkey.notary.proofs import consistent, included

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = SigningKey.generate()


class Shelf:
    """An outlet in memory, idempotent like the outbox, that can be full."""

    def __init__(self) -> None:
        self.envelopes: dict[str, bytes] = {}
        self.full = False

    def __call__(self, message_id: str, envelope: bytes) -> None:
        if self.full:
            raise StorageFull("messages", "full")
        self.envelopes[message_id] = envelope


def clocks(first_id: int = 1) -> Clocks:
    ids = itertools.count(first_id)
    return Clocks(lambda: NOW, lambda: 5, lambda: f"{next(ids):032x}")


def live() -> Permit:
    return Permit(lambda: 0, 10**9)


def draft() -> LeadDraft:
    candidate = LeadCandidate(rank=1, reference="C-2026-1", score=0.7, enrolled_at=NOW)
    return LeadDraft("a" * 32, "B-1", "cases", 3, 0.4, 0.01, "sface-0", "b" * 64, 60, (candidate,))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "ledger.db")


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def notary(journal: Journal, shelf: Shelf) -> Notary:
    return Notary(journal, KEY, shelf, device_id="booth-1", clocks=clocks())


def events(journal: Journal) -> list[LedgerEntry]:
    return [LedgerEntry.model_validate_json(data) for data in journal.entries()]


def test_a_lead_is_signed_on_the_ledger_and_handed_over(notary: Notary, journal: Journal, shelf: Shelf) -> None:
    lead = notary.submit(draft(), live())
    (envelope,) = shelf.envelopes.values()
    assert Lead.model_validate_json(verify(envelope, PAYLOAD_TYPE_LEAD, [KEY.public]).payload) == lead
    (entry,) = events(journal)
    assert isinstance(entry.event, LeadSigned)
    assert (entry.index, entry.event.sequence, entry.event.lead_id) == (0, 1, lead.lead_id)
    assert journal.waiting() == []


def test_sequences_grow_by_one_across_restarts(tmp_path: Path, shelf: Shelf) -> None:
    sequences = []
    for _ in range(3):
        journal = Journal(tmp_path / "ledger.db")
        again = clocks(len(sequences) * 10)
        sequences.append(
            Notary(journal, KEY, shelf, device_id="booth-1", clocks=again).submit(draft(), live()).sequence
        )
        journal.close()
    assert sequences == [1, 2, 3]


def test_nothing_is_kept_when_the_permit_is_dead(notary: Notary, journal: Journal, shelf: Shelf) -> None:
    permit = live()
    permit.revoke("key-opened")
    with pytest.raises(Stopped, match="key-opened"):
        notary.submit(draft(), permit)
    assert (journal.size, shelf.envelopes, journal.waiting()) == (0, {}, [])


def test_a_stop_between_signing_and_storing_keeps_nothing(notary: Notary, journal: Journal, shelf: Shelf) -> None:
    class DiesInside(Permit):
        def check(self) -> None:
            self.revoke("key-opened")
            super().check()

    with pytest.raises(Stopped):
        notary.submit(draft(), DiesInside(lambda: 0, 10**9))
    assert (journal.size, shelf.envelopes, journal.waiting()) == (0, {}, [])
    assert notary.submit(draft(), live()).sequence == 1
    assert journal.size == 1


def test_a_lead_the_outlet_could_not_take_is_kept_and_leaves_later(
    notary: Notary, journal: Journal, shelf: Shelf
) -> None:
    shelf.full = True
    notary.submit(draft(), live())
    with pytest.raises(StorageFull):
        notary.hand_over()
    assert [lead.sequence for lead in journal.waiting()] == [1]
    shelf.full = False
    notary.hand_over()
    notary.hand_over()
    assert len(shelf.envelopes) == 1
    assert journal.waiting() == []


def test_root_and_entries_agree_after_reopening(tmp_path: Path, notary: Notary, journal: Journal) -> None:
    for _ in range(5):
        notary.record(Refused(step="capture", reason="no-more-pictures"))
    frontier = Frontier()
    for data in journal.entries():
        frontier = frontier.append(leaf_hash(data))
    root = journal.root()
    journal.close()
    assert Journal(tmp_path / "ledger.db").root() == root == frontier.root()


def test_what_is_derived_is_made_anew_for_a_ledger_of_the_first_version(
    tmp_path: Path, notary: Notary, journal: Journal
) -> None:
    for row in range(1, 6):
        notary.record(Enrolled(attempt_id="a" * 32, partition="cases", row=row), live())
    notary.record(Expunged(partition="cases", row=2, reason="requested"))
    frontiers = [Frontier()]
    for data in journal.entries():
        frontiers.append(frontiers[-1].append(leaf_hash(data)))
    journal.close()
    raw = sqlite3.connect(tmp_path / "ledger.db")
    for table in ("node", "tally", "derived", "checkpoint", "standing"):
        raw.execute(f"DROP TABLE {table}")
    raw.execute("PRAGMA user_version=1")
    raw.commit()
    raw.close()
    again = Journal(tmp_path / "ledger.db")
    assert [again.root_at(size) for size in range(7)] == [frontier.root() for frontier in frontiers]
    assert [again.frontier_at(size) for size in range(7)] == frontiers
    assert (again.tally("cases"), again.tally("bookings")) == (Tally(4, 5), Tally(0, 0))
    assert again.standing_rows("cases", 0) == [1, 3, 4, 5]
    assert (again.standing_rows("cases", 4), again.standing_rows("bookings", 0)) == ([5], [])
    leaf = leaf_hash(again.entries()[3])
    assert included(leaf, 3, 6, again.inclusion(3, 6), again.root())
    assert consistent(4, 6, again.root_at(4), again.root(), again.consistency(4, 6))
    for wrong in (again.root_at, again.frontier_at, lambda size: again.consistency(1, size)):
        with pytest.raises(ValueError, match="6 entries, not 7"):
            wrong(7)


def test_two_notaries_on_one_ledger_do_not_fork_it(tmp_path: Path, notary: Notary, journal: Journal) -> None:
    other = Notary(Journal(tmp_path / "ledger.db"), KEY, Shelf(), device_id="booth-1", clocks=clocks())
    for who in (notary, other, notary, other):
        who.record(Refused(step="capture", reason="no-more-pictures"))
    assert [entry.index for entry in events(journal)] == [0, 1, 2, 3]


def test_entries_cannot_be_changed_or_deleted(tmp_path: Path, notary: Notary, journal: Journal) -> None:
    notary.record(Refused(step="capture", reason="no-more-pictures"))
    raw = sqlite3.connect(tmp_path / "ledger.db")
    for statement in ("DELETE FROM entry", "UPDATE entry SET data = x'00'"):
        with pytest.raises(sqlite3.IntegrityError, match="only grows"):
            raw.execute(statement)


def test_a_ledger_whose_tree_does_not_fit_its_entries_is_refused(
    tmp_path: Path, notary: Notary, journal: Journal
) -> None:
    notary.record(Refused(step="capture", reason="no-more-pictures"))
    journal.close()
    raw = sqlite3.connect(tmp_path / "ledger.db")
    raw.execute("UPDATE tree SET size = 0, roots = x''")
    raw.commit()
    raw.close()
    with pytest.raises(StorageDamaged, match="1 entries"):
        Journal(tmp_path / "ledger.db")


def test_an_unwritable_ledger_is_an_error_by_name(notary: Notary, journal: Journal) -> None:
    journal._database.execute("PRAGMA query_only=ON")
    with pytest.raises(StorageError):
        notary.record(Refused(step="capture", reason="no-more-pictures"))
    assert journal.size == 0
