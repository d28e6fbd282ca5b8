"""What the fields of records are made of: the types that every schema shares, and the base of all records.

Rules kept here:
1. A person appears only as a `Reference`: opaque here, resolved only in the agency's records system.
2. Each type states its bound, so that no reader of a record has to guess one.

This room does no I/O.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

MAX_CANDIDATES = 20
"""No policy may ask for a longer list; a long list invites choosing a face off it."""


def _is_utc(value: datetime) -> datetime:
    if value.utcoffset() != timedelta(0):
        raise ValueError("times are UTC")
    return value.astimezone(UTC)


DeviceId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")]
"""A name that is also a topic level and a certificate's common name."""

Reference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,39}$")]
"""A booking or case number: opaque here, resolved only in the agency's records system."""

LeadNumber = Annotated[int, Field(ge=1, le=2**53 - 1)]
"""A lead's place among its device's; the bound is what every JSON reader keeps exact (RFC 7493, 2.2)."""

LedgerIndex = Annotated[int, Field(ge=0, le=2**53 - 1)]
ReasonCode = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,47}$")]
AttemptId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""128 random bits that tie a capture to its search, its lead and its enrolment."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Utc = Annotated[AwareDatetime, AfterValidator(_is_utc)]
Partition = Literal["bookings", "cases"]
Probability = Annotated[float, Field(gt=0.0, lt=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Score = Annotated[float, Field(ge=-1.0, le=1.0)]
"""Cosine of two centred templates."""


Step = Literal[
    "interlock",
    "policy",
    "outbox",
    "capture",
    "vision",
    "search",
    "gallery",
    "ledger",
    "order",
    "case-packet",
    "template-pack",
]
"""Where a booking, a case packet or a template pack can be refused."""


NotCapturedReason = Literal[
    "recognition-stopped", "quality-floor-not-met", "person-refused", "medical-reason", "equipment-failed"
]
"""Why a booking has no picture, as an officer can say it."""

InterlockState = Literal["BOOTING", "RUNNING", "MORATORIUM", "FAULT"]


class Record(BaseModel):
    """What all records share: frozen, closed, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")
