"""The signed policy: what the city permits this device to do.

A policy is a document (`Policy`) in a DSSE envelope signed by k of n keys.

Rules kept here, in the order in which they are enforced by `read_policy`:
1. The envelope carries good signatures by at least the threshold of the given keys.
2. The payload is a `Policy` and nothing more.
3. It names this device, or every device of the site (`*`).
4. It is the policy that was last in force, or one of a higher version: nobody goes back to an older one, and a version
   is used once.
5. Now lies between `valid_from` and `valid_until`: no policy, or one that has run out, means that nothing is captured.

This room does no I/O: bytes, keys, the time and what was last in force are passed in.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from turnkey.envelope import EnvelopeError, PublicKey, verify
from turnkey.interlock.authority import KeyHex
from turnkey.leads.fields import MAX_CANDIDATES, DeviceId, Partition, Probability, ReasonCode, Record, Sha256, Utc
from turnkey.leads.quality_thresholds import QualityThresholds
from turnkey.leads.records import PAYLOAD_TYPE_POLICY
from turnkey.leads.two_people import TwoPeople
from turnkey.vision.limits import QualityLimits

MOST_DAYS = 36_525
"""A hundred years: what no retention and no training outlasts."""

Days = Annotated[int, Field(ge=1, le=MOST_DAYS)]


class PolicyReason(StrEnum):
    """Why a policy does not permit anything."""

    NOT_SIGNED = "policy-not-signed"
    MALFORMED = "policy-malformed"
    OTHER_DEVICE = "policy-for-another-device"
    OLDER = "policy-older-than-the-last"
    VERSION_REUSED = "policy-version-reused"
    MEMORY_UNREADABLE = "policy-memory-unreadable"
    NOT_YET_VALID = "policy-not-yet-valid"
    EXPIRED = "policy-expired"


@dataclass(frozen=True)
class PolicyRefusal:
    """A policy that does not permit anything: the reason, and what to do about it."""

    reason: PolicyReason
    message: str


class Retention(Record):
    """How long a template is kept, days from its enrolment. There is no "for ever"."""

    bookings: Days
    cases: Days


class CasePacketRule(Record):
    """What a case packet must be.

    Attributes:
        signed_by: the analyst's role and the approver's; their thresholds are the authority's.
        legal_bases: codes of the legal bases that are accepted.
        longest_days: the longest time that a packet may be good for.
        retro_search: whether its probe is searched in `bookings`, once.
    """

    signed_by: TwoPeople
    legal_bases: Annotated[tuple[ReasonCode, ...], Field(min_length=1)]
    longest_days: Days = 30
    retro_search: bool = False


class PackDevice(Record):
    """Another Turnkey, as this one knows it.

    Attributes:
        device_id: its name.
        signing_key: its notary's public key, Ed25519, hexadecimal: what it signs packs with.
        sealing_key: what packs for it are sealed to, X25519, hexadecimal.
    """

    device_id: DeviceId
    signing_key: KeyHex
    sealing_key: KeyHex


class TemplatePackRule(TwoPeople):
    """Whose signatures an exchange of templates needs, and with whom there is one.

    Attributes:
        devices: the Turnkeys that templates may go to, and come from; none: nobody.
        longest_days: the longest time that an order for a pack may be good for.
    """

    devices: tuple[PackDevice, ...] = ()
    longest_days: Days = 30

    def device(self, device_id: str) -> PackDevice | None:
        """The device of this name; None where the policy names none."""
        return next((each for each in self.devices if each.device_id == device_id), None)


class Policy(Record):
    """What is permitted. What it does not say is refused.

    Attributes:
        version: grows with each policy of a site.
        devices: device ids, or `*` for every device of the site.
        valid_from, valid_until: outside of these nothing is captured.
        offence_categories: codes of the offences for which a case may be worked on; none: no case at all.
        search_on_booking: partitions that a booking's probe is searched in; none means that bookings are only enrolled.
        alias_leads: whether a booking may give a lead on an earlier booking, which is what searching `bookings` gives.
        candidate_limit: the longest candidate list.
        max_fpir: largest permitted probability that a search of a person who is not enrolled yields any candidate.
        min_quality: unified quality (0 to 100) below which a probe is refused.
        quality: limits of single components of quality, where they are to be other than the device's own.
        enrol_bookings: whether a booking's template is kept in the `bookings` partition.
        retention_days: how long a template is kept, for each partition.
        case_packets: what a case packet must be; absent: none is accepted.
        cases_without_packets: whether a case's probe may also come from the device's own camera, or an import.
        template_packs: who must sign an exchange of templates with another Turnkey, and with which; absent: none is
            exported or accepted.
        officer_training_days: how long an officer's training counts.
        case_number_format, booking_number_format: regular expressions that a whole reference must fit.
        models: embedder ids permitted to compute templates.
    """

    version: Annotated[int, Field(ge=1)]
    devices: Annotated[tuple[DeviceId | Literal["*"], ...], Field(min_length=1)]
    valid_from: Utc
    valid_until: Utc
    offence_categories: tuple[ReasonCode, ...] = ()
    search_on_booking: tuple[Partition, ...]
    alias_leads: bool = False
    candidate_limit: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)]
    max_fpir: Probability
    min_quality: Annotated[int, Field(ge=0, le=100)]
    quality: QualityThresholds | None = None
    enrol_bookings: bool
    retention_days: Retention
    case_packets: CasePacketRule | None = None
    cases_without_packets: bool = False
    template_packs: TemplatePackRule | None = None
    officer_training_days: Days
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

    @model_validator(mode="after")
    def _consistent(self) -> Policy:
        if "bookings" in self.search_on_booking and not self.alias_leads:
            raise ValueError("a booking is searched among bookings only where alias_leads is true")
        for name in ("devices", "offence_categories", "search_on_booking", "models"):
            listed = getattr(self, name)
            if len(set(listed)) != len(listed):
                raise ValueError(f"{name} lists something twice")
        exchanging = [each.device_id for each in self.template_packs.devices] if self.template_packs else []
        if len(set(exchanging)) != len(exchanging):
            raise ValueError("template_packs names a device twice")
        return self

    def quality_limits(self, device: QualityLimits) -> QualityLimits:
        """The limits in force: the policy's where it sets one, the device's elsewhere, and the floor of the score."""
        stated = self.quality.model_dump(exclude_none=True) if self.quality else {}
        return replace(device, **stated, min_score=self.min_quality)

    def permits_case_number(self, case_number: str) -> bool:
        """Whether `case_number` has the agency's form."""
        return re.fullmatch(self.case_number_format, case_number) is not None

    def permits_booking_number(self, booking_number: str) -> bool:
        """Whether `booking_number` has the agency's form."""
        return re.fullmatch(self.booking_number_format, booking_number) is not None

    def delete_after(self, partition: Partition, enrolled_at: datetime) -> datetime:
        """When a template that enters `partition` at `enrolled_at` must be gone."""
        days = self.retention_days.bookings if partition == "bookings" else self.retention_days.cases
        return enrolled_at + timedelta(days=days)

    def training_counts(self, trained_on: date, today: date) -> bool:
        """Whether an officer's training of `trained_on` counts on `today`; training in the future never does."""
        return timedelta() <= today - trained_on < timedelta(days=self.officer_training_days)


