"""The lead desk's judgement: every hostile message is a named refusal, none a traceback."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from turnkey.envelope import SigningKey, sign
from turnkey.leads.records import LEAD_NOTICE, PAYLOAD_TYPE_LEAD, PAYLOAD_TYPE_POLICY, Lead, canonical
from turnkey_tools.leads import view
from turnkey_tools.leads.desk import Accepted, Reason, Refused, Verdict, judge
from turnkey_tools.leads.sample import sample_lead
from turnkey_tools.leads.store import Store

TOPIC = "turnkey/v1/booking-1/lead"
KEY = SigningKey.generate()
OTHER_KEY = SigningKey.generate()
KEYS = {"booking-1": KEY.public, "booking-2": OTHER_KEY.public}
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def lead(sequence: int, device_id: str = "booking-1", salt: int = 0) -> Lead:
    return sample_lead(sequence, device_id, lead_id=f"{salt:016x}{sequence:016x}")


def signed(record: Lead, key: SigningKey = KEY) -> bytes:
    return sign(PAYLOAD_TYPE_LEAD, canonical(record), key)


def signed_json(content: object, key: SigningKey = KEY) -> bytes:
    return sign(PAYLOAD_TYPE_LEAD, json.dumps(content).encode(), key)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "leads.db") as store:
        yield store


def receive(store: Store, payload: bytes, topic: str = TOPIC) -> Verdict:
    verdict = judge(topic, payload, KEYS, store)
    store.keep(verdict)
    return verdict


def reason(verdict: Verdict) -> Reason:
    assert isinstance(verdict, Refused), verdict
    return verdict.reason


def shown(verdict: Verdict) -> str:
    console = Console(width=110, record=True, force_terminal=False)
    console.print(view.panel(verdict))
    return console.export_text()


def test_signed_lead_of_a_known_device_is_accepted(store: Store) -> None:
    verdict = receive(store, signed(lead(1)))
    assert isinstance(verdict, Accepted)
    assert verdict.lead == lead(1)
    assert verdict.keyid == KEY.public.keyid
    assert not verdict.missing


def test_same_lead_again_is_a_duplicate_also_after_a_restart(store: Store) -> None:
    receive(store, signed(lead(1)))
    assert reason(receive(store, signed(lead(1)))) is Reason.DUPLICATE
    with Store(store.path) as again:
        assert reason(receive(again, signed(lead(1)))) is Reason.DUPLICATE
        assert again.leads() == 1


def test_same_lead_in_another_wrapping_is_still_a_duplicate(store: Store) -> None:
    receive(store, signed(lead(1)))
    rewrapped = json.dumps(json.loads(signed(lead(1))), indent=4).encode()
    assert reason(receive(store, rewrapped)) is Reason.DUPLICATE


def test_old_lead_replayed_later_is_a_duplicate(store: Store) -> None:
    for sequence in (1, 2, 3):
        receive(store, signed(lead(sequence)))
    assert reason(receive(store, signed(lead(1)))) is Reason.DUPLICATE


def test_two_leads_under_one_number_are_a_conflict(store: Store) -> None:
    receive(store, signed(lead(1)))
    assert reason(receive(store, signed(lead(1, salt=9)))) is Reason.CONFLICT


def test_two_leads_under_one_id_are_a_conflict(store: Store) -> None:
    receive(store, signed(lead(1)))
    assert reason(receive(store, signed(lead(2).model_copy(update={"lead_id": lead(1).lead_id})))) is Reason.CONFLICT


def test_gap_is_shown_and_closed_when_the_late_lead_comes(store: Store) -> None:
    receive(store, signed(lead(1)))
    behind = receive(store, signed(lead(5)))
    assert isinstance(behind, Accepted)
    assert behind.missing == ((2, 4),)
    assert "Leads 2 to 4 of booking-1 did not arrive" in shown(behind)
    assert store.missing("booking-1") == [(2, 4)]
    late = receive(store, signed(lead(3)))
    assert isinstance(late, Accepted)
    assert late.late
    assert store.missing("booking-1") == [(2, 2), (4, 4)]


def test_first_lead_that_is_not_number_one_shows_what_is_missing(store: Store) -> None:
    verdict = receive(store, signed(lead(3)))
    assert isinstance(verdict, Accepted)
    assert verdict.missing == ((1, 2),)


def test_devices_have_their_own_sequences(store: Store) -> None:
    assert isinstance(receive(store, signed(lead(1))), Accepted)
    other = signed(lead(1, "booking-2", salt=2), OTHER_KEY)
    assert isinstance(receive(store, other, "turnkey/v1/booking-2/lead"), Accepted)


def _unsigned() -> bytes:
    envelope = json.loads(signed(lead(1)))
    return json.dumps({**envelope, "signatures": []}).encode()


def _tampered() -> bytes:
    envelope = json.loads(signed(lead(1)))
    payload = base64.b64encode(canonical(lead(2))).decode()
    return json.dumps({**envelope, "payload": payload}).encode()


def _drifted(**change: object) -> bytes:
    return signed_json({**json.loads(canonical(lead(1))), **change})


HOSTILE = {
    "unsigned": (_unsigned(), Reason.NOT_SIGNED),
    "signed by a stranger": (signed(lead(1), SigningKey.generate()), Reason.NOT_SIGNED),
    "signed by another known device": (signed(lead(1), OTHER_KEY), Reason.NOT_SIGNED),
    "payload exchanged": (_tampered(), Reason.NOT_SIGNED),
    "naming another device": (signed(lead(1, "booking-2")), Reason.WRONG_DEVICE),
    "a policy": (sign(PAYLOAD_TYPE_POLICY, canonical(lead(1)), KEY), Reason.WRONG_TYPE),
    "empty": (b"", Reason.NOT_AN_ENVELOPE),
    "10 MB": (b"x" * 10_000_000, Reason.TOO_LARGE),
    "10 MB of a valid beginning": (signed(lead(1)) + b" " * 10_000_000, Reason.TOO_LARGE),
    "not UTF-8": (b'{"payload": "\xff\xfe"}', Reason.NOT_AN_ENVELOPE),
    "not JSON": (b"a lead, honestly", Reason.NOT_AN_ENVELOPE),
    "a JSON list": (b"[]", Reason.NOT_AN_ENVELOPE),
    "deeply nested": (b"[" * 60_000, Reason.NOT_AN_ENVELOPE),
    "deeply nested and closed": (b"[" * 30_000 + b"]" * 30_000, Reason.NOT_AN_ENVELOPE),
    "signed, deeply nested": (sign(PAYLOAD_TYPE_LEAD, b'{"a":' * 7_000 + b"1" + b"}" * 7_000, KEY), Reason.NOT_A_LEAD),
    "signed, not UTF-8": (sign(PAYLOAD_TYPE_LEAD, b"\xff\xfe\x00", KEY), Reason.NOT_A_LEAD),
    "signed, empty": (sign(PAYLOAD_TYPE_LEAD, b"", KEY), Reason.NOT_A_LEAD),
    "one field more": (_drifted(image="aGVsbG8="), Reason.NOT_A_LEAD),
    "another notice": (_drifted(notice="Arrest this person."), Reason.NOT_A_LEAD),
    "no candidate": (_drifted(candidates=[]), Reason.NOT_A_LEAD),
    "number zero": (_drifted(sequence=0), Reason.NOT_A_LEAD),
    "a huge number": (_drifted(sequence=10**400), Reason.NOT_A_LEAD),
    "a number beyond SQLite": (_drifted(sequence=2**63), Reason.NOT_A_LEAD),
    "a device id with a line feed": (_drifted(device_id="booking-1\n"), Reason.NOT_A_LEAD),
    "a number as text": (_drifted(threshold="high"), Reason.NOT_A_LEAD),
    "local time": (_drifted(issued_at="2026-01-02T03:04:05"), Reason.NOT_A_LEAD),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_message_is_refused_shown_and_stores_no_lead(store: Store, name: str) -> None:
    payload, expected = HOSTILE[name]
    verdict = receive(store, payload)
    assert reason(verdict) is expected
    assert f"Refused: {expected}" in shown(verdict)
    assert json.loads(view.line(verdict))["reason"] == expected
    assert store.leads() == 0
    assert [row[0] for row in store.refusals()] == [expected]


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("turnkey/v1/booking-2/lead", Reason.NOT_SIGNED),
        ("turnkey/v1/booking-3/lead", Reason.UNKNOWN_DEVICE),
        ("turnkey/v1/booking-1/attestation", Reason.FOREIGN_TOPIC),
        ("turnkey/v1/booking-1/lead/", Reason.FOREIGN_TOPIC),
        ("", Reason.FOREIGN_TOPIC),
        ("\ud800", Reason.FOREIGN_TOPIC),
        ("\x1b[2Jturnkey", Reason.FOREIGN_TOPIC),
    ],
)
def test_lead_on_the_wrong_topic_is_refused(store: Store, topic: str, expected: Reason) -> None:
    verdict = receive(store, signed(lead(1)), topic)
    assert reason(verdict) is expected
    assert "\x1b" not in shown(verdict)
    assert "\x1b" not in view.line(verdict)


def test_lead_is_shown_with_its_notice_first_and_without_forbidden_words(store: Store) -> None:
    text = shown(receive(store, signed(lead(1))))
    first = next(line for line in text.splitlines()[1:] if line.strip("│ "))
    assert LEAD_NOTICE in first
    for fact in ("B-1", "2025-0042", "0.5300", "0.4100", "1200", "booking-1", "2026-01-02 03:04:05 UTC"):
        assert fact in text
    for word in ("match", "identified", "suspect", "hit"):
        assert word not in text.lower().replace("with", "")


def test_every_refusal_has_a_sentence_for_a_person() -> None:
    for each in Reason:
        assert f"Refused: {each}" in shown(Refused(each, "detail", TOPIC))


def test_trail_of_refusals_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnkey_tools.leads.store.MAX_REFUSALS", 5)
    for _ in range(12):
        receive(store, b"rubbish")
    assert len(store.refusals()) == 5


def test_times_of_another_zone_are_refused(store: Store) -> None:
    content = json.loads(canonical(lead(1)))
    content["issued_at"] = WHEN.astimezone(timezone(timedelta(hours=2))).isoformat()
    assert reason(receive(store, signed_json(content))) is Reason.NOT_A_LEAD


class Forgetful:
    """A memory with nothing in it, for fuzzing without a disk."""

    def digest_of(self, device_id: str, sequence: int) -> str | None:
        return None

    def number_of(self, lead_id: str) -> tuple[str, int] | None:
        return None

    def highest(self, device_id: str) -> int:
        return 0


_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_FIELDS = json.loads(canonical(lead(1)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.binary(max_size=300)
    | _ANY_JSON.map(lambda value: json.dumps(value).encode())
    | _ANY_JSON.map(signed_json)
    | st.fixed_dictionaries({"payload": _ANY_JSON, "payloadType": _ANY_JSON, "signatures": _ANY_JSON}).map(
        lambda value: json.dumps(value).encode()
    ),
    st.just(TOPIC) | st.text(max_size=40),
)
def test_no_bytes_make_it_raise(payload: bytes, topic: str) -> None:
    verdict = judge(topic, payload, KEYS, Forgetful())
    assert isinstance(verdict, Refused)
    shown(verdict)
    view.line(verdict)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(_FIELDS)), _ANY_JSON)
def test_no_drift_of_one_field_makes_it_raise(field: str, value: object) -> None:
    verdict = judge(TOPIC, signed_json({**_FIELDS, field: value}), KEYS, Forgetful())
    shown(verdict)
    assert isinstance(verdict, Refused) or canonical(verdict.lead) is not None
