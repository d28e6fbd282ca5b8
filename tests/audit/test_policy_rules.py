"""What the auditor holds against a ledger whose rules went back, or whose case packets were used more than once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from turnkey.leads.records import Event, LedgerEntry, PacketAccepted, PolicyAdopted, Searched
from turnkey_tools.audit.rules import Rules

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)


def found(*events: Event) -> list[str]:
    """Codes that an export beginning in the middle of a run gives for these events."""
    rules, codes = Rules("booth-1", 7), []
    for place, event in enumerate(events):
        at = BEGAN + timedelta(seconds=place)
        entry = LedgerEntry(
            device_id="booth-1", index=7 + place, boot_id="b" * 32, at=at, monotonic_ns=place * 10**9, event=event
        )
        codes += [finding.code for finding in rules.take(entry, at.timestamp())]
    return codes


def policy(version: int, digest: str = "a") -> PolicyAdopted:
    return PolicyAdopted(version=version, digest=digest * 64)


def packet(attempt: str, number: str = "1") -> PacketAccepted:
    return PacketAccepted(
        attempt_id=attempt * 32,
        packet_id=number * 32,
        reference_digest="c" * 64,
        offence_category="robbery",
        legal_basis="warrant",
        signers=("d" * 64, "e" * 64),
        image_digest="f" * 64,
    )


def search(attempt: str) -> Searched:
    return Searched(
        attempt_id=attempt * 32,
        partition="bookings",
        gallery_size=3,
        threshold=0.4,
        max_fpir=0.01,
        search="exhaustive",
        model_id="sface-0123456789ab",
        policy_digest="a" * 64,
        candidates=0,
    )


def test_policies_that_grow_are_good_and_one_that_goes_back_is_a_violation() -> None:
    assert found(policy(1), policy(2), policy(2), policy(9)) == []
    assert found(policy(2), policy(1)) == ["policy-went-back"]
    assert found(policy(2), policy(2, digest="b")) == ["policy-went-back"]
    assert found(policy(3), policy(1), policy(2)) == ["policy-went-back", "policy-went-back"]


def test_a_packet_is_accepted_once_whatever_attempt_says_so() -> None:
    assert found(packet("1"), packet("2", number="2")) == []
    assert found(packet("1"), packet("2")) == ["packet-used-twice"]


def test_a_packets_probe_is_searched_once_and_a_bookings_as_often_as_it_has_partitions() -> None:
    assert found(packet("1"), search("1")) == []
    assert found(packet("1"), search("1"), search("1")) == ["packet-searched-twice"]
    assert found(search("9"), search("9")) == []
