"""The notary over its socket: who may ask what, what is no record, and windows that touch a stop."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from patience import wait_for

from turnkey.database import StorageError
from turnkey.envelope import SigningKey, peek
from turnkey.gallery.gallery import Gallery
from turnkey.interlock.lease import connect
from turnkey.interlock.machine import Event as Happening
from turnkey.interlock.machine import State
from turnkey.interlock.peers import listen
from turnkey.interlock.permit import Permit, Stopped
from turnkey.interlock.status import Transition
from turnkey.interlock.switch import SwitchReading
from turnkey.interlock.witness import SocketWitness, WitnessError
from turnkey.leads.records import (
    Boot,
    Captured,
    Discarded,
    Enrolled,
    LeadCandidate,
    LedgerEntry,
    PackAccepted,
    PackEnrolled,
    Refused,
    Searched,
)
from turnkey.leads.template_pack import PackDraft, PackManifest
from turnkey.notary.client import NotaryClient, NotaryGone
from turnkey.notary.daemon import BOOTH_RIGHTS, OPERATOR_RIGHTS, UPDATE_RIGHTS, WITNESS_RIGHTS, NotaryDaemon
from turnkey.notary.journal import Journal, Tally
from turnkey.notary.notary import Clocks, LeadDraft, Notary
from turnkey.reconciliation import HeldToLedger
from turnkey.recording import standing_of

ATTEMPT, OTHER_ATTEMPT = "0" * 32, "1" * 32
DIGEST = "d" * 64


def permit(run: bytes = b"r" * 16) -> Permit:
    return Permit(time.monotonic_ns, time.monotonic_ns() + 60 * 10**9, None, run)


class Gate:
    """The notary's own lease, played by hand."""

    def __init__(self) -> None:
        self.held: Permit | None = permit()

    def permit(self) -> Permit:
        if self.held is None:
            raise Stopped("key-opened")
        self.held.check()
        return self.held


class Site:
    """A notary behind its socket, its ledger, and both its clients."""

    def __init__(self, folder: Path, rights: frozenset[str]) -> None:
        self.socket = folder / "notary"
        self.journal = Journal(folder / "ledger.db")
        self.put: list[str] = []
        self.gate = Gate()
        self.failures: list[str] = []
        clocks = Clocks(lambda: datetime.now(UTC), time.monotonic_ns, lambda: os.urandom(16).hex())
        self.notary = Notary(
            self.journal,
            SigningKey.generate(),
            lambda message_id, _envelope: self.put.append(message_id),
            device_id="booth-1",
            clocks=clocks,
        )
        self.daemon = NotaryDaemon(
            self.notary,
            self.journal,
            self.gate,
            listen(self.socket),
            rights={os.getuid(): rights},
            failed=self.failures.append,
            standing=lambda: standing_of(None, self.journal, len(self.journal.waiting()), "model-0"),
        )
        self.daemon.start()
        self.booth = NotaryClient(self.socket).start()
        self.interlock = SocketWitness(self.socket)

    def close(self) -> None:
        self.booth.close()
        self.daemon.close()
        self.journal.close()

    def say(self, packet: bytes) -> dict[str, object]:
        with connect(self.socket) as connection:
            connection.settimeout(5)
            connection.send(packet)
            answer: dict[str, object] = json.loads(connection.recv(65536))
            return answer

    def kinds(self) -> list[str]:
        data = self.journal.entries(limit=self.journal.size)
        return [LedgerEntry.model_validate_json(each).event.kind for each in data]


Open = Callable[..., Site]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Open]:
    opened: list[Site] = []

    def open_site(rights: frozenset[str] = BOOTH_RIGHTS | WITNESS_RIGHTS) -> Site:
        opened.append(Site(tmp_path, rights))
        return opened[-1]

    yield open_site
    for each in opened:
        each.close()


def transition(state: State, epoch: int = 1) -> Transition:
    return Transition(
        State.RUNNING,
        state,
        Happening.KEY_OPENED if state is not State.RUNNING else Happening.RELEASED,
        "key-opened",
        epoch,
        time.monotonic_ns(),
        datetime.now(UTC),
        SwitchReading(False, False, None),
        None,
    )


def captured(attempt: str = ATTEMPT) -> Captured:
    return Captured(attempt_id=attempt, frames=1, purpose="booking")


