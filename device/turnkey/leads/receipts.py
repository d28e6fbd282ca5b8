"""The receipt of an expungement: what a court, or the person concerned, is given to show that templates are gone.

It names the reference, which the ledger does not; whoever holds it can find its entries on an exported ledger.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from turnkey.leads.fields import DeviceId, LedgerIndex, Partition, ReasonCode, Record, Reference, Sha256, Utc

PAYLOAD_TYPE_RECEIPT = "application/vnd.turnkey.expungement-receipt+json"
MOST_ROWS = 1000
"""A reference has a handful of templates; this bounds the packet."""


class Removal(Record):
    """What was removed from the gallery, as the booth tells the notary.

    Attributes:
        rows: the templates' row numbers, which are never used again.
    """

    partition: Partition
    reference: Reference
    rows: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, max_length=MOST_ROWS)]
    reason: ReasonCode


class ExpungementReceipt(Record):
    """Signed by the device.

    Attributes:
        removed: which templates, and why.
        at: when the ledger had it, UTC.
        first_entry: place on the ledger of the first of its entries; one for each row, in the order of the rows.
        ledger_size, ledger_root: the tree that holds them, RFC 9162.
    """

    device_id: DeviceId
    removed: Removal
    at: Utc
    first_entry: LedgerIndex
    ledger_size: LedgerIndex
    ledger_root: Sha256
