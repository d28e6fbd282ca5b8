"""Template packs: the only way for templates from one Turnkey to another. The documents, and whether they hold.

Two documents make a pack. The order is what two people sign before anything is exported: from which device, to which,
which partition, until when. The manifest is what the exporting device's notary signs once the rows are encrypted: how
many there are, of which model, and their digest. Both are in the pack's head; where the two devices follow different
authorities, two people of each sign the one order (`turnkeyctl pack merge`).

Rules kept here, in the order in which they are enforced by `judge_order`, on either device:
1. The policy permits packs at all.
2. A proposer and an approver signed the order, with different keys (`two_people`).
3. It names this device at this end, and a device of the policy's at the other.
4. It is valid now, and for no longer than the policy allows.
And by `judge_manifest`, on the receiving device:
5. The device that the order names signed it, with the key that the policy has for it.
6. It is of that order: the same two devices, the same partition, no more rows than were ordered.
7. Its templates are of the model in use: comparing across models is meaningless.
That a pack was not used before, and that its rows are those that were signed, is the device's to say, after these.

This room does no I/O.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from turnkey.envelope import EnvelopeError, PublicKey, verify
from turnkey.interlock.authority import Authority
from turnkey.leads.fields import AttemptId, DeviceId, Partition, ReasonCode, Record, Sha256, Utc
from turnkey.leads.pack_records import Signers
from turnkey.leads.policy import PackDevice, Policy
from turnkey.leads.two_people import signed_by_two

PAYLOAD_TYPE_PACK_ORDER = "application/vnd.turnkey.template-pack-order.v1+json"
PAYLOAD_TYPE_PACK = "application/vnd.turnkey.template-pack.v1+json"

MOST_ROWS = 5_000_000
"""Twice the largest gallery that was ever measured."""

Rows = Annotated[int, Field(ge=1, le=MOST_ROWS)]
Way = Literal["export", "import"]


class PackReason(StrEnum):
    """Why a pack, or an order for one, is refused, beside the reasons of `two_people` and `sealed`."""

    NOT_PERMITTED = "template-packs-not-permitted"
    UNREADABLE = "pack-unreadable"
    OTHER_DEVICE = "pack-for-another-device"
    NOT_NAMED = "device-not-named-by-policy"
    OTHER_KEY = "receivers-key-not-the-policys"
    NOT_YET_VALID = "pack-not-yet-valid"
    EXPIRED = "pack-expired"
    VALID_TOO_LONG = "pack-valid-too-long"
    NOT_SIGNED = "pack-not-signed-by-its-device"
    OTHER_ORDER = "pack-unlike-its-order"
    OTHER_MODEL = "pack-of-another-model"
    TOO_LARGE = "pack-too-large"
    TRUNCATED = "pack-truncated"
    CHANGED = "pack-changed"
    UNKNOWN_FIELD = "pack-unknown-field"
    NOTHING = "nothing-to-export"
    NOT_KEPT = "bookings-not-enrolled"
    USED_BEFORE = "pack-used-before"


class PackOrder(Record):
    """What a proposer and an approver sign.

    Attributes:
        pack_id: random; an order is good for one export and one import.
        from_device, to_device: the two ends.
        partition: whose templates go.
        most_rows: a pack of more is refused at both ends.
        not_before, not_after: when it may be exported, and imported.
        grounds: a code of the agency's own, for the ledger's readers.
    """

    pack_id: AttemptId
    from_device: DeviceId
    to_device: DeviceId
    partition: Partition
    most_rows: Rows
    not_before: Utc
    not_after: Utc
    grounds: ReasonCode

    @model_validator(mode="after")
    def _sensible(self) -> PackOrder:
        if self.not_after <= self.not_before:
            raise ValueError("an order ends after it begins")
        if self.from_device == self.to_device:
            raise ValueError("a pack goes to another device")
        return self


class PackDraft(Record):
    """What the exporting booth tells its notary.

    Attributes:
        attempt_id: of the export.
        order_digest: SHA-256 of the order's payload.
        signers: of the order.
        chunks: how many parts the rows are in.
        body_bytes, body_digest: length and SHA-256 of all parts as they are encrypted.
        key_digest: SHA-256 of the key that they are encrypted with, which the head holds: no other opens them.
    """

    attempt_id: AttemptId
    pack_id: AttemptId
    order_digest: Sha256
    signers: Signers
    to_device: DeviceId
    partition: Partition
    model_id: Annotated[str, Field(min_length=1, max_length=120)]
    rows: Rows
    chunks: Annotated[int, Field(ge=1, le=MOST_ROWS)]
    body_bytes: Annotated[int, Field(ge=1, le=2**53 - 1)]
    body_digest: Sha256
    key_digest: Sha256


class PackManifest(Record):
    """Signed by the exporting notary: `draft` is what its booth said; whose it is, and when, is the notary's own."""

    device_id: DeviceId
    at: Utc
    draft: PackDraft