def enrolled(attempt: str = ATTEMPT) -> Enrolled:
    return Enrolled(attempt_id=attempt, partition="bookings", row=1)


def draft(attempt: str = ATTEMPT, booking: str = "B-1") -> LeadDraft:
    candidate = LeadCandidate(rank=1, reference="C-2026-1", score=0.61, enrolled_at=datetime(2026, 11, 1, tzinfo=UTC))
    return LeadDraft(attempt, booking, "cases", 1, 0.4, 0.01, "sface-1", DIGEST, 80, (candidate,))


def test_transitions_are_witnessed_and_the_epoch_is_the_ledgers(site: Open) -> None:
    here = site()
    assert here.interlock.ledger_epoch() == 0
    here.interlock(transition(State.MORATORIUM, epoch=7))
    assert here.interlock.ledger_epoch() == 7
    assert here.kinds() == ["switch"]


def test_a_piece_of_work_goes_onto_the_ledger_and_its_lead_to_the_outlet(site: Open) -> None:
    here, held = site(), permit()
    here.booth.record(captured(), held)
    lead = here.booth.submit(draft(), held)
    here.booth.record(enrolled(), held)
    here.booth.hand_over()
    assert here.kinds() == ["capture", "lead", "enrolment"]
    assert here.put == [lead.lead_id]
    assert (lead.sequence, lead.candidates) == (1, draft().candidates)


def accepted(attempt: str = ATTEMPT) -> PackAccepted:
    return PackAccepted(
        attempt_id=attempt,
        pack_id="c" * 32,
        order_digest=DIGEST,
        from_device="booth-2",
        partition="bookings",
        model_id="sface-1",
        rows=3,
        signers=(DIGEST, "e" * 64),
        pack_digest=DIGEST,
    )


def pack_draft() -> PackDraft:
    return PackDraft(
        attempt_id=ATTEMPT,
        pack_id="c" * 32,
        order_digest=DIGEST,
        signers=(DIGEST, "e" * 64),
        to_device="booth-2",
        partition="bookings",
        model_id="sface-1",
        rows=3,
        chunks=1,
        body_bytes=2000,
        body_digest=DIGEST,
        key_digest=DIGEST,
    )


def test_a_pack_is_signed_as_the_notarys_own_and_rows_out_of_one_have_its_window(site: Open) -> None:
    here, held = site(), permit()
    rows = PackEnrolled(attempt_id=ATTEMPT, partition="bookings", first_row=1, rows=3)
    with pytest.raises(Stopped, match="window-touches-a-stop"):
        here.booth.record(rows, held)
    here.booth.record(accepted(), held)
    here.booth.record(rows, held)
    manifest = PackManifest.model_validate_json(peek(here.booth.sign_pack(pack_draft(), held)).payload)
    assert (manifest.device_id, manifest.draft) == ("booth-1", pack_draft())
    assert here.kinds() == ["template-pack-accepted", "template-pack-enrolment", "template-pack-exported"]
    assert here.booth.tally("bookings") == Tally(3, 3)


def test_no_pack_is_signed_behind_a_stop(site: Open) -> None:
    here, before = site(), permit()
    here.booth.record(accepted(), before)
    here.interlock(transition(State.MORATORIUM))
    here.interlock(transition(State.RUNNING))
    here.gate.held = permit(b"n" * 16)
    with pytest.raises(Stopped, match="window-touches-a-stop"):
        here.booth.sign_pack(pack_draft(), before)
    rows = PackEnrolled(attempt_id=ATTEMPT, partition="bookings", first_row=1, rows=3)
    with pytest.raises(Stopped, match="window-touches-a-stop"):
        here.booth.record(rows, permit(b"n" * 16))
    assert here.kinds() == ["template-pack-accepted", "switch", "switch"]


