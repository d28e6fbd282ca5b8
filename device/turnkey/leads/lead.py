"""The lead: what is signed and sent, and all that is. The ledger's records are in `records.py`; the rules are the same.

This room does no I/O.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from turnkey.leads.fields import (
    MAX_CANDIDATES,
    AttemptId,
    DeviceId,
    LeadNumber,
    Partition,
    Probability,
    Record,
    Reference,
    Score,
    Sha256,
    Share,
    Utc,
)

LEAD_NOTICE: Literal["Investigative lead only. Not an identification and not probable cause."] = (
    "Investigative lead only. Not an identification and not probable cause."
)


class LeadCandidate(Record):
    """One gallery entry whose score reached the threshold.

    Attributes:
        rank: 1 for the best score.
        reference: case number (or booking number) under which the template was enrolled.
        score: cosine similarity, rounded to four decimals.
        enrolled_at: when the template entered the gallery.
    """

    rank: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)]
    reference: Reference
    score: Score
    enrolled_at: Utc


class Lead(Record):
    """What the lead desk receives, and all that it receives.

    Attributes:
        lead_id: 128 random bits, hexadecimal.
        device_id: the device that signed it.
        sequence: 1, 2, 3, ... per device: a gap is a lead that was withheld or lost.
        attempt_id: ties it to the search on the device's ledger, and to the capture or the case packet before it.
        issued_at: when the notary signed it.
        booking_number: the booking whose probe was searched; None where the probe came with a case packet.
        case_number: the case whose packet the probe came with; None for a booking.
        partition: the gallery partition searched.
        gallery_size: templates in that partition at the search.
        threshold: the score a candidate had to reach, for this gallery size.
        max_fpir: the false positive identification rate that the policy allows (ISO/IEC 19795-1).
        search: how it was searched: `exhaustive` read every template, `graph` did not.
        search_recall: share of mated probes whose mate that way of searching finds, as measured; 1 for `exhaustive`.
        model_id: the embedder, name and the first digits of its SHA-256.
        policy_digest: SHA-256 of the signed policy that permitted it.
        probe_quality: unified quality of the probe, 0 to 100.
        candidates: best first, at most the policy's limit.
        notice: what a lead is and is not.
    """

    lead_id: AttemptId
    device_id: DeviceId
    sequence: LeadNumber
    attempt_id: AttemptId
    issued_at: Utc
    booking_number: Reference | None
    case_number: Reference | None = None
    partition: Partition
    gallery_size: Annotated[int, Field(ge=1)]
    threshold: Score
    max_fpir: Probability
    search: Literal["exhaustive", "graph"]
    search_recall: Share = 1.0
    model_id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{1,79}$")]
    policy_digest: Sha256
    probe_quality: Annotated[int, Field(ge=0, le=100)]
    candidates: Annotated[tuple[LeadCandidate, ...], Field(min_length=1, max_length=MAX_CANDIDATES)]
    notice: Literal["Investigative lead only. Not an identification and not probable cause."] = LEAD_NOTICE

    @model_validator(mode="after")
    def _one_origin(self) -> Lead:
        if (self.booking_number is None) == (self.case_number is None):
            raise ValueError("a lead's probe is a booking's or a case's")
        return self

    @property
    def origin(self) -> str:
        """Where the probe came from, for a person: `booking B-1` or `case C-1`."""
        return f"case {self.case_number}" if self.booking_number is None else f"booking {self.booking_number}"