@dataclass(frozen=True)
class PackRefusal:
    """A pack that is not made, or not taken. `reason` is a code for the ledger, `message` says what to do."""

    reason: str
    message: str


@dataclass(frozen=True)
class OrderHolds:
    """An order that holds at this end.

    Attributes:
        order: what was signed.
        digest: SHA-256 of it.
        signers: public keys in hexadecimal, two or more.
        other: the device at the other end, as the policy names it.
    """

    order: PackOrder
    digest: str
    signers: tuple[str, ...]
    other: PackDevice


def judge_order(
    envelope: bytes, way: Way, policy: Policy, authority: Authority, device_id: str, now: datetime
) -> OrderHolds | PackRefusal:
    """Decide about an order; the rules 1 to 4 at the top of this file, in their order.

    Args:
        envelope: the order, signed.
        way: which end this device is.
        policy: in force.
        authority: whose roles sign.
        device_id: this device.
        now: wall clock, UTC.
    """
    rule = policy.template_packs
    if rule is None:
        return PackRefusal(PackReason.NOT_PERMITTED, "the policy in force permits no template packs")
    try:
        signed = signed_by_two(envelope, PAYLOAD_TYPE_PACK_ORDER, rule, authority, "template-pack")
        order = PackOrder.model_validate_json(signed.payload)
    except EnvelopeError as error:
        return PackRefusal(error.reason, f"the order is not signed as it must be: {error}")
    except ValidationError as error:
        return unreadable("order", error)
    here, there = order.from_device, order.to_device
    if way == "import":
        here, there = there, here
    if here != device_id:
        return PackRefusal(PackReason.OTHER_DEVICE, f"the order has {here} at this end, this is {device_id}")
    other = rule.device(there)
    if other is None:
        return PackRefusal(PackReason.NOT_NAMED, f"the policy in force does not name {there}")
    refusal = _untimely(order, now, timedelta(days=rule.longest_days))
    return refusal or OrderHolds(order, hashlib.sha256(signed.payload).hexdigest(), signed.keys, other)


def judge_manifest(envelope: bytes, holds: OrderHolds, model_id: str) -> PackDraft | PackRefusal:
    """Decide about a manifest; the rules 5 to 7 at the top of this file, in their order.

    Args:
        envelope: the manifest, signed.
        holds: the order beside it, which holds here.
        model_id: the embedder in use.
    """
    order = holds.order
    try:
        key = PublicKey.from_hex(holds.other.signing_key)
        manifest = PackManifest.model_validate_json(verify(envelope, PAYLOAD_TYPE_PACK, (key,)).payload)
    except EnvelopeError as error:
        return PackRefusal(PackReason.NOT_SIGNED, f"the pack is not signed by {order.from_device}: {error}")
    except ValidationError as error:
        return unreadable("manifest", error)
    draft = manifest.draft
    said = (manifest.device_id, draft.pack_id, draft.order_digest, draft.to_device, draft.partition)
    if said != (order.from_device, order.pack_id, holds.digest, order.to_device, order.partition):
        return PackRefusal(PackReason.OTHER_ORDER, "the pack was made under another order than the one inside it")
    if draft.rows > order.most_rows:
        return PackRefusal(PackReason.TOO_LARGE, f"{draft.rows} templates, and {order.most_rows} were ordered")
    if draft.model_id != model_id:
        return PackRefusal(
            PackReason.OTHER_MODEL, f"its templates are of {draft.model_id}, this device uses {model_id}: enrol anew"
        )
    return draft


def unreadable(what: str, error: ValidationError) -> PackRefusal:
    """A document of a pack's that is not of its schema; a field that nobody knows has a reason of its own."""
    faults = error.errors(include_url=False, include_input=False)
    first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    place = ".".join(str(part) for part in first["loc"]) or "document"
    reason = PackReason.UNKNOWN_FIELD if first["type"] == "extra_forbidden" else PackReason.UNREADABLE
    return PackRefusal(reason, f"the pack's {what} is wrong at {place}: {first['msg']}")


def _untimely(order: PackOrder, now: datetime, longest: timedelta) -> PackRefusal | None:
    if order.not_after - order.not_before > longest:
        return PackRefusal(
            PackReason.VALID_TOO_LONG, f"the policy lets an order be good for {longest.days} days at most"
        )
    if now < order.not_before:
        return PackRefusal(PackReason.NOT_YET_VALID, f"the order is valid from {order.not_before.isoformat()}")
    if now >= order.not_after:
        return PackRefusal(
            PackReason.EXPIRED, f"the order was valid until {order.not_after.isoformat()}: have a new one signed"
        )
    return None
