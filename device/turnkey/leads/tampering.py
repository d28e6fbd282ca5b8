"""What a device puts on record where its own stores disagree, and how the ledger names a reference without showing it.

This room does no I/O.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from turnkey.leads.fields import AttemptId, ReasonCode, Record, Sha256


class TamperFound(Record):
    """The device compared what it keeps in several places, and they disagree.

    Attributes:
        finding: what disagrees, as a code.
        stopped: whether the device stopped over it.
        expected, found: the two values, where they are numbers.
    """

    kind: Literal["tamper"] = "tamper"
    finding: ReasonCode
    stopped: bool
    expected: Annotated[int, Field(ge=0)] | None = None
    found: Annotated[int, Field(ge=0)] | None = None


def reference_digest(attempt_id: AttemptId, reference: str) -> Sha256:
    """What the ledger holds in place of a booking or case number.

    Whoever knows the number finds its entries by trying it against each attempt; nobody can link two attempts of one
    number without knowing it.
    """
    return hashlib.sha256(f"turnkey reference 1\0{attempt_id}\0{reference}".encode()).hexdigest()
