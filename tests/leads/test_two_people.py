"""Two people: whose signatures make two, and whose do not."""

from __future__ import annotations

import pytest

from turnkey.envelope import EnvelopeError, SigningKey
from turnkey.interlock.authority import Authority, Role
from turnkey.leads.two_people import TwoPeople, signed_by_two
from turnkey_tools.authority import new_authority, sign_with

ANN, ANTON, SUE, BOTH, NOBODY = (SigningKey.generate() for _ in range(5))
RULE = TwoPeople(proposer_role="analyst", approver_role="supervisor")
TYPE = "application/x-test"


def authority(analysts: int = 1, supervisors: int = 1, supervisor_may: str = "case-packet") -> Authority:
    def role(keys: tuple[SigningKey, ...], threshold: int, may: str) -> Role:
        return Role.model_validate({"keys": [k.public.to_hex() for k in keys], "threshold": threshold, "may": [may]})

    return new_authority(
        "Testville",
        {name: key.public for name, key in (("Ann", ANN), ("Anton", ANTON), ("Sue", SUE), ("Both", BOTH))},
        {
            "root": role((SUE,), 1, "authority"),
            "analyst": role((ANN, ANTON, BOTH), analysts, "case-packet"),
            "supervisor": role((SUE, BOTH), supervisors, supervisor_may),
        },
    )


def reason(*keys: SigningKey, rule: TwoPeople = RULE, by: Authority | None = None, data: bytes = b"") -> str:
    envelope = data or sign_with(TYPE, b"{}", keys)
    try:
        signed_by_two(envelope, TYPE, rule, by or authority(), "case-packet")
    except EnvelopeError as error:
        return error.reason
    return ""


def test_an_analyst_and_a_supervisor_are_two_people() -> None:
    signed = signed_by_two(sign_with(TYPE, b"{}", (ANN, SUE)), TYPE, RULE, authority(), "case-packet")
    assert signed.payload == b"{}"
    assert signed.keys == tuple(sorted((ANN.public.to_hex(), SUE.public.to_hex())))
    assert reason(SUE, ANN, NOBODY) == "", "a stranger's signature beside theirs changes nothing"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ((ANN,), "one-signer"),
        ((BOTH,), "one-signer"),
        ((ANN, ANTON), "approver-missing"),
        ((SUE, NOBODY), "one-signer"),
        ((NOBODY,), "not-signed"),
    ],
)
def test_one_person_is_not_two_and_neither_are_two_of_the_same_side(
    keys: tuple[SigningKey, ...], expected: str
) -> None:
    assert reason(*keys) == expected


def test_who_is_both_counts_once() -> None:
    assert reason(BOTH, SUE) == "", "who is both proposes here, the supervisor approves"
    assert reason(ANN, BOTH) == ""
    assert reason(ANN, BOTH, by=authority(analysts=2)) == "one-signer", "two must propose, and a third approve"
    assert reason(ANN, ANTON, BOTH, by=authority(analysts=2)) == ""


def test_the_same_body_may_propose_and_approve_by_two_of_its_members() -> None:
    rule = TwoPeople(proposer_role="analyst", approver_role="analyst")
    assert reason(ANN, rule=rule) == "one-signer"
    assert reason(ANN, ANTON, rule=rule) == ""


def test_thresholds_are_the_authoritys() -> None:
    assert reason(ANN, SUE, by=authority(analysts=2)) == "proposer-missing"
    assert reason(ANN, ANTON, SUE, by=authority(analysts=2)) == ""


def test_roles_must_be_known_and_must_be_allowed_to() -> None:
    assert reason(ANN, SUE, rule=TwoPeople(proposer_role="analyst", approver_role="mayor")) == "unknown-role"
    assert reason(ANN, SUE, by=authority(supervisor_may="release")) == "role-may-not"
    assert reason(data=b"{}") == "not-an-envelope"