@pytest.mark.parametrize("step", ["search", "submit", "enrolment"])
def test_work_whose_window_touches_a_stop_is_refused_even_when_it_runs_again(site: Open, step: str) -> None:
    here, before = site(), permit()
    here.booth.record(captured(), before)
    here.interlock(transition(State.MORATORIUM))
    here.interlock(transition(State.RUNNING))
    here.gate.held = permit(b"n" * 16)
    for held in (before, permit(b"n" * 16)):  # a booth that says what is so, and one that lies about its lease
        with pytest.raises(Stopped, match="window-touches-a-stop"):
            match step:
                case "search":
                    here.booth.record(
                        Searched(
                            attempt_id=ATTEMPT,
                            partition="cases",
                            gallery_size=1,
                            threshold=0.4,
                            max_fpir=0.01,
                            search="exhaustive",
                            model_id="sface-1",
                            policy_digest=DIGEST,
                            candidates=1,
                        ),
                        held,
                    )
                case "submit":
                    here.booth.submit(draft(), held)
                case _:
                    here.booth.record(enrolled(), held)
    assert here.kinds() == ["capture", "switch", "switch"]
    assert here.put == []


def test_a_stop_on_the_ledger_ends_the_run_even_where_the_notarys_own_lease_has_not_heard(site: Open) -> None:
    here = site()
    here.interlock(transition(State.MORATORIUM))
    assert here.gate.held is not None
    assert here.gate.held.refusal() is None
    with pytest.raises(Stopped, match="window-touches-a-stop"):
        here.booth.record(captured(), permit())


def test_without_a_lease_of_its_own_the_notary_takes_no_work_but_does_take_a_refusal(site: Open) -> None:
    here = site()
    here.gate.held = None
    with pytest.raises(Stopped, match="key-opened"):
        here.booth.record(captured(), permit())
    here.booth.record(Refused(attempt_id=None, step="interlock", reason="key-opened"))
    here.booth.record(Discarded(attempt_id=ATTEMPT, reason="key-opened"))
    assert here.kinds() == ["refusal", "discarded"]


def test_work_without_a_capture_is_refused(site: Open) -> None:
    here, held = site(), permit()
    here.booth.record(captured(), held)
    with pytest.raises(Stopped):
        here.booth.submit(draft(OTHER_ATTEMPT), held)
    with pytest.raises(Stopped):
        here.booth.record(enrolled(OTHER_ATTEMPT), held)
    assert here.kinds() == ["capture"]


def test_a_booth_that_was_taken_over_can_say_nothing_but_records(site: Open) -> None:
    here = site(BOOTH_RIGHTS)
    run = "72" * 16
    held = permit()
    here.booth.record(captured(), held)
    lead = json.loads(json.dumps({"ask": "submit", "run": run, "draft": {}}))
    boot = Boot(software="1", models={}).model_dump()
    told: list[bytes] = [
        b"",
        b"{}",
        b"nonsense",
        b"\xff" * 100,
        json.dumps({"ask": "work", "run": run, "event": boot}).encode(),
        json.dumps({"ask": "record", "event": {"kind": "lead", "attempt_id": ATTEMPT}}).encode(),
        json.dumps({"ask": "record", "event": captured().model_dump()}).encode(),
        json.dumps({"ask": "work", "run": run, "event": captured().model_dump() | {"image": "x"}}).encode(),
        json.dumps({"ask": "work", "run": "short", "event": captured().model_dump()}).encode(),
        json.dumps(lead).encode(),
    ]
    for packet in told[1:]:
        assert here.say(packet)["outcome"] == "refused", packet
    assert here.say(b'{"ask": "epoch"}')["reason"] == "not-permitted"
    with pytest.raises(WitnessError):
        here.interlock(transition(State.RUNNING))
    with pytest.raises(StorageError):
        here.booth.submit(draft(booking="a name, not a number"), held)
    with pytest.raises(StorageError):
        here.booth.record(Boot(software="1", models={}))
    assert here.kinds() == ["capture"]
    assert here.put == []


def test_the_interlock_cannot_have_anything_signed(site: Open) -> None:
    here = site(WITNESS_RIGHTS)
    with pytest.raises(StorageError) as refused:
        here.booth.record(captured(), permit())
    assert refused.value.reason == "not-permitted"
    assert here.kinds() == []


def test_a_user_with_no_rights_is_turned_away(site: Open) -> None:
    here = site(frozenset())
    with pytest.raises(NotaryGone):
        here.booth.hand_over()


def test_a_ledger_that_cannot_be_written_ends_the_notary_and_reaches_the_booth(site: Open) -> None:
    here = site()
    here.booth.record(captured(), permit())
    here.journal._database.execute("PRAGMA query_only=ON")
    with pytest.raises(StorageError) as refused:
        here.booth.record(captured(OTHER_ATTEMPT), permit())
    assert refused.value.reason == "unwritable"
    assert here.failures == ["ledger-unwritable"]
    with pytest.raises(WitnessError):
        here.interlock(transition(State.MORATORIUM))


