"""What IT's view makes of one message: an attestation that it can believe, or a named refusal.

No I/O. The rules, in the order in which they are enforced:
1. The topic is a device's attestation topic, and the device's public key is known.
2. It is an envelope of an attestation, signed by the key of the device that the topic names; the record says the same.
3. The broker keeps the last of them under `state`, or, once the device's connection is lost, that its state is UNKNOWN:
   that nobody signs, and it is believed, since it claims nothing.
4. One place on a device's ledger has one entry and one root for ever. The same again is a duplicate; another one is a
   **fork**: the device (or who holds its key) keeps two histories.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from pydantic import ValidationError

from turnkey.envelope import EnvelopeError, PublicKey, verify
from turnkey.leads.records import PAYLOAD_TYPE_ATTESTATION, Attestation
from turnkey.uplink.topics import Kind, parse, unknown_state

_STATE: Final = "/state"


class Reason(StrEnum):
    """Why a message is not an attestation to be believed."""

    FOREIGN_TOPIC = "foreign-topic"
    UNKNOWN_DEVICE = "unknown-device"
    TOO_LARGE = "too-large"
    NOT_AN_ENVELOPE = "not-an-envelope"
    WRONG_TYPE = "wrong-type"
    NOT_SIGNED = "not-signed"
    NOT_AN_ATTESTATION = "not-an-attestation"
    WRONG_DEVICE = "wrong-device"
    DUPLICATE = "duplicate"
    FORK = "fork"


@dataclass(frozen=True, slots=True)
class Believed:
    """An attestation with good signature and place.

    Attributes:
        digest: SHA-256 of the signed bytes, hexadecimal.
    """

    attestation: Attestation
    digest: str
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Not believed, and why. `device_id` is the topic's, empty where it names none; `detail` may quote the message."""

    reason: Reason
    detail: str
    device_id: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The broker says that the device's connection ended: from now on its state is not known."""

    device_id: str


Verdict = Believed | Refused | Lost


class Memory(Protocol):
    """What was believed before."""

    def digest_at(self, device_id: str, index: int) -> str | None:
        """Digest of the attestation of that place; None where there is none."""


def judge(topic: str, payload: bytes, keys: Mapping[str, PublicKey], memory: Memory) -> Verdict:
    """Decide on one message; raises for nothing that came over the wire."""
    kept = topic.endswith(_STATE)
    place = parse(topic.removesuffix(_STATE))
    if place is None or place.kind is not Kind.ATTESTATION:
        return Refused(Reason.FOREIGN_TOPIC, "not an attestation topic", "")
    device_id = place.device_id
    key = keys.get(device_id)
    if key is None:
        return Refused(Reason.UNKNOWN_DEVICE, "no public key for this device", device_id)
    if kept and payload == unknown_state(device_id):
        return Lost(device_id)
    try:
        verified = verify(payload, PAYLOAD_TYPE_ATTESTATION, [key])
        attestation = Attestation.model_validate_json(verified.payload)
    except EnvelopeError as error:
        return Refused(Reason(error.reason), str(error), device_id)
    except ValidationError as error:
        return Refused(Reason.NOT_AN_ATTESTATION, f"{error.error_count()} fault(s) in the record", device_id)
    if attestation.device_id != device_id:
        return Refused(Reason.WRONG_DEVICE, f"it says {attestation.device_id}", device_id)
    digest = hashlib.sha256(verified.payload).hexdigest()
    known = memory.digest_at(device_id, attestation.index)
    if known == digest:
        return Refused(Reason.DUPLICATE, "it is here already", device_id)
    if known is not None:
        return Refused(Reason.FORK, f"two histories are signed for place {attestation.index}", device_id)
    return Believed(attestation, digest, payload)
