"""A policy for tests, as its document, and a time at which it is in force."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DOCUMENT: dict[str, Any] = {
    "version": 1,
    "devices": ["booth-1"],
    "valid_from": "2026-01-01T00:00:00Z",
    "valid_until": "2027-01-01T00:00:00Z",
    "search_on_booking": ["cases"],
    "candidate_limit": 5,
    "max_fpir": 0.01,
    "min_quality": 20,
    "enrol_bookings": True,
    "retention_days": {"bookings": 365, "cases": 1826},
    "officer_training_days": 365,
    "case_number_format": r"C-\d{4}-\d{1,6}",
    "booking_number_format": r"B-\d{1,8}",
    "models": ["sface-0123456789ab"],
}
