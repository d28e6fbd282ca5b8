"""Review at the desk: the table, blindness, signatures that count, and a trail that cannot be changed unseen."""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from turnkey.database import Database
from turnkey.envelope import SigningKey, sign
from turnkey.leads.records import PAYLOAD_TYPE_LEAD, Lead, LeadCandidate, canonical
from turnkey_tools.cli import app
from turnkey_tools.leads import store as desk_store
from turnkey_tools.leads.casebook import Casebook, CasebookError, TrailEntry, broken_at
from turnkey_tools.leads.desk import Accepted, judge
from turnkey_tools.leads.discovery import check, pack
from turnkey_tools.leads.review import (
    PAYLOAD_TYPE_EXAMINATION,
    TABLE,
    Case,
    Closing,
    Event,
    Examination,
    Refusal,
    State,
    decide,
)
from turnkey_tools.leads.store import Received, Store

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DEVICE = SigningKey.generate()
KEYS = {"booking-1": DEVICE.public}
ANA, BEN, EVE = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()


def envelope(number: int = 1) -> bytes:
    candidates = [LeadCandidate(rank=rank, reference=f"C-{rank}", score=0.5, enrolled_at=WHEN) for rank in (1, 2)]
    lead = Lead(
        lead_id=f"{number:032x}", device_id="booking-1", sequence=number, attempt_id="a" * 32, issued_at=WHEN,
        booking_number=f"B-{number}", partition="cases", gallery_size=9, threshold=0.4, max_fpir=0.01,
        search="exhaustive", model_id="sface-int8", policy_digest="b" * 64, probe_quality=60,
        candidates=tuple(candidates),
    )  # fmt: skip
    return sign(PAYLOAD_TYPE_LEAD, canonical(lead), DEVICE)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "leads.db") as store:
        for number in (1, 2):
            verdict = judge("turnkey/v1/booking-1/lead", envelope(number), KEYS, store)
            assert isinstance(verdict, Accepted)
            store.keep(verdict)
        yield store


@pytest.fixture
def book(store: Store) -> Casebook:
    book = Casebook(store, "desk-login")
    book.register("ana", ANA.public)
    book.register("ben", BEN.public)
    return book


@pytest.fixture
def lead(store: Store) -> Received:
    return store.received()[0]


def state(outcome: Case | Refusal) -> State:
    assert isinstance(outcome, Case), outcome
    return outcome.state


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (1, 1, State.CONFIRMED),
        (1, 2, State.DISPUTED),
        (1, None, State.DISPUTED),
        (None, 1, State.DISPUTED),
        (None, None, State.REJECTED),
    ],
)
def test_two_examiners_make_a_lead_reviewed(
    book: Casebook, lead: Received, first: int | None, second: int | None, expected: State
) -> None:
    assert state(book.examine(lead, ANA, first)) in {State.HALF_CONFIRMED, State.HALF_REJECTED}
    assert state(book.examine(lead, BEN, second)) is expected
    assert len(book.case(lead).visible) == 2


def test_nobody_examines_twice_and_no_third_verdict_is_taken(book: Casebook, lead: Received) -> None:
    book.register("eve", EVE.public)
    book.examine(lead, ANA, 1)
    assert book.examine(lead, ANA, None) is Refusal.ALREADY_EXAMINED
    book.examine(lead, BEN, 1)
    assert book.examine(lead, EVE, 1) is Refusal.NOT_IN_THIS_STATE
    assert book.case(lead).state is State.CONFIRMED


def test_the_first_verdict_is_nowhere_to_be_seen_before_the_second(book: Casebook, lead: Received) -> None:
    """The same bytes come out whichever way the first examiner decided, but for digests and times."""
    book.examine(lead, ANA, 1, "the ears")
    case = book.case(lead)
    assert (case.shown, case.visible) == ("awaiting-second", ())
    exported = pack(lead, case, book.actions(lead.lead_id), book.examiners(), book.trail(), "now").model_dump_json()
    assert '"sealed":1' in exported
    for kept in book.trail():
        assert b"the ears" not in kept.entry
        assert b"confirm" not in kept.entry
    assert "half" not in exported
    assert len(book.actions(lead.lead_id)) == 1


def test_what_was_closed_with_one_verdict_in_never_shows_it(book: Casebook, lead: Received) -> None:
    book.examine(lead, ANA, 1)
    assert state(book.close(lead, BEN, reason="the case was solved otherwise")) is State.CLOSED
    assert book.case(lead).visible == ()
    export = pack(lead, book.case(lead), book.actions(lead.lead_id), book.examiners(), book.trail(), "now")
    assert (len(export.actions), export.sealed) == (1, 1)
    assert check(export.model_dump_json().encode(), KEYS)[1] == []


