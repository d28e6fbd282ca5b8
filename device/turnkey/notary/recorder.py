"""What the booth asks of the notary, wherever that is: in the same process, or at the other end of a socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from turnkey.interlock.permit import Permit
from turnkey.leads.receipts import Removal
from turnkey.leads.records import Event, Lead, LeadCandidate, Partition
from turnkey.leads.template_pack import PackDraft
from turnkey.notary.journal import Tally


@dataclass(frozen=True)
class LeadDraft:
    """What the booth knows of a lead; the notary adds id, device, sequence and time. Fields as in `records.Lead`."""

    attempt_id: str
    booking_number: str | None
    partition: Partition
    gallery_size: int
    threshold: float
    max_fpir: float
    model_id: str
    policy_digest: str
    probe_quality: int
    candidates: tuple[LeadCandidate, ...]
    search: Literal["exhaustive", "graph"] = "exhaustive"
    search_recall: float = 1.0
    case_number: str | None = None


class Recorder(Protocol):
    """The notary as the booth has it: in the same process, or at the other end of a socket. Errors as `Notary`'s."""

    def record(self, event: Event, permit: Permit | None = None) -> None:
        """Append one event; on disk when this returns."""
        ...

    def submit(self, draft: LeadDraft, permit: Permit) -> Lead:
        """Have a lead signed, put on the ledger and handed to the outlet."""
        ...

    def hand_over(self) -> None:
        """Give the outlet every signed lead it has not confirmed."""
        ...

    def certify(self, removal: Removal) -> bytes:
        """Put an expungement on the ledger; returns its signed receipt."""
        ...

    def sign_pack(self, draft: PackDraft, permit: Permit) -> bytes:
        """Put an export of templates on the ledger; returns its manifest, signed."""
        ...

    def tally(self, partition: Partition) -> Tally:
        """Count and highest number of the gallery's rows on the ledger."""
        ...

    def standing_rows(self, partition: Partition, after: int) -> list[int]:
        """Rows enrolled and not removed, rising, some of those above `after`; none: that was all."""
        ...