class PolicyInForce(Record):
    """What a device remembers of the policy that was last in force: version, and SHA-256 of the bytes signed."""

    version: Annotated[int, Field(ge=1)]
    digest: Sha256


@dataclass(frozen=True)
class SignedPolicy:
    """A policy whose signatures were checked, and the SHA-256 of the bytes that were signed."""

    policy: Policy
    digest: str

    @property
    def mark(self) -> PolicyInForce:
        """What is remembered of it once it is in force."""
        return PolicyInForce(version=self.policy.version, digest=self.digest)

    def refusal_after(self, last: PolicyInForce | None) -> PolicyRefusal | None:
        """Why it does not follow the policy that was last in force; None where it does, or is that policy."""
        if last is None or last == self.mark or self.policy.version > last.version:
            return None
        if self.policy.version == last.version:
            return PolicyRefusal(
                PolicyReason.VERSION_REUSED,
                f"another policy of version {last.version} was in force before: a changed policy has a higher version",
            )
        return PolicyRefusal(
            PolicyReason.OLDER, f"version {self.policy.version} is older than version {last.version}, last in force"
        )

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
    envelope: bytes,
    *,
    keys: Iterable[PublicKey],
    threshold: int,
    device_id: str,
    now: datetime,
    last: PolicyInForce | None = None,
) -> SignedPolicy | PolicyRefusal:
    """Check a signed policy for this device.

    Args:
        envelope: DSSE envelope of type `PAYLOAD_TYPE_POLICY`.
        keys, threshold: who may sign, and how many must have.
        device_id: this device.
        now: wall clock, UTC.
        last: the policy that was last in force on this device, where there was one.
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
    return signed.refusal_after(last) or signed.refusal_at(now) or signed
