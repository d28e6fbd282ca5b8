"""Case packets: the only way for a picture from outside to enter. The document, the file, and whether it is accepted.

A packet is one picture of an open case and a document about it, which an analyst and an approver signed, sealed to one
device (`turnkey.sealed`). Inside the seal: the length of the envelope (4 bytes, big-endian), the envelope (DSSE), the
picture's file as it was captured. A draft is the same, not sealed yet.

Rules kept here, in the order in which they are enforced by `judge`:
1. The policy accepts case packets at all.
2. An analyst and an approver signed the document, with different keys (`two_people`).
3. It is for this device, it is valid now, and for no longer than the policy allows.
4. The case number has the agency's form, the policy permits the offence, and a legal basis is stated that it accepts.
5. The picture is a photograph: no sketch, no composite, no frame of a video, whatever else permits it.
6. The picture is the one that was captured, byte for byte (SHA-256).
That a packet was not used before is the device's to say, after all of these.

This room does no I/O.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import StringConstraints, ValidationError, model_validator

from turnkey.envelope import MAX_ENVELOPE_BYTES, EnvelopeError
from turnkey.interlock.authority import Authority
from turnkey.leads.fields import AttemptId, DeviceId, ReasonCode, Record, Reference, Sha256, Utc
from turnkey.leads.policy import Policy
from turnkey.leads.two_people import signed_by_two

PAYLOAD_TYPE_CASE_PACKET = "application/vnd.turnkey.case-packet.v1+json"
SEALED_FOR = "case-packet/v1"

MAX_PICTURE_BYTES = 32 * 1024 * 1024
"""The largest picture in a packet: a 12 MP photograph as a PNG; one booth holds it in memory three times."""

MAX_PACKET_BYTES = MAX_PICTURE_BYTES + MAX_ENVELOPE_BYTES + 1024

_LENGTH_BYTES = 4

PictureKind = Literal["photograph", "sketch", "composite", "video-frame"]


class PacketReason(StrEnum):
    """Why a packet is refused, beside the reasons of `two_people` and `sealed`."""

    TOO_LARGE = "packet-too-large"
    UNREADABLE = "packet-unreadable"
    NOT_PERMITTED = "case-packets-not-permitted"
    OTHER_DEVICE = "packet-for-another-device"
    NOT_YET_VALID = "packet-not-yet-valid"
    EXPIRED = "packet-expired"
    VALID_TOO_LONG = "packet-valid-too-long"
    CASE_NUMBER_MALFORMED = "case-number-malformed"
    OFFENCE_NOT_PERMITTED = "offence-not-permitted"
    BASIS_MISSING = "legal-basis-missing"
    BASIS_NOT_ACCEPTED = "legal-basis-not-accepted"
    SKETCH_OR_COMPOSITE = "sketch-or-composite"
    VIDEO_FRAME = "video-frame"
    EDITED = "picture-not-as-captured"
    USED_BEFORE = "packet-used-before"


class CasePacket(Record):
    """The document that an analyst and an approver sign.

    Attributes:
        packet_id: random; a packet is accepted once.
        device_id: the one device that it is for.
        not_before, not_after: when it may be applied.
        case_number: of the agency's records system.
        offence_category: a code of the policy's.
        legal_basis: a code of the policy's; empty where none is stated, which every device refuses.
        basis_reference: the number of the warrant or order, where the basis has one.
        picture_sha256: of the picture's file as it was captured, from whoever captured it.
        picture_kind: what the picture is.
    """

    packet_id: AttemptId
    device_id: DeviceId
    not_before: Utc
    not_after: Utc
    case_number: Reference
    offence_category: ReasonCode
    legal_basis: ReasonCode | Annotated[str, StringConstraints(max_length=0)]
    basis_reference: Reference | None = None
    picture_sha256: Sha256
    picture_kind: PictureKind

    @model_validator(mode="after")
    def _in_order(self) -> CasePacket:
        if self.not_after <= self.not_before:
            raise ValueError("a packet ends after it begins")
        return self


@dataclass(frozen=True)
class PacketContents:
    """What is inside a packet.

    Attributes:
        envelope: the signed document (DSSE).
        picture: the picture's file.
    """

    envelope: bytes
    picture: bytes

    def to_bytes(self) -> bytes:
        """As it is sealed."""
        return len(self.envelope).to_bytes(_LENGTH_BYTES, "big") + self.envelope + self.picture

    @classmethod
    def from_bytes(cls, data: bytes) -> PacketContents | PacketRefusal:
        """What `to_bytes` wrote."""
        end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "big")
        if not _LENGTH_BYTES < end < len(data):
            return PacketRefusal(PacketReason.UNREADABLE, "what was sealed is no case packet")
        return cls(data[_LENGTH_BYTES:end], data[end:])


@dataclass(frozen=True)
class PacketHolds:
    """A packet that may be worked on.

    Attributes:
        packet: what was signed.
        signers: public keys in hexadecimal, two or more.
        retro_search: whether the policy lets its probe be searched in `bookings`, once.
    """

    packet: CasePacket
    signers: tuple[str, ...]
    retro_search: bool


@dataclass(frozen=True)
class PacketRefusal:
    """A packet that is not worked on. `reason` is a code for the ledger, `message` tells the analyst what to do."""

    reason: str
    message: str


def judge(
    contents: PacketContents, policy: Policy, authority: Authority, device_id: str, now: datetime
) -> PacketHolds | PacketRefusal:
    """Decide about a packet; every rule at the top of this file, in its order.

    Args:
        contents: what was inside the seal.
        policy: in force.
        authority: whose roles sign.
        device_id: this device.
        now: wall clock, UTC.
    """
    rule = policy.case_packets
    if rule is None:
        return PacketRefusal(PacketReason.NOT_PERMITTED, "the policy in force accepts no case packets")
    try:
        signed = signed_by_two(contents.envelope, PAYLOAD_TYPE_CASE_PACKET, rule.signed_by, authority, "case-packet")
        packet = CasePacket.model_validate_json(signed.payload)
    except EnvelopeError as error:
        return PacketRefusal(error.reason, f"the packet is not signed as it must be: {error}")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        return PacketRefusal(PacketReason.UNREADABLE, f"the packet's {place} is wrong: {first['msg']}")
    refusal = (
        _untimely(packet, device_id, now, timedelta(days=rule.longest_days))
        or _unfounded(packet, policy, rule.legal_bases)
        or _unfit(packet, contents.picture)
    )
    return refusal or PacketHolds(packet, signed.keys, rule.retro_search)


def _untimely(packet: CasePacket, device_id: str, now: datetime, longest: timedelta) -> PacketRefusal | None:
    if packet.device_id != device_id:
        return PacketRefusal(PacketReason.OTHER_DEVICE, f"the packet is for {packet.device_id}, this is {device_id}")
    if packet.not_after - packet.not_before > longest:
        return PacketRefusal(
            PacketReason.VALID_TOO_LONG, f"the policy lets a packet be good for {longest.days} days at most"
        )
    if now < packet.not_before:
        return PacketRefusal(PacketReason.NOT_YET_VALID, f"the packet is valid from {packet.not_before.isoformat()}")
    if now >= packet.not_after:
        return PacketRefusal(
            PacketReason.EXPIRED, f"the packet was valid until {packet.not_after.isoformat()}: make a new one"
        )
    return None


def _unfounded(packet: CasePacket, policy: Policy, legal_bases: tuple[str, ...]) -> PacketRefusal | None:
    if not policy.permits_case_number(packet.case_number):
        return PacketRefusal(PacketReason.CASE_NUMBER_MALFORMED, "the case number has not the agency's form")
    if packet.offence_category not in policy.offence_categories:
        return PacketRefusal(
            PacketReason.OFFENCE_NOT_PERMITTED,
            f"the policy does not permit this for {packet.offence_category}; it permits it for "
            f"{', '.join(policy.offence_categories) or 'no offence'}",
        )
    if not packet.legal_basis:
        return PacketRefusal(PacketReason.BASIS_MISSING, "the packet states no legal basis")
    if packet.legal_basis not in legal_bases:
        return PacketRefusal(
            PacketReason.BASIS_NOT_ACCEPTED,
            f"the policy does not accept {packet.legal_basis} as a legal basis; it accepts {', '.join(legal_bases)}",
        )
    return None


def _unfit(packet: CasePacket, picture: bytes) -> PacketRefusal | None:
    if packet.picture_kind in ("sketch", "composite"):
        return PacketRefusal(PacketReason.SKETCH_OR_COMPOSITE, "a sketch or a composite is nobody's photograph")
    if packet.picture_kind == "video-frame":
        return PacketRefusal(PacketReason.VIDEO_FRAME, "frames of a video are not searched")
    if hashlib.sha256(picture).hexdigest() != packet.picture_sha256:
        return PacketRefusal(
            PacketReason.EDITED, "the picture is not the one that was captured: pack the original file, unedited"
        )
    return None
