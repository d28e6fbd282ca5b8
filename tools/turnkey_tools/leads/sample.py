"""A lead as a device would make it, for the bench and the tests: only its numbers differ from one to the next."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any, Final

from turnkey.leads.records import Lead, LeadCandidate

WHEN: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DEVICE: Final = "booking-1"


def sample_lead(sequence: int, device_id: str = DEVICE, **changes: Any) -> Lead:
    """Lead number `sequence` of a device; `changes` replace single fields."""
    fields: dict[str, Any] = {
        "lead_id": hashlib.sha256(f"{device_id} {sequence}".encode()).hexdigest()[:32],
        "device_id": device_id,
        "sequence": sequence,
        "attempt_id": f"{sequence:032x}",
        "issued_at": WHEN,
        "booking_number": f"B-{sequence}",
        "partition": "cases",
        "gallery_size": 1200,
        "threshold": 0.41,
        "max_fpir": 0.01,
        "search": "exhaustive",
        "model_id": "sface-int8",
        "policy_digest": "ab" * 32,
        "probe_quality": 71,
        "candidates": (LeadCandidate(rank=1, reference="2025-0042", score=0.53, enrolled_at=WHEN),),
    }
    return Lead(**(fields | changes))
