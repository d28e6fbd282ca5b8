"""Attestations: what of the ledger is published, signed, and how a heartbeat fails."""

from __future__ import annotations

import itertools
import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest
from patience import PATIENCE_S

from turnkey.database import StorageError, StorageFull
from turnkey.device import Device
from turnkey.envelope import SigningKey, verify
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.leads.records import (
    PAYLOAD_TYPE_ATTESTATION,
    Attestation,
    Boot,
    Captured,
    Heartbeat,
    LedgerEntry,
    SwitchChanged,
    schemas,
)
from turnkey.leads.upkeep import Updated
from turnkey.notary.heartbeat import Heart
from turnkey.notary.journal import Journal
from turnkey.notary.notary import Clocks, Notary
from turnkey.notary.note import Checkpoint, log_verifier, origin_of, read_checkpoint
from turnkey.notary.proofs import consistent
from turnkey_tools.pilot import Pilot

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = SigningKey.generate()
BOOT = Boot(software="1.0", models={"sface": "ab" * 32})
SWITCH = SwitchChanged(
    previous="RUNNING", state="MORATORIUM", reason="key-open", channel_a=False, channel_b=False, epoch=2
)
UPDATE = Updated(step="arrived", what="bundle", version="1.4", digest="ab" * 32, reason="runs")
BEAT = Heartbeat(
    software="1.0", state="RUNNING", reason="released", epoch=1, channel_a=True, channel_b=True, relay_closed=None,
    policy="in-force", leads_waiting=0, uptime_s=60,
)  # fmt: skip
RUNNING = SWITCH.model_copy(update={"previous": "MORATORIUM", "state": "RUNNING", "epoch": 1})
CAPTURE = Captured(attempt_id="a" * 32, frames=5, purpose="booking")


class Shelf:
    def __init__(self, full: bool = False) -> None:
        self.envelopes: list[bytes] = []
        self.full = full

    def __call__(self, message_id: str, envelope: bytes) -> None:
        if self.full:
            raise StorageFull("messages", "full")
        self.envelopes.append(envelope)


def notary(journal: Journal, attestations: Shelf | None) -> Notary:
    ids = itertools.count(1)
    clocks = Clocks(lambda: NOW, lambda: 5, lambda: f"{next(ids):032x}")
    return Notary(journal, KEY, Shelf(), device_id="booth-1", clocks=clocks, attestations=attestations)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "ledger.db")


def read(envelope: bytes) -> Attestation:
    payload = verify(envelope, PAYLOAD_TYPE_ATTESTATION, [KEY.public]).payload
    jsonschema.validate(json.loads(payload), schemas()["attestation.v1.json"])
    return Attestation.model_validate_json(payload)


def test_an_attestation_is_the_entry_and_the_tree_that_it_made(journal: Journal) -> None:
    shelf = Shelf()
    witness = notary(journal, shelf)
    for event in (BOOT, SWITCH, BEAT, UPDATE):
        witness.record(event)
        attestation = read(shelf.envelopes[-1])
        assert attestation.entry() == LedgerEntry.model_validate_json(journal.entries()[attestation.index])
        assert attestation.ledger_root == journal.root().hex()
        assert attestation.event == event
    assert len(shelf.envelopes) == 4


def test_each_attestation_proves_that_the_ledger_only_grew(journal: Journal) -> None:
    shelf = Shelf()
    witness = notary(journal, shelf)
    log = log_verifier("booth-1", KEY.public)
    for event in (BOOT, RUNNING, CAPTURE, CAPTURE, BEAT, SWITCH):
        witness.record(event)
    attestations = [read(envelope) for envelope in shelf.envelopes]
    before = Checkpoint(origin_of("booth-1"), 0, b"")
    for attestation in attestations:
        now = read_checkpoint(attestation.checkpoint, log)
        proof = [bytes.fromhex(step) for step in attestation.consistency]
        assert (now.size, now.root.hex()) == (attestation.index + 1, attestation.ledger_root)
        assert attestation.previous_size == before.size
        assert not before.size or consistent(before.size, now.size, before.root, now.root, proof)
        before = now
    assert [attestation.previous_size for attestation in attestations] == [0, 1, 2, 5]


