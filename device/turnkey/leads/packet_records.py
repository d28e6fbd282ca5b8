"""The records of the rules: a policy that came into force, an officer whom it kept out, a case packet that was
presented, one that was accepted. The ledger's other records are in `records.py`; the rules are the same.

This room does no I/O.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from turnkey.leads.fields import AttemptId, ReasonCode, Record, Sha256


class PolicyAdopted(Record):
    """A policy came into force on this device for the first time. `digest`: SHA-256 of the bytes that were signed."""

    kind: Literal["policy"] = "policy"
    version: Annotated[int, Field(ge=1)]
    digest: Sha256


class SignInRefused(Record):
    """The policy kept an officer from signing in at the console. Who it was is not on the ledger."""

    kind: Literal["sign-in-refused"] = "sign-in-refused"
    reason: Literal["training-too-old"]


class PacketPresented(Record):
    """A case packet was presented to a device that could have worked on it. What is in it is not believed yet.

    Attributes:
        attempt_id: ties it to what came of it: `PacketAccepted`, or a refusal of the step `case-packet`.
        packet_digest: SHA-256 of the file.
    """

    kind: Literal["case-packet"] = "case-packet"
    attempt_id: AttemptId
    packet_digest: Sha256


class PacketAccepted(Record):
    """A case packet holds, and is used up. The enrolment and the one search that follow carry its `attempt_id`.

    Attributes:
        packet_id: random; accepted once.
        reference_digest: `reference_digest` of the case number.
        offence_category, legal_basis: what the signers stated.
        signers: the Ed25519 public keys, two or more, whose signatures are good.
        image_digest: SHA-256 of the picture as it was captured.
    """

    kind: Literal["case-packet-accepted"] = "case-packet-accepted"
    attempt_id: AttemptId
    packet_id: AttemptId
    reference_digest: Sha256
    offence_category: ReasonCode
    legal_basis: ReasonCode
    signers: Annotated[tuple[Sha256, ...], Field(min_length=2, max_length=64)]
    image_digest: Sha256
