"""A lead is held to the signed policy that it names."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from turnkey.envelope import SigningKey, sign
from turnkey.leads.policy import CasePacketRule, Policy, Retention
from turnkey.leads.records import PAYLOAD_TYPE_LEAD, PAYLOAD_TYPE_POLICY, Lead, LeadCandidate, canonical
from turnkey.leads.two_people import TwoPeople
from turnkey_tools.authority import ThrowawayAuthority, throwaway_authority
from turnkey_tools.leads.desk import Accepted, Reason, Refused, judge
from turnkey_tools.leads.permitted import PolicyFileError, fault, signed_policies
from turnkey_tools.leads.store import Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = SigningKey.generate()
TOPIC = "turnkey/v1/booth-1/lead"
POLICY = Policy(
    version=3,
    devices=("booth-1",),
    valid_from=NOW - timedelta(days=1),
    valid_until=NOW + timedelta(days=1),
    search_on_booking=("cases",),
    candidate_limit=1,
    max_fpir=0.01,
    min_quality=20,
    enrol_bookings=True,
    retention_days=Retention(bookings=365, cases=1826),
    officer_training_days=365,
    case_number_format=".*",
    booking_number_format=".*",
    models=("sface-0",),
)
DIGEST = hashlib.sha256(canonical(POLICY)).hexdigest()
CANDIDATE = LeadCandidate(rank=1, reference="C-1", score=0.4, enrolled_at=NOW)
LEAD = Lead(
    lead_id="1" * 32,
    device_id="booth-1",
    sequence=1,
    attempt_id="2" * 32,
    issued_at=NOW,
    booking_number="B-1",
    partition="cases",
    gallery_size=3,
    threshold=0.40003,
    max_fpir=0.01,
    search="exhaustive",
    model_id="sface-0",
    policy_digest=DIGEST,
    probe_quality=70,
    candidates=(CANDIDATE,),
)


def changed(**change: Any) -> Lead:
    return Lead.model_validate(LEAD.model_dump() | change)


def test_a_lead_that_its_policy_permits_has_no_fault() -> None:
    assert fault(LEAD, {DIGEST: POLICY}) is None, "a score rounded to four decimals is not below its threshold"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"policy_digest": "0" * 64}, "holds no signed policy"),
        ({"device_id": "booth-2"}, "does not name"),
        ({"issued_at": NOW + timedelta(days=1)}, "not in force"),
        ({"issued_at": NOW - timedelta(days=2)}, "not in force"),
        ({"partition": "bookings"}, "searching bookings"),
        ({"candidates": (CANDIDATE, CANDIDATE.model_copy(update={"rank": 2}))}, "2 candidates"),
        ({"max_fpir": 0.02}, "FPIR of 0.02"),
        ({"model_id": "sface-1"}, "model sface-1"),
        ({"probe_quality": 19}, "quality 19"),
        ({"threshold": 0.5}, "below the lead's own threshold"),
    ],
)
def test_each_way_to_exceed_the_policy_is_named(change: dict[str, Any], said: str) -> None:
    found = fault(changed(**change), {DIGEST: POLICY})
    assert found is not None
    assert said in found


@pytest.mark.parametrize(
    ("retro_search", "partition", "permitted"),
    [(True, "bookings", True), (True, "cases", False), (False, "bookings", False)],
)
def test_a_cases_probe_gives_leads_among_the_bookings_where_the_policy_says_so_and_nowhere_else(
    retro_search: bool, partition: str, permitted: bool
) -> None:
    rule = CasePacketRule(
        signed_by=TwoPeople(proposer_role="analyst", approver_role="supervisor"),
        legal_bases=("warrant",),
        retro_search=retro_search,
    )
    lead = changed(booking_number=None, case_number="C-7", partition=partition)
    found = fault(lead, {DIGEST: POLICY.model_copy(update={"case_packets": rule})})
    assert (found is None) is permitted
    assert fault(lead, {DIGEST: POLICY}) is not None, "a policy without case packets permits none of it"


@pytest.mark.parametrize("change", [{"booking_number": None}, {"case_number": "C-7"}])
def test_a_lead_has_one_origin(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="a booking's or a case's"):
        changed(**change)


def test_the_desk_refuses_what_the_policy_does_not_permit_and_says_where_it_did_not_look(tmp_path: Path) -> None:
    with Store(tmp_path / "desk.db") as store:
        over = sign(PAYLOAD_TYPE_LEAD, canonical(changed(max_fpir=0.02)), KEY)
        refused = judge(TOPIC, over, {"booth-1": KEY.public}, store, {DIGEST: POLICY})
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.NOT_PERMITTED
        good = sign(PAYLOAD_TYPE_LEAD, canonical(LEAD), KEY)
        for policies in ({DIGEST: POLICY}, None):
            accepted = judge(TOPIC, good, {"booth-1": KEY.public}, store, policies)
            assert isinstance(accepted, Accepted)
            assert accepted.policy_checked is (policies is not None)


def files(folder: Path, authority: ThrowawayAuthority, envelope: bytes) -> tuple[Path, Path]:
    (folder / "authority.json").write_bytes(authority.envelope)
    (folder / "policy.json").write_bytes(envelope)
    return folder / "authority.json", folder / "policy.json"


def test_a_policy_is_believed_by_the_authoritys_signatures_alone(tmp_path: Path) -> None:
    authority = throwaway_authority()
    signed = authority.sign(PAYLOAD_TYPE_POLICY, canonical(POLICY), "policy")
    assert signed_policies(*(lambda a, p: (a, [p]))(*files(tmp_path, authority, signed))) == {DIGEST: POLICY}
    for envelope in (
        sign(PAYLOAD_TYPE_POLICY, canonical(POLICY), KEY),
        sign(PAYLOAD_TYPE_POLICY, canonical(POLICY), authority.bodies["policy"].keys[0]),
        authority.sign(PAYLOAD_TYPE_POLICY, canonical(POLICY), "chief"),
        authority.sign(PAYLOAD_TYPE_POLICY, b"{}", "policy"),
        b"not an envelope",
    ):
        trusted, policy = files(tmp_path, authority, envelope)
        with pytest.raises(PolicyFileError, match=r"policy\.json"):
            signed_policies(trusted, [policy])
    with pytest.raises(PolicyFileError, match="nowhere"):
        signed_policies(tmp_path / "nowhere.json", [])