def test_presence_ends_with_the_notary(site: Open) -> None:
    here = site()
    wait_for(lambda: here.booth.present)
    here.daemon.close()
    wait_for(lambda: not here.booth.present)
    with pytest.raises(NotaryGone):
        here.booth.record(captured(), permit())


@pytest.fixture
def updated(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, UPDATE_RIGHTS)
    yield site
    site.close()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, UPDATE_RIGHTS | OPERATOR_RIGHTS)
    yield site
    site.close()


def asked(site: Site, packet: dict[str, object]) -> dict[str, object]:
    with connect(site.socket) as connection:
        connection.settimeout(30)
        connection.send(json.dumps(packet).encode())
        answer: dict[str, object] = json.loads(connection.recv(65536))
    return answer


def examined(passed: bool, units: dict[str, str]) -> dict[str, object]:
    return {"kind": "health", "software": "1.0", "passed": passed, "failed": [], "units": units}


def test_the_updater_may_say_what_it_did_and_nothing_else(updated: Site) -> None:
    step = {"kind": "update", "step": "offered", "what": "bundle", "version": "1.2.3", "reason": "granted"}
    assert asked(updated, {"ask": "update", "event": step})["outcome"] == "done"
    well = examined(True, {})
    for ask in ({"ask": "epoch"}, {"ask": "attend"}, {"ask": "hand_over"}, {"ask": "health", "event": well}):
        assert asked(updated, ask)["reason"] == "not-permitted"
    for other in ({"kind": "refusal", "step": "capture", "reason": "booth-busy"}, well):
        assert asked(updated, {"ask": "update", "event": other})["reason"] == "not-a-record"
    assert [LedgerEntry.model_validate_json(data).event.kind for data in updated.journal.entries()] == ["update"]


def test_the_first_good_examination_is_what_later_ones_are_held_against(root: Site) -> None:
    assert asked(root, {"ask": "units"}) == {"units": None}
    for passed, digest in ((False, "0" * 64), (True, "1" * 64), (True, "2" * 64)):
        asked(root, {"ask": "health", "event": examined(passed, {"a.service": digest})})
    assert asked(root, {"ask": "units"}) == {"units": {"a.service": "1" * 64}}


def test_how_long_ago_the_last_picture_was_taken_is_told(updated: Site) -> None:
    assert asked(updated, {"ask": "quiet"}) == {"since_capture_s": None}
    updated.notary.record(Captured(attempt_id=ATTEMPT, frames=1, purpose="booking"))
    since = asked(updated, {"ask": "quiet"})["since_capture_s"]
    assert isinstance(since, float)
    assert since >= 0


def test_a_booth_across_the_socket_is_held_to_the_ledgers_rows(site: Open, tmp_path: Path) -> None:
    """What a kill left is put right before the first permit is given out; what none explains ends the booth."""
    here = site()
    gallery = Gallery(tmp_path / "gallery.db", "model-0")
    unit = np.zeros(128, np.float32)
    unit[0] = 1.0
    gallery.unlock(b"k" * 32)
    for number in range(1, 5):
        gallery.enrol("cases", f"C-{number}", unit, quality=50, enrolled_at=datetime.now(UTC), permit=live())
    for row in (1, 2, 3):
        here.notary.record(Enrolled(attempt_id=ATTEMPT, partition="cases", row=row))
    gallery.expunge("cases", "C-2")
    halted: list[str] = []
    gate = HeldToLedger(live, gallery, here.booth, halted.append)
    gate.permit()
    gate.permit()
    assert gallery.row_numbers("cases") == here.booth.standing_rows("cases", 0) == [1, 3]
    assert here.kinds().count("tamper") == 2
    here.notary.record(Enrolled(attempt_id=ATTEMPT, partition="cases", row=99))
    with pytest.raises(Stopped, match="gallery-older-than-ledger"):
        HeldToLedger(live, gallery, here.booth, halted.append).permit()
    assert halted == ["gallery-older-than-ledger"]


def live() -> Permit:
    return Permit(time.monotonic_ns, time.monotonic_ns() + 600 * 10**9)
