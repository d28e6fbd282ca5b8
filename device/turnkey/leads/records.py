"""Every record that is signed, stored on the ledger or sent: one pydantic model each, the only source of the schemas.

The JSON Schemas under device/turnkey/leads/schemas/ are generated from these models by `turnkeyctl schemas`, and a test
holds them to it.

Rules kept here:
1. Records are frozen, and extra fields are refused: what is not written here cannot leave the device.
2. No image, no template, no name: a person appears only as the opaque reference that the agency's records system gave.
3. Times are UTC with their offset written out.
4. One record has one encoding (`canonical`), so that a hash or a signature of it means one thing.

This room does no I/O.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from turnkey.leads.fields import MAX_CANDIDATES as MAX_CANDIDATES
from turnkey.leads.fields import AttemptId as AttemptId
from turnkey.leads.fields import DeviceId as DeviceId
from turnkey.leads.fields import LeadNumber as LeadNumber
from turnkey.leads.fields import LedgerIndex as LedgerIndex
from turnkey.leads.fields import NotCapturedReason as NotCapturedReason
from turnkey.leads.fields import Partition as Partition
from turnkey.leads.fields import Probability as Probability
from turnkey.leads.fields import ReasonCode as ReasonCode
from turnkey.leads.fields import Record as Record
from turnkey.leads.fields import Reference as Reference
from turnkey.leads.fields import Score as Score
from turnkey.leads.fields import Sha256 as Sha256
from turnkey.leads.fields import Share as Share
from turnkey.leads.fields import Step as Step
from turnkey.leads.fields import Utc as Utc
from turnkey.leads.lead import LEAD_NOTICE as LEAD_NOTICE
from turnkey.leads.lead import Lead as Lead
from turnkey.leads.lead import LeadCandidate as LeadCandidate
from turnkey.leads.pack_records import PackAccepted as PackAccepted
from turnkey.leads.pack_records import PackEnrolled as PackEnrolled
from turnkey.leads.pack_records import PackExported as PackExported
from turnkey.leads.pack_records import PackImported as PackImported
from turnkey.leads.pack_records import PackPresented as PackPresented
from turnkey.leads.packet_records import PacketAccepted as PacketAccepted
from turnkey.leads.packet_records import PacketPresented as PacketPresented
from turnkey.leads.packet_records import PolicyAdopted as PolicyAdopted
from turnkey.leads.packet_records import SignInRefused as SignInRefused
from turnkey.leads.standing import Boot as Boot
from turnkey.leads.standing import Heartbeat as Heartbeat
from turnkey.leads.standing import OrderSeen as OrderSeen
from turnkey.leads.standing import SwitchChanged as SwitchChanged
from turnkey.leads.tampering import TamperFound as TamperFound
from turnkey.leads.tampering import reference_digest as reference_digest
from turnkey.leads.upkeep import HealthChecked as HealthChecked
from turnkey.leads.upkeep import Updated as Updated

PAYLOAD_TYPE_LEAD = "application/vnd.turnkey.lead.v1+json"
PAYLOAD_TYPE_ATTESTATION = "application/vnd.turnkey.attestation.v1+json"
PAYLOAD_TYPE_POLICY = "application/vnd.turnkey.policy.v1+json"


class Captured(Record):
    """A picture was taken. Its content is nowhere on the ledger.

    Attributes:
        reference_digest: `reference_digest` of the booking or case number.
    """

    kind: Literal["capture"] = "capture"
    attempt_id: AttemptId
    frames: Annotated[int, Field(ge=1)]
    purpose: Literal["booking", "case"]
    reference_digest: Sha256 | None = None


class PictureImported(Record):
    """A picture of the agency's own records was taken in, to be enrolled and for nothing else. It is discarded.

    Attributes:
        reference_digest: `reference_digest` of the booking or case number.
        image_digest: SHA-256 of its file.
    """

    kind: Literal["import"] = "import"
    attempt_id: AttemptId
    partition: Partition
    reference_digest: Sha256
    image_digest: Sha256


class Searched(Record):
    """A partition was searched, and how many candidates reached the threshold."""

    kind: Literal["search"] = "search"
    attempt_id: AttemptId
    partition: Partition
    gallery_size: Annotated[int, Field(ge=0)]
    threshold: Score | None
    max_fpir: Probability
    search: Literal["exhaustive", "graph"]
    search_recall: Share = 1.0
    model_id: str
    policy_digest: Sha256
    candidates: Annotated[int, Field(ge=0)]
    probe_quality: Annotated[int, Field(ge=0, le=100)] | None = None


class LeadSigned(Record):
    """A lead was signed and handed to the outbox.

    Attributes:
        envelope_digest: SHA-256 of the envelope.
        candidates: `reference_digest` of each candidate, best first.
    """

    kind: Literal["lead"] = "lead"
    attempt_id: AttemptId
    lead_id: AttemptId
    sequence: LeadNumber
    envelope_digest: Sha256
    candidates: tuple[Sha256, ...] = ()


class Enrolled(Record):
    """A template entered a partition."""

    kind: Literal["enrolment"] = "enrolment"
    attempt_id: AttemptId
    partition: Partition
    row: Annotated[int, Field(ge=1)]


class Expunged(Record):
    """A template left the gallery for good."""

    kind: Literal["expungement"] = "expungement"
    partition: Partition
    row: Annotated[int, Field(ge=1)]
    reason: ReasonCode


class Refused(Record):
    """A step said no: which one, and why. `attempt_id` is absent where none had begun."""

    kind: Literal["refusal"] = "refusal"
    attempt_id: AttemptId | None = None
    step: Step
    reason: ReasonCode


class NotCaptured(Record):
    """An officer says why a booking has no picture.

    Attributes:
        booking_number: so that the records system knows that none is missing.
        reason: what the officer chose.
        refusals: pictures of this booking that were taken and refused before.
    """

    kind: Literal["not-captured"] = "not-captured"
    booking_number: Reference
    reason: NotCapturedReason
    refusals: Annotated[int, Field(ge=0)]


class Discarded(Record):
    """A stop came while work was in flight, and the work was thrown away."""

    kind: Literal["discarded"] = "discarded"
    attempt_id: AttemptId
    reason: ReasonCode


Event = Annotated[
    Boot
    | SwitchChanged
    | Heartbeat
    | OrderSeen
    | PolicyAdopted
    | SignInRefused
    | PacketPresented
    | PacketAccepted
    | PackPresented
    | PackAccepted
    | PackEnrolled
    | PackImported
    | PackExported
    | Captured
    | PictureImported
    | Searched
    | LeadSigned
    | Enrolled
    | Expunged
    | Refused
    | Updated
    | HealthChecked
    | NotCaptured
    | Discarded
    | TamperFound,
    Field(discriminator="kind"),
]


class LedgerEntry(Record):
    """One leaf of the ledger.

    Attributes:
        device_id: whose ledger.
        index: 0, 1, 2, ...: the leaf's place in the tree.
        boot_id: 128 random bits made at the notary's start.
        at: wall clock, UTC.
        monotonic_ns: the notary's monotonic clock, so that a step of the wall clock shows.
        event: what happened.
    """

    device_id: DeviceId
    index: LedgerIndex
    boot_id: AttemptId
    at: Utc
    monotonic_ns: Annotated[int, Field(ge=0)]
    event: Event


class Attestation(Record):
    """An entry of the ledger that says nothing about any person, published, with the tree that it made.

    The first six attributes are the entry's; `ledger_root` binds the device to everything before it as well, so that
    each attestation is a checkpoint.

    Attributes:
        event: a boot, a change of state, a heartbeat or a step of an update; no other kind leaves the device.
        ledger_root: RFC 9162 root hash of the tree of `index + 1` entries, hexadecimal.
        checkpoint: the same tree as a signed note (C2SP tlog-checkpoint): what a witness cosigns.
        previous_size: size of the tree of the attestation before this one, 0 for the first.
        consistency: RFC 9162 proof, hexadecimal, that this tree only added to that one.
    """

    device_id: DeviceId
    index: LedgerIndex
    boot_id: AttemptId
    at: Utc
    monotonic_ns: Annotated[int, Field(ge=0)]
    event: Annotated[Boot | SwitchChanged | Heartbeat | Updated, Field(discriminator="kind")]
    ledger_root: Sha256
    checkpoint: Annotated[str, StringConstraints(max_length=1024)] = ""
    previous_size: LedgerIndex = 0
    consistency: Annotated[tuple[Sha256, ...], Field(max_length=128)] = ()

    def entry(self) -> LedgerEntry:
        """The entry that must stand at `index` of the device's ledger."""
        shared = self.model_dump(include={"device_id", "index", "boot_id", "at", "monotonic_ns"})
        return LedgerEntry(**shared, event=self.event)


EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def canonical(record: Record) -> bytes:
    """The one encoding of a record: JSON, fields in the order of the model, no white space, UTF-8."""
    return record.model_dump_json().encode()


def schemas() -> dict[str, dict[str, object]]:
    """JSON Schema (2020-12) of each record that leaves the device or is exported, by file name."""
    return {
        "lead.v1.json": _schema(Lead, "lead.v1.json"),
        "attestation.v1.json": _schema(Attestation, "attestation.v1.json"),
        "ledger-entry.v1.json": _schema(LedgerEntry, "ledger-entry.v1.json"),
    }


def _schema(record: type[Record], name: str) -> dict[str, object]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:turnkey:schema:{name.removesuffix('.json')}",
        **record.model_json_schema(mode="serialization"),
    }
