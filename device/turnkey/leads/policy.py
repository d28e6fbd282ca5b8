"""The signed policy: what the city permits this device to do.

A policy is a document (`Policy`) in a DSSE envelope signed by k of n keys. This form holds what one booking needs;
offence categories, case packets and the policy's succession are added to the same document.

Rules kept here, in the order in which they are enforced by `read_policy`:
1. The envelope carries good signatures by at least the threshold of the given keys.
2. The payload is a `Policy` and nothing more.
3. It names this device, or every device of the site (`*`).
4. Now lies between `valid_from` and `valid_until`: no policy, or one that has run out, means that nothing is captured.

This room does no I/O: bytes, keys and the time are passed in.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from turnkey.envelope import EnvelopeError, PublicKey, verify
from turnkey.leads.records import MAX_CANDIDATES, PAYLOAD_TYPE_POLICY, DeviceId, Partition, Probability, Record, Utc


class PolicyReason(StrEnum):
    """Why a policy does not permit anything."""

    NOT_SIGNED = "policy-not-signed"
    MALFORMED = "policy-malformed"
    OTHER_DEVICE = "policy-for-another-device"
    NOT_YET_VALID = "policy-not-yet-valid"
    EXPIRED = "policy-expired"


@dataclass(frozen=True)
class PolicyRefusal:
    """A policy that does not permit anything: the reason, and what to do about it."""

    reason: PolicyReason
    message: str


class Policy(Record):
    """What is permitted. What it does not say is refused.

    Attributes:
        version: grows with each policy of a site.
        devices: device ids, or `*` for every device of the site.
        valid_from, valid_until: outside of these nothing is captured.
        search_on_booking: partitions that a booking's probe is searched in; none means that bookings are only enrolled.
        candidate_limit: the longest candidate list.
        max_fpir: largest permitted probability that a search of a person who is not enrolled yields any candidate.
        min_quality: unified quality (0 to 100) below which a probe is refused.
        enrol_bookings: whether a booking's template is kept in the `bookings` partition.
        case_number_format, booking_number_format: regular expressions that a whole reference must fit.
        models: embedder ids permitted to compute templates.
    """

    version: Annotated[int, Field(ge=1)]
    devices: Annotated[tuple[DeviceId | Literal["*"], ...], Field(min_length=1)]
    valid_from: Utc
    valid_until: Utc
    search_on_booking: tuple[Partition, ...]
    candidate_limit: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)]
    max_fpir: Probability
    min_quality: Annotated[int, Field(ge=0, le=100)]
    enrol_bookings: bool
    case_number_format: str
    booking_number_format: str
    models: Annotated[tuple[str, ...], Field(min_length=1)]

    @field_validator("case_number_format", "booking_number_format")
    @classmethod
    def _is_expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _window_is_open(self) -> Policy:
        if self.valid_until <= self.valid_from:
            raise ValueError("valid_until lies after valid_from")
        return self

    def permits_case_number(self, case_number: str) -> bool:
        """Whether `case_number` has the agency's form."""
        return re.fullmatch(self.case_number_format, case_number) is not None

    def permits_booking_number(self, booking_number: str) -> bool:
        """Whether `booking_number` has the agency's form."""
        return re.fullmatch(self.booking_number_format, booking_number) is not None


@dataclass(frozen=True)
class SignedPolicy:
    """A policy whose signatures were checked, and the SHA-256 of the bytes that were signed."""

    policy: Policy
    digest: str

    def refusal_at(self, now: datetime) -> PolicyRefusal | None:
        """Why nothing is permitted at `now` (UTC); None where the policy is in force."""
        if now < self.policy.valid_from:
            return PolicyRefusal(
                PolicyReason.NOT_YET_VALID, f"the policy is valid from {self.policy.valid_from.isoformat()}"
            )
        if now >= self.policy.valid_until:
            return PolicyRefusal(
                PolicyReason.EXPIRED,
                f"the policy ended at {self.policy.valid_until.isoformat()}: ask for the one that follows it",
            )
        return None


def read_policy(
    envelope: bytes, *, keys: Iterable[PublicKey], threshold: int, device_id: str, now: datetime
) -> SignedPolicy | PolicyRefusal:
    """Check a signed policy for this device.

    Args:
        envelope: DSSE envelope of type `PAYLOAD_TYPE_POLICY`.
        keys, threshold: who may sign, and how many must have.
        device_id: this device.
        now: wall clock, UTC.
    """
    try:
        verified = verify(envelope, PAYLOAD_TYPE_POLICY, keys, threshold=threshold)
    except EnvelopeError as error:
        return PolicyRefusal(PolicyReason.NOT_SIGNED, f"the policy is not signed as it must be: {error}")
    try:
        policy = Policy.model_validate_json(verified.payload)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        return PolicyRefusal(PolicyReason.MALFORMED, f"the policy's {place} is wrong: {first['msg']}")
    if device_id not in policy.devices and "*" not in policy.devices:
        return PolicyRefusal(PolicyReason.OTHER_DEVICE, f"the policy does not name {device_id}")
    signed = SignedPolicy(policy, hashlib.sha256(verified.payload).hexdigest())
    return signed.refusal_at(now) or signed
