"""What the auditor holds against a ledger whose template packs were made or taken twice, or do not add up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from turnkey.leads.records import Boot, Event, LedgerEntry, PackAccepted, PackEnrolled, PackExported, PackImported
from turnkey_tools.audit.rules import Rules
from turnkey_tools.audit.statistics import Statistics
from turnkey_tools.audit.transparency import _work

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
SIGNERS = ("d" * 64, "e" * 64)


def entries(*events: Event) -> list[LedgerEntry]:
    return [
        LedgerEntry(
            device_id="booth-1",
            index=7 + place,
            boot_id="b" * 32,
            at=BEGAN + timedelta(seconds=place),
            monotonic_ns=place * 10**9,
            event=event,
        )
        for place, event in enumerate(events)
    ]


def found(*events: Event) -> list[str]:
    """Codes that an export beginning with a boot gives for these events."""
    rules, codes = Rules("booth-1", 7), []
    for entry in entries(Boot(software="1.0", models={}), *events):
        codes += [finding.code for finding in rules.take(entry, entry.at.timestamp())]
    return codes


def exported(attempt: str = "1", pack: str = "1") -> PackExported:
    return PackExported(
        attempt_id=attempt * 32,
        pack_id=pack * 32,
        order_digest="a" * 64,
        to_device="booth-2",
        partition="bookings",
        model_id="sface-0123",
        rows=100,
        signers=SIGNERS,
        pack_digest="c" * 64,
    )


def accepted(attempt: str, *, resumed: bool = False, digest: str = "c", pack: str = "1") -> PackAccepted:
    return PackAccepted(
        attempt_id=attempt * 32,
        pack_id=pack * 32,
        order_digest="a" * 64,
        from_device="booth-2",
        partition="bookings",
        model_id="sface-0123",
        rows=100,
        signers=SIGNERS,
        pack_digest=digest * 64,
        resumed=resumed,
    )


def rows(attempt: str, count: int) -> PackEnrolled:
    return PackEnrolled(attempt_id=attempt * 32, partition="bookings", first_row=1, rows=count)


def imported(attempt: str, enrolled: int, before: int = 0, **refused: int) -> PackImported:
    return PackImported(
        attempt_id=attempt * 32, pack_id="1" * 32, enrolled=enrolled, enrolled_before=before, refused=refused
    )


def test_a_pack_that_adds_up_is_good_also_when_it_was_cut_short() -> None:
    assert found(exported()) == []
    assert found(accepted("1"), rows("1", 60), rows("1", 30), imported("1", 90, refused=10)) == []
    resumed = (accepted("2", resumed=True), rows("2", 40), imported("2", 40, before=60))
    assert found(accepted("1"), rows("1", 60), *resumed) == []


def test_an_order_is_good_for_one_export() -> None:
    assert found(exported("1"), exported("2", pack="2")) == []
    assert found(exported("1"), exported("2")) == ["pack-exported-twice"]


def test_a_pack_is_taken_once_and_finished_by_its_own_bytes_alone() -> None:
    whole = (accepted("1"), rows("1", 50), rows("1", 50), imported("1", 100))
    assert found(*whole, accepted("2", resumed=True)) == ["pack-used-twice"]
    assert found(accepted("1"), accepted("2")) == ["pack-used-twice"]
    assert found(accepted("1"), accepted("2", resumed=True, digest="f")) == ["pack-used-twice"]


def test_rows_without_a_pack_or_more_than_were_signed_for_are_a_violation() -> None:
    assert found(rows("1", 1)) == ["pack-rows-unaccounted"]
    assert found(accepted("1"), rows("1", 60), rows("1", 60)) == ["pack-rows-unaccounted"]
    assert found(accepted("1"), rows("1", 60), imported("1", 61, refused=39)) == ["pack-rows-unaccounted"]
    assert found(accepted("1"), rows("1", 60), imported("1", 60)) == ["pack-rows-unaccounted"], "forty are missing"
    assert found(imported("1", 0)) == ["pack-rows-unaccounted"]


def test_one_entry_holds_no_more_rows_than_a_boot_puts_right() -> None:
    with pytest.raises(ValidationError):
        rows("1", 65)


def test_the_yearly_report_says_with_whom_templates_were_exchanged() -> None:
    counted = Statistics(BEGAN.timestamp(), BEGAN.timestamp() + 3600)
    for entry in entries(exported(), accepted("1"), rows("1", 60), rows("1", 30), imported("1", 90, refused=10)):
        counted.take(entry)
    figures = {(one.what, one.split): one.value for one in _work(counted)}
    assert figures["templates to booth-2", "bookings"] == "100"
    assert figures["templates from booth-2", "bookings"] == "90"
    assert figures["templates enrolled", "bookings"] == "90"
    assert figures["template packs accepted", ""] == "1"