def test_the_last_signed_checkpoint_stays_on_the_ledgers_disk(journal: Journal) -> None:
    notary(journal, None).record(BOOT)
    kept = journal.checkpoint()
    assert kept is not None
    assert read_checkpoint(kept.note, log_verifier("booth-1", KEY.public)).root == journal.root_at(kept.size)


def test_a_beat_counts_what_the_ledger_holds_since_the_boot(journal: Journal) -> None:
    earlier = notary(journal, None)
    for event in (BOOT, RUNNING, CAPTURE):
        earlier.record(event)
    witness = notary(journal, None)
    for event in (BOOT, CAPTURE, CAPTURE):
        witness.record(event)
    assert witness.beat(BEAT)
    assert witness.beat(BEAT)
    beat = LedgerEntry.model_validate_json(journal.entries()[-1]).event
    assert isinstance(beat, Heartbeat)
    assert (beat.sequence, beat.captures, beat.searches, beat.leads, beat.models) == (2, 2, 0, 0, BOOT.models)


def test_a_beat_that_a_change_of_state_overtook_is_not_kept(journal: Journal) -> None:
    witness = notary(journal, None)
    witness.record(RUNNING)
    witness.record(SWITCH)
    assert not witness.beat(BEAT)
    assert journal.last("heartbeat") is None


def test_what_was_done_to_a_person_is_not_attested(journal: Journal) -> None:
    shelf = Shelf()
    notary(journal, shelf).record(CAPTURE)
    assert (journal.size, shelf.envelopes) == (1, [])


def test_an_outlet_that_is_full_or_off_takes_nothing_from_the_ledger(journal: Journal) -> None:
    notary(journal, Shelf(full=True)).record(BEAT)
    notary(journal, None).record(BEAT)
    assert journal.size == 2


def test_a_beat_that_the_ledger_does_not_take_stops_the_device() -> None:
    class Unwritable:
        def beat(self, statement: Heartbeat) -> bool:
            raise StorageError("disk", "full")

    halted: list[str] = []
    Heart(Unwritable(), lambda: BEAT, halted.append, 60.0).beat()  # type: ignore[arg-type] # the one method it uses
    assert halted == ["ledger-unwritable"]


def test_the_heart_beats_until_it_is_closed(journal: Journal) -> None:
    beats = threading.Semaphore(0)

    def statement() -> Heartbeat:
        beats.release()
        return BEAT

    witness = notary(journal, None)
    witness.record(RUNNING)
    heart = Heart(witness, statement, lambda _reason: None, 0.01)
    heart.start()
    assert all(beats.acquire(timeout=PATIENCE_S) for _ in range(3))
    heart.close()
    size = journal.size
    assert size >= 3
    assert not beats.acquire(timeout=0.05) or journal.size == size
    heart.close()


def test_a_device_attests_its_boot_its_stops_and_its_beats(
    pilot: Pilot, switch: SimulatedSwitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNKEY_ATTESTATION__PUBLISH", "true")
    with Device(pilot.settings(), switch=switch) as device:
        device.settled()
        device.heart.beat()
        rows = device.outbox.head(100)
        key = SigningKey.from_pem(pilot.settings().signing_key.read_bytes()).public
        payloads = [verify(row.payload, PAYLOAD_TYPE_ATTESTATION, [key]).payload for row in rows]
        attestations = [Attestation.model_validate_json(payload) for payload in payloads]
        kinds = [attestation.event.kind for attestation in attestations]
        assert (kinds[0], kinds[-1]) == ("boot", "heartbeat")
        assert "switch" in kinds
        beat = attestations[-1].event
        assert isinstance(beat, Heartbeat)
        assert (beat.state, beat.policy, beat.leads_waiting) == ("MORATORIUM", "in-force", 0)
        assert {row.topic for row in rows} == {"turnkey/v1/booth-1/attestation"}
        assert device.leads_waiting() == 0


def test_attestations_never_take_the_room_of_leads(pilot: Pilot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNKEY_ATTESTATION__PUBLISH", "true")
    monkeypatch.setenv("TURNKEY_ATTESTATION__MOST_WAITING", "3")
    with Device(pilot.settings()) as device:
        for _ in range(5):
            device.heart.beat()
        assert device.outbox.depth() == 3


def test_publication_can_be_switched_off(pilot: Pilot) -> None:
    with Device(pilot.settings()) as device:
        device.heart.beat()
        assert device.outbox.depth() == 0
        assert device.journal.last("heartbeat") is not None
