"""What the lead desk makes of one message: a lead it can believe, or a named refusal.

No I/O: `judge` is a function of the message, the devices' public keys and what was received before. Whatever the bytes
are, it returns a verdict; it raises for nothing that came over the wire.

The rules, in the order in which they are enforced:
1. The topic is a device's lead topic, and the desk holds that device's public key.
2. The payload is no larger than an envelope can be.
3. It is a DSSE envelope of a lead, signed by the key of the device **that the topic names**: a device cannot speak for
   another, and a broker cannot speak for any.
4. The signed bytes are a `Lead` of a schema this desk knows, from that same device.
5. Where the desk holds the city's policies: the one that the lead names permits it (permitted.py).
6. A sequence number means one lead for ever. The same lead again is a duplicate (at-least-once delivery sends some); a
   different one under a known number or id is a conflict, which an honest device cannot produce.
7. A gap in the sequence does not hide the lead behind it: the lead is accepted and the missing numbers are shown, until
   they arrive. Otherwise whoever can suppress one lead could suppress all that follow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from pydantic import ValidationError

from turnkey.envelope import MAX_ENVELOPE_BYTES, EnvelopeError, PublicKey, verify
from turnkey.leads.records import PAYLOAD_TYPE_LEAD, Lead
from turnkey.uplink.topics import Kind, parse
from turnkey_tools.leads.permitted import Policies, fault


class Reason(StrEnum):
    """Why a message is not a lead. The texts for a person are in view.py."""

    FOREIGN_TOPIC = "foreign-topic"
    UNKNOWN_DEVICE = "unknown-device"
    TOO_LARGE = "too-large"
    NOT_AN_ENVELOPE = "not-an-envelope"
    WRONG_TYPE = "wrong-type"
    NOT_SIGNED = "not-signed"
    NOT_A_LEAD = "not-a-lead"
    WRONG_DEVICE = "wrong-device"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    NOT_PERMITTED = "not-permitted"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A lead from a device this desk believes.

    Attributes:
        lead: the verified record.
        keyid: the key that signed it.
        digest: SHA-256 of the signed bytes, hexadecimal.
        envelope: what came over the wire, for the file and for discovery.
        missing: sequence numbers of this device that were skipped on the way to this lead, as inclusive ranges.
        late: it fills a number that was missing.
        policy_checked: the policy that it names is one that this desk holds, and permits it.
    """

    lead: Lead
    keyid: str
    digest: str
    envelope: bytes
    missing: tuple[tuple[int, int], ...] = ()
    late: bool = False
    policy_checked: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Not a lead, and why.

    Attributes:
        reason: the code.
        detail: more, for the audit trail; may quote the message, so it is escaped wherever it is shown.
        topic: where it came from, as it came.
    """

    reason: Reason
    detail: str
    topic: str


Verdict = Accepted | Refused


class Memory(Protocol):
    """What was accepted before. `store.Store` keeps it on disk."""

    def digest_of(self, device_id: str, sequence: int) -> str | None:
        """Digest of the lead accepted under this number; None where there is none."""

    def number_of(self, lead_id: str) -> tuple[str, int] | None:
        """Device and sequence of an accepted lead; None where there is none."""

    def highest(self, device_id: str) -> int:
        """The highest sequence accepted from a device; 0 where there is none."""


def judge(
    topic: str, payload: bytes, keys: Mapping[str, PublicKey], memory: Memory, policies: Policies | None = None
) -> Verdict:
    """Decide on one message.

    Args:
        topic: as received.
        payload: as received, any bytes.
        keys: public key per device id.
        memory: earlier leads. Not changed here: the caller stores an `Accepted` before it acknowledges the message.
        policies: signed policies by digest; None where this desk holds none, which is shown with each lead.
    """
    place = parse(topic)
    if place is None or place.kind is not Kind.LEAD:
        return Refused(Reason.FOREIGN_TOPIC, "not a lead topic", topic)
    key = keys.get(place.device_id)
    if key is None:
        return Refused(Reason.UNKNOWN_DEVICE, f"no public key for {place.device_id}", topic)
    if len(payload) > MAX_ENVELOPE_BYTES:
        return Refused(Reason.TOO_LARGE, f"{len(payload)} bytes, an envelope has at most {MAX_ENVELOPE_BYTES}", topic)
    try:
        verified = verify(payload, PAYLOAD_TYPE_LEAD, [key])
    except EnvelopeError as error:
        return Refused(Reason(error.reason), str(error), topic)
    try:
        lead = Lead.model_validate_json(verified.payload)
    except ValidationError as error:
        return Refused(Reason.NOT_A_LEAD, _first_fault(error), topic)
    if lead.device_id != place.device_id:
        return Refused(Reason.WRONG_DEVICE, f"the lead says {lead.device_id}, the topic {place.device_id}", topic)
    against = fault(lead, policies) if policies is not None else None
    if against is not None:
        return Refused(Reason.NOT_PERMITTED, against, topic)
    digest = hashlib.sha256(verified.payload).hexdigest()
    verdict = _place(lead, key.keyid, digest, payload, topic, memory)
    return replace(verdict, policy_checked=policies is not None) if isinstance(verdict, Accepted) else verdict


def _place(lead: Lead, keyid: str, digest: str, payload: bytes, topic: str, memory: Memory) -> Verdict:
    """Rules 6 and 7: where the lead stands among those received before."""
    known = memory.digest_of(lead.device_id, lead.sequence)
    if known == digest:
        return Refused(Reason.DUPLICATE, f"lead {lead.sequence} of {lead.device_id} is here already", topic)
    if known is not None:
        text = f"two different leads are signed as number {lead.sequence} of {lead.device_id}"
        return Refused(Reason.CONFLICT, text, topic)
    if memory.number_of(lead.lead_id) is not None:
        return Refused(Reason.CONFLICT, f"two different leads are signed as {lead.lead_id}", topic)
    highest = memory.highest(lead.device_id)
    gap = ((highest + 1, lead.sequence - 1),) if lead.sequence > highest + 1 else ()
    return Accepted(lead, keyid, digest, payload, gap, late=lead.sequence < highest)


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in fault['loc']) or 'record'}: {fault['msg']}"[:200]
