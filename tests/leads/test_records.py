"""Records: closed, frozen, one encoding; and the committed schemas say the same as they do."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from turnkey.leads.records import Enrolled, Lead, LeadCandidate, LedgerEntry, canonical, schemas
from turnkey_tools.schemas import SCHEMAS, rendered

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def lead() -> Lead:
    return Lead(
        lead_id="1" * 32,
        device_id="booth-1",
        sequence=1,
        attempt_id="2" * 32,
        issued_at=NOW,
        booking_number="B-1",
        partition="cases",
        gallery_size=3,
        threshold=0.4,
        max_fpir=0.01,
        search="exhaustive",
        model_id="sface-0123",
        policy_digest="3" * 64,
        probe_quality=70,
        candidates=(LeadCandidate(rank=1, reference="C-1", score=0.7, enrolled_at=NOW),),
    )


def entry() -> LedgerEntry:
    event = Enrolled(attempt_id="2" * 32, partition="cases", row=1)
    return LedgerEntry(device_id="booth-1", index=0, boot_id="4" * 32, at=NOW, monotonic_ns=1, event=event)


def test_the_committed_schemas_are_current() -> None:
    assert {path.name: path.read_text() for path in SCHEMAS.glob("*.json")} == rendered()


@pytest.mark.parametrize(("record", "name"), [(lead(), "lead.v1.json"), (entry(), "ledger-entry.v1.json")])
def test_what_is_encoded_fits_its_schema_and_comes_back(record: Lead | LedgerEntry, name: str) -> None:
    encoded = canonical(record)
    schema = schemas()[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(encoded), schema)
    assert type(record).model_validate_json(encoded) == record
    assert canonical(type(record).model_validate_json(encoded)) == encoded


@pytest.mark.parametrize(
    "change",
    [
        {"image": "AAAA"},
        {"sequence": 0},
        {"candidates": []},
        {"candidates": [{"rank": 1, "reference": "C-1", "score": 1.5, "enrolled_at": "2026-03-01T12:00:00Z"}]},
        {"booking_number": "B 1\n"},
        {"booking_number": "x" * 41},
        {"issued_at": "2026-03-01T12:00:00"},
        {"threshold": "NaN"},
        {"max_fpir": 0},
        {"device_id": "booth/1"},
        {"notice": "This is the person."},
        {"partition": "live"},
    ],
)
def test_a_lead_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    document = {**json.loads(canonical(lead())), **change}
    with pytest.raises(ValidationError):
        Lead.model_validate(document)


def test_a_time_that_is_not_utc_is_refused() -> None:
    with pytest.raises(ValidationError, match="UTC"):
        Lead(**{**lead().model_dump(), "issued_at": NOW.astimezone(timezone(timedelta(hours=2)))})


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        lead().sequence = 2  # type: ignore[misc]
