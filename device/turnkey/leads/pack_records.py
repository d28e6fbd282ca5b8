"""The records of an exchange of templates with another Turnkey. The ledger's other records are in `records.py`; the
rules are the same: counts, codes and digests, no reference and no template.

This room does no I/O.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from turnkey.leads.fields import AttemptId, DeviceId, Partition, ReasonCode, Record, Sha256

Signers = Annotated[tuple[Sha256, ...], Field(min_length=2, max_length=64)]
"""Ed25519 public keys whose signatures are good."""

Count = Annotated[int, Field(ge=0, le=2**53 - 1)]


class PackExported(Record):
    """Templates were encrypted for another Turnkey, and the pack was signed. Nobody else can read it.

    Attributes:
        pack_id: of the order that two people signed; an order is good for one export.
        order_digest: SHA-256 of what they signed.
        rows: how many templates.
        signers: who they were.
        pack_digest: SHA-256 of the rows as they are encrypted; the receiving device's ledger has the same.
    """

    kind: Literal["template-pack-exported"] = "template-pack-exported"
    attempt_id: AttemptId
    pack_id: AttemptId
    order_digest: Sha256
    to_device: DeviceId
    partition: Partition
    model_id: str
    rows: Annotated[int, Field(ge=1)]
    signers: Signers
    pack_digest: Sha256


class PackPresented(Record):
    """A template pack was presented to a device that could have taken it. What is in it is not believed yet.

    Attributes:
        attempt_id: ties it to what came of it: `PackAccepted`, or a refusal of the step `template-pack`.
        pack_digest: SHA-256 of the rows as they are encrypted.
    """

    kind: Literal["template-pack"] = "template-pack"
    attempt_id: AttemptId
    pack_digest: Sha256


class PackAccepted(Record):
    """A template pack holds, whole, and its templates are enrolled from now on.

    Attributes:
        pack_id: of the order that two people signed; accepted once, and again only to finish what was cut short.
        order_digest: SHA-256 of what they signed.
        from_device: whose signature it bears.
        rows: how many templates are in it.
        resumed: whether an earlier attempt was cut short.
    """

    kind: Literal["template-pack-accepted"] = "template-pack-accepted"
    attempt_id: AttemptId
    pack_id: AttemptId
    order_digest: Sha256
    from_device: DeviceId
    partition: Partition
    model_id: str
    rows: Annotated[int, Field(ge=1)]
    signers: Signers
    pack_digest: Sha256
    resumed: bool = False


class PackEnrolled(Record):
    """Templates out of a pack entered a partition, in rows that follow each other.

    Attributes:
        first_row, rows: numbers `first_row` to `first_row + rows - 1`.
    """

    kind: Literal["template-pack-enrolment"] = "template-pack-enrolment"
    attempt_id: AttemptId
    partition: Partition
    first_row: Annotated[int, Field(ge=1)]
    rows: Annotated[int, Field(ge=1, le=64)]


class PackImported(Record):
    """All of a pack was gone through: it is used up.

    Attributes:
        enrolled: how many templates this attempt enrolled.
        enrolled_before: how many an attempt that was cut short had.
        refused: how many were not taken, by reason.
    """

    kind: Literal["template-pack-imported"] = "template-pack-imported"
    attempt_id: AttemptId
    pack_id: AttemptId
    enrolled: Count
    enrolled_before: Count = 0
    refused: Annotated[dict[ReasonCode, Count], Field(max_length=32, default_factory=dict)]