def test_evidence_closes_only_what_two_confirmed(book: Casebook, lead: Received) -> None:
    assert book.close(lead, ANA, evidence="EV-7") is Refusal.NOT_IN_THIS_STATE
    book.examine(lead, ANA, 1)
    assert book.close(lead, ANA, evidence="EV-7") is Refusal.NOT_IN_THIS_STATE
    book.examine(lead, BEN, 1)
    assert book.close(lead, ANA) is Refusal.EVIDENCE_OR_REASON
    assert book.close(lead, ANA, evidence="EV-7", reason="both") is Refusal.EVIDENCE_OR_REASON
    assert state(book.close(lead, ANA, evidence="EV-7")) is State.CLOSED
    assert book.close(lead, BEN, reason="again") is Refusal.NOT_IN_THIS_STATE


def test_the_table_reaches_every_state_and_leads_on_from_all_but_closed() -> None:
    assert set(TABLE.values()) | {State.NEW} == set(State)
    assert {before for before, _ in TABLE} == set(State) - {State.CLOSED}
    assert all((before, Event.CLOSE_WITH_REASON) in TABLE for before in set(State) - {State.CLOSED})
    assert [before for before, event in TABLE if event is Event.CLOSE_WITH_EVIDENCE] == [State.CONFIRMED]


def test_no_order_of_actions_confirms_without_two_people() -> None:
    case = Case("a" * 32, "b" * 64, 2)
    facts: dict[str, Any] = {"lead_id": case.lead_id, "lead_digest": case.lead_digest, "at": WHEN}
    actions = [Examination(**facts, examiner=name, candidate=rank) for name in ("ana", "ben") for rank in (1, None)]
    closings = [Closing(**facts, examiner="ana", evidence="E-1"), Closing(**facts, examiner="ana", reason="why")]
    for order in itertools.permutations([*actions, *closings], 4):
        now = case
        for action in order:
            outcome = decide(now, action)
            now = outcome if isinstance(outcome, Case) else now
            if now.closing is not None and now.closing.evidence is not None:
                assert {one.examiner for one in now.examinations} == {"ana", "ben"}
                assert [one.candidate for one in now.examinations] == [1, 1]


def test_an_unknown_key_signs_nothing_and_a_person_has_one_key(book: Casebook, lead: Received) -> None:
    with pytest.raises(CasebookError, match="not a registered"):
        book.examine(lead, EVE, 1)
    for name, key in (("ana", EVE), ("eve", ANA)):
        with pytest.raises(CasebookError, match="registered already"):
            book.register(name, key.public)


def test_a_candidate_that_the_lead_has_not_is_refused(book: Casebook, lead: Received) -> None:
    assert book.examine(lead, ANA, 3) is Refusal.NO_SUCH_CANDIDATE
    assert [kept.facts["action"] for kept in book.trail()][-1] == "refused"


def test_an_action_written_past_the_tool_is_not_believed(book: Casebook, store: Store, lead: Received) -> None:
    forged = Examination(lead_id=lead.lead_id, lead_digest=lead.digest, examiner="ben", candidate=1, at=WHEN)
    other = Database(store.path, desk_store._FORMAT)
    with other.transaction():
        statement = "INSERT INTO action (lead_id, kind, examiner, envelope) VALUES (?, 'examined', 'ben', ?)"
        other.execute(statement, lead.lead_id, sign(PAYLOAD_TYPE_EXAMINATION, canonical(forged), EVE))
    other.close()
    with pytest.raises(CasebookError, match="signed"):
        book.case(lead)


def test_the_trail_cannot_be_changed_through_sql_and_shows_it_where_the_file_was(book: Casebook, store: Store) -> None:
    book.note("shown", "1" * 32)
    for statement in ("UPDATE trail SET lead_id = ''", "DELETE FROM trail"):
        with pytest.raises(sqlite3.IntegrityError, match="only grows"):
            store.database.execute(statement)
    trail = book.trail()
    assert broken_at(trail) is None
    assert broken_at(trail[1:]) == 0
    assert broken_at([trail[0], trail[2]]) == 1
    changed = trail[1].entry.replace(b"ben", b"eve")
    assert broken_at([trail[0], TrailEntry(changed, trail[1].hash), trail[2]]) == 1
    assert broken_at([trail[0], TrailEntry(changed, hashlib.sha256(changed).hexdigest()), trail[2]]) == 2


FIRST_VERSION = """
CREATE TABLE lead (
    device_id TEXT NOT NULL, sequence INTEGER NOT NULL, lead_id TEXT NOT NULL UNIQUE, digest TEXT NOT NULL,
    received_at TEXT NOT NULL, envelope BLOB NOT NULL, PRIMARY KEY (device_id, sequence)
) STRICT;
CREATE TABLE refusal (
    id INTEGER PRIMARY KEY, received_at TEXT NOT NULL, topic TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL
) STRICT;
PRAGMA application_id=0x544B4C44;
PRAGMA user_version=1;
"""


