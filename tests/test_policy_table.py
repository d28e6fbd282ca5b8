"""The policy's rules on a whole device, one by one: what it permits goes through, what it does not is refused by name.

Each row changes the pilot's policy, asks for one thing, and says what must come of it; a refusal's step and reason must
stand on the ledger as well. Case packets have a table of their own in test_casework.py, officers' training in
tests/console.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from booking_room import RunningDevice, events, lay

from turnkey.attempt import Refusal
from turnkey.booth import CaseEnrolled, Recorded
from turnkey.device import Device
from turnkey.leads.policy import Policy, Retention, SignedPolicy
from turnkey.leads.records import PAYLOAD_TYPE_POLICY, PolicyAdopted, Refused, canonical
from turnkey_tools.pilot import Pilot

NOW = datetime.now(UTC)
NO_RETENTION = Retention.model_construct(bookings=0, cases=1)
PERSON = "macron/macron-2014.jpg"
Ask = Callable[[Device], object]


def book(number: str) -> Ask:
    return lambda device: device.booth.book(number)


def enrol(number: str) -> Ask:
    return lambda device: device.booth.enrol_case(number)


@dataclass(frozen=True)
class Row:
    """One rule: the policy's change, what is asked, and why it is refused; no reason where it is accepted."""

    rule: str
    change: dict[str, Any]
    ask: Ask
    reason: str = ""
    step: str = "policy"
    leads: int = field(default=0)


TABLE = (
    Row("valid now", {}, book("B-1")),
    Row("not valid yet", {"valid_from": NOW + timedelta(days=1)}, book("B-1"), "policy-not-yet-valid"),
    Row(
        "valid no more",
        {"valid_from": NOW - timedelta(days=9), "valid_until": NOW - timedelta(days=1)},
        book("B-1"),
        "policy-expired",
    ),
    Row("for every device", {"devices": ("*",)}, book("B-2")),
    Row("for another device", {"devices": ("booth-2",)}, book("B-2"), "policy-for-another-device"),
    Row("a booking number of its form", {"booking_number_format": r"X-\d"}, book("X-1")),
    Row("a booking number of another", {"booking_number_format": r"X-\d"}, book("B-3"), "booking-number-malformed"),
    Row("a case at the camera", {"cases_without_packets": True}, enrol("C-2026-1")),
    Row("a case by packet only", {"cases_without_packets": False}, enrol("C-2026-2"), "case-packet-needed"),
    Row("a case number of another form", {"case_number_format": "Z"}, enrol("C-2026-2"), "case-number-malformed"),
    Row("a booking searched in cases", {"search_on_booking": ("cases",)}, book("B-4"), leads=1),
    Row("a booking searched nowhere", {"search_on_booking": ()}, book("B-5")),
    Row("an alias", {"search_on_booking": ("bookings",), "alias_leads": True}, book("B-6"), leads=1),
    Row(
        "an alias that is not permitted",
        {"search_on_booking": ("bookings",), "alias_leads": False},
        book("B-7"),
        "policy-malformed",
    ),
    Row("an FPIR that the evidence carries", {"max_fpir": 0.001}, book("B-8"), leads=1),
    Row(
        "an FPIR beyond the evidence",
        {"max_fpir": 1e-9},
        book("B-9"),
        "gallery-too-large-for-the-evidence",
        step="search",
    ),
    Row("quality at the floor", {"min_quality": 1}, book("B-10"), leads=1),
    Row("quality below the floor", {"min_quality": 100}, book("B-11"), "quality-below-floor", step="vision"),
    Row("another model", {"models": ("sface-000000000000",)}, book("B-12"), "model-not-permitted"),
    Row("more candidates than anybody may ask for", {"candidate_limit": 21}, book("B-13"), "policy-malformed"),
    Row("no retention to speak of", {"retention_days": NO_RETENTION}, book("B-14"), "policy-malformed"),
)


def terms(device: Device) -> Policy:
    signed = device.policy()
    assert isinstance(signed, SignedPolicy)
    return signed.policy


def adopt(pilot: Pilot, policy: Policy, version: int, change: dict[str, Any]) -> None:
    """Have a policy signed, whether it makes sense or not."""
    changed = policy.model_copy(update={**change, "version": version})
    envelope = pilot.authority.sign(PAYLOAD_TYPE_POLICY, canonical(changed), "policy")
    pilot.policy_file.write_bytes(envelope)


def test_each_rule_of_the_policy_permits_and_refuses_and_every_refusal_is_on_the_ledger(
    pilot: Pilot, running: RunningDevice
) -> None:
    lay(pilot, *(PERSON,) * len(TABLE))
    with running() as device:
        policy = terms(device)
        for number, row in enumerate(TABLE):
            adopt(pilot, policy, policy.version + 1 + number, row.change)
            outcome = row.ask(device)
            if not row.reason:
                assert isinstance(outcome, Recorded | CaseEnrolled), (row.rule, outcome)
                assert len(getattr(outcome, "leads", ())) == row.leads, row.rule
                continue
            assert isinstance(outcome, Refusal), (row.rule, outcome)
            assert (outcome.step, outcome.reason) == (row.step, row.reason), row.rule
            last = events(device)[-1]
            assert isinstance(last, Refused)
            assert (last.step, last.reason) == (row.step, row.reason), row.rule


def test_nobody_goes_back_to_an_older_policy_not_even_over_a_restart(pilot: Pilot, running: RunningDevice) -> None:
    first = pilot.policy_file.read_bytes()
    lay(pilot, PERSON)
    with running() as device:
        policy = terms(device)
        adopt(pilot, policy, policy.version + 1, {"candidate_limit": 3})
        assert terms(device).candidate_limit == 3
        adopted = [event.version for event in events(device) if isinstance(event, PolicyAdopted)]
        assert adopted == [policy.version, policy.version + 1]
    pilot.policy_file.write_bytes(first)
    with running() as device:
        outcome = device.booth.book("B-1")
        assert isinstance(outcome, Refusal)
        assert outcome.reason == "policy-older-than-the-last"
        adopt(pilot, policy, policy.version + 1, {"candidate_limit": 20})
        outcome = device.booth.book("B-1")
        assert isinstance(outcome, Refusal)
        assert outcome.reason == "policy-version-reused"
        refusals = [event.reason for event in events(device) if isinstance(event, Refused)]
        assert refusals == ["policy-older-than-the-last", "policy-version-reused"]
        assert "capture" not in [event.kind for event in events(device)]


def test_a_memory_that_cannot_be_read_leaves_no_policy_in_force(pilot: Pilot, running: RunningDevice) -> None:
    with running() as device:
        assert terms(device).version == 1
    (pilot.root / "state" / "policy-in-force.json").write_bytes(b"{")
    with running() as device:
        outcome = device.booth.book("B-1")
        assert isinstance(outcome, Refusal)
        assert outcome.reason == "policy-memory-unreadable"


def test_a_template_leaves_when_the_policy_under_which_it_entered_says_so(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, PERSON, PERSON)
    with running() as device:
        policy = terms(device)
        adopt(pilot, policy, 2, {"retention_days": Retention(bookings=30, cases=400)})
        assert isinstance(device.booth.book("B-1"), Recorded)
        assert isinstance(device.booth.enrol_case("C-2026-1"), CaseEnrolled)
        for partition, days in (("bookings", 30), ("cases", 400)):
            assert device.gallery.retain(partition, NOW + timedelta(days=days - 1)) == []
            assert len(device.gallery.retain(partition, NOW + timedelta(days=days, hours=1))) == 1
