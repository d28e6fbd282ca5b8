"""The policy: what is not permitted, signed and in force is refused with its reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from policies import DOCUMENT, NOW

from turnkey.envelope import SigningKey, cosign, sign
from turnkey.leads.policy import PolicyReason, PolicyRefusal, SignedPolicy, read_policy
from turnkey.leads.records import PAYLOAD_TYPE_LEAD, PAYLOAD_TYPE_POLICY

CHIEF, CLERK = SigningKey.generate(), SigningKey.generate()


def read(document: dict[str, Any], *, now: datetime = NOW, device: str = "booth-1") -> SignedPolicy | PolicyRefusal:
    envelope = sign(PAYLOAD_TYPE_POLICY, json.dumps(document).encode(), CHIEF)
    return read_policy(envelope, keys=[CHIEF.public], threshold=1, device_id=device, now=now)


def reason(outcome: SignedPolicy | PolicyRefusal) -> PolicyReason:
    assert isinstance(outcome, PolicyRefusal)
    assert outcome.message
    return outcome.reason


def test_a_signed_policy_in_force_is_accepted() -> None:
    outcome = read(DOCUMENT)
    assert isinstance(outcome, SignedPolicy)
    assert outcome.policy.candidate_limit == 5
    assert outcome.policy.permits_case_number("C-2026-17")
    assert not outcome.policy.permits_case_number("C-2026-17 OR 1")
    assert isinstance(read({**DOCUMENT, "devices": ["*"]}, device="booth-9"), SignedPolicy)


def test_two_signers_are_two_people() -> None:
    one = sign(PAYLOAD_TYPE_POLICY, json.dumps(DOCUMENT).encode(), CHIEF)
    keys = [CHIEF.public, CLERK.public]
    refused = read_policy(one, keys=keys, threshold=2, device_id="booth-1", now=NOW)
    assert reason(refused) is PolicyReason.NOT_SIGNED
    both = cosign(one, CLERK)
    assert isinstance(read_policy(both, keys=keys, threshold=2, device_id="booth-1", now=NOW), SignedPolicy)


def test_anothers_signature_and_another_document_are_refused() -> None:
    payload = json.dumps(DOCUMENT).encode()
    for envelope in (sign(PAYLOAD_TYPE_POLICY, payload, CLERK), sign(PAYLOAD_TYPE_LEAD, payload, CHIEF), b"{}"):
        outcome = read_policy(envelope, keys=[CHIEF.public], threshold=1, device_id="booth-1", now=NOW)
        assert reason(outcome) is PolicyReason.NOT_SIGNED


@pytest.mark.parametrize(
    "change",
    [
        {"candidate_limit": 21},
        {"candidate_limit": 0},
        {"max_fpir": 0},
        {"max_fpir": 1},
        {"max_fpir": "NaN"},
        {"search_on_booking": ["live"]},
        {"valid_until": "2025-01-01T00:00:00Z"},
        {"valid_until": "2027-01-01T00:00:00"},
        {"valid_until": "2027-01-01T00:00:00+02:00"},
        {"case_number_format": "("},
        {"models": []},
        {"devices": []},
        {"surprise": 1},
    ],
)
def test_a_malformed_policy_is_refused(change: dict[str, Any]) -> None:
    assert reason(read({**DOCUMENT, **change})) is PolicyReason.MALFORMED


def test_time_and_device_bind() -> None:
    assert reason(read(DOCUMENT, device="booth-2")) is PolicyReason.OTHER_DEVICE
    assert reason(read(DOCUMENT, now=NOW - timedelta(days=365))) is PolicyReason.NOT_YET_VALID
    assert reason(read(DOCUMENT, now=datetime(2027, 1, 1, tzinfo=UTC))) is PolicyReason.EXPIRED
    in_force = read(DOCUMENT)
    assert isinstance(in_force, SignedPolicy)
    assert in_force.refusal_at(NOW) is None
    later = in_force.refusal_at(datetime(2028, 1, 1, tzinfo=UTC))
    assert later is not None
    assert later.reason is PolicyReason.EXPIRED