def test_a_store_of_the_first_version_is_brought_up_to_date_with_its_leads(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "old.db") as db:
        db.executescript(FIRST_VERSION)
        db.execute("INSERT INTO lead VALUES ('booking-1', 1, 'a', 'b', 'c', x'00')")
    db.close()
    with Store(tmp_path / "old.db") as store:
        Casebook(store, "desk-login").register("ana", ANA.public)
        assert [received.lead_id for received in store.received()] == ["a"]


@pytest.mark.parametrize("change", ["lead", "action", "trail", "state", "keys", "device", "format", "drop"])
def test_a_changed_export_does_not_hold(book: Casebook, lead: Received, change: str) -> None:
    book.examine(lead, ANA, 1)
    book.examine(lead, BEN, 1)
    export = pack(lead, book.case(lead), book.actions(lead.lead_id), book.examiners(), book.trail(), "now")
    assert check(export.model_dump_json().encode(), KEYS, book.examiners()) == (export, [])
    document = json.loads(export.model_dump_json())
    keys, examiners = KEYS, book.examiners()
    match change:
        case "lead":
            document["lead"] = document["lead"][:-8] + "AAAA" + document["lead"][-4:]
        case "action":
            document["actions"] = document["actions"][::-1] + document["actions"][:1]
        case "trail":
            document["trail"] = document["trail"][:-1]
        case "state":
            document["state"] = "rejected"
        case "keys":
            examiners = {**examiners, "ana": EVE.public}
        case "device":
            keys = {"booking-1": EVE.public}
        case "format":
            document["image"] = "AAAA"
        case "drop":
            document["actions"] = document["actions"][:1]
    assert check(json.dumps(document).encode(), keys, examiners)[1]


def test_the_commands_take_a_lead_from_list_to_discovery(store: Store, tmp_path: Path) -> None:
    def leads(command: str, *more: object, code: int = 0) -> str:
        place = [] if command == "verify" else ["--store", str(store.path)]
        result = CliRunner().invoke(app, ["leads", command, *map(str, more), *place])
        assert result.exit_code == code, result.output
        return result.output

    ana, ben = tmp_path / "ana.key", tmp_path / "ben.key"
    leads("examiner", "ana", "--key", ana)
    leads("examiner", "ben", "--key", ben)
    assert ana.stat().st_mode & 0o777 == 0o600
    listed = json.loads(leads("list", "--json"))
    lead_id = listed["leads"][0]["lead_id"]
    assert [row["state"] for row in listed["leads"]] == ["new", "new"]
    assert "Investigative lead only" in leads("show", lead_id)
    assert "awaiting-second" in leads("review", lead_id, "--key", ana, "--confirm", 1)
    assert "who and what is shown when both have" in leads("show", lead_id)
    assert json.loads(leads("show", lead_id, "--json"))["examinations"] == []
    assert "A verdict is final" in leads("review", lead_id, "--key", ana, "--reject", code=1)
    assert "awaiting-second" not in leads("review", lead_id, "--key", ben, "--confirm", 1)
    assert "both examiners say" in leads("show", lead_id)
    assert "closed" in leads("close", lead_id, "--key", ana, "--evidence", "EV-2026-9")
    assert len(json.loads(leads("list", "--open", "--json"))["leads"]) == 1
    leads("show", "ffff", code=1)
    leads("show", "0" * 20, code=1)
    leads("export", lead_id, "--out", tmp_path / "file.json")
    devices, examiners = tmp_path / "devices", tmp_path / "examiners"
    devices.mkdir()
    examiners.mkdir()
    (devices / "booking-1.pub").write_bytes(DEVICE.public.to_pem())
    for name in ("ana", "ben"):
        (examiners / f"{name}.pub").write_bytes((tmp_path / f"{name}.pub").read_bytes())
    shown = leads("verify", tmp_path / "file.json", "--device-keys", devices, "--examiner-keys", examiners)
    assert shown.startswith("holds: signed by the device, closed")
    (examiners / "ben.pub").write_bytes(EVE.public.to_pem())
    leads("verify", tmp_path / "file.json", "--device-keys", devices, "--examiner-keys", examiners, code=1)
    trail = json.loads(leads("audit", "--json"))
    assert trail["whole"]
    actions = [entry["action"] for entry in trail["entries"]]
    assert actions[:4] == ["examiner-registered", "examiner-registered", "listed", "shown"]
    assert actions.count("examined") == 2
    assert "exported" in actions
    assert "the chain is whole" in leads("audit")
