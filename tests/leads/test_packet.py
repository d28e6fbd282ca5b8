"""What is inside a case packet's seal: what was put in comes out, and hostile bytes are refused, never a traceback."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packets import packet_for
from policies import DOCUMENT
from pydantic import ValidationError

from turnkey.leads.packet import PacketContents, PacketReason, PacketRefusal, judge
from turnkey.leads.policy import Policy
from turnkey_tools.authority import throwaway_authority
from turnkey_tools.case import signed_packet

NOW = datetime.now(UTC)
AUTHORITY = throwaway_authority()
KEYS = (AUTHORITY.bodies["analyst"].keys[0], AUTHORITY.bodies["supervisor"].keys[0])
POLICY = Policy.model_validate(
    DOCUMENT
    | {
        "valid_until": NOW + timedelta(days=1),
        "offence_categories": ["robbery"],
        "case_packets": {
            "signed_by": {"proposer_role": "analyst", "approver_role": "supervisor"},
            "legal_bases": ["warrant"],
        },
    }
)


@given(st.binary(min_size=1, max_size=100), st.binary(min_size=1, max_size=100))
def test_what_is_put_in_comes_out(envelope: bytes, picture: bytes) -> None:
    contents = PacketContents(envelope, picture)
    assert PacketContents.from_bytes(contents.to_bytes()) == contents


@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused_by_name(data: bytes) -> None:
    contents = PacketContents.from_bytes(data)
    if isinstance(contents, PacketContents):
        verdict = judge(contents, POLICY, AUTHORITY.authority, "booth-1", NOW)
        assert isinstance(verdict, PacketRefusal)
        assert verdict.reason == "not-an-envelope"
    else:
        assert contents.reason == PacketReason.UNREADABLE


def test_what_is_wrong_with_the_signatures_is_said_before_what_is_wrong_with_the_document() -> None:
    wrong = packet_for(b"picture", legal_basis="", device_id="booth-2", picture_kind="sketch")
    verdict = judge(signed_packet(wrong, b"edited", KEYS[0]), POLICY, AUTHORITY.authority, "booth-1", NOW)
    assert isinstance(verdict, PacketRefusal)
    assert verdict.reason == "one-signer"


def test_a_sketch_is_refused_whatever_else_holds() -> None:
    for kind, reason in (
        ("sketch", PacketReason.SKETCH_OR_COMPOSITE),
        ("composite", PacketReason.SKETCH_OR_COMPOSITE),
        ("video-frame", PacketReason.VIDEO_FRAME),
    ):
        contents = signed_packet(packet_for(b"picture", picture_kind=kind), b"picture", *KEYS)
        verdict = judge(contents, POLICY, AUTHORITY.authority, "booth-1", NOW)
        assert isinstance(verdict, PacketRefusal)
        assert verdict.reason == reason


@pytest.mark.parametrize("change", [{"packet_id": "1"}, {"picture_kind": "live"}, {"device_id": "*"}, {"surprise": 1}])
def test_a_document_that_is_none_cannot_be_made(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        packet_for(b"picture", **change)
