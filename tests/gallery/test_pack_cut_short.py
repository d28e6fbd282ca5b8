"""Imports that are stopped, killed or run out of disk: called again, they end with every template enrolled once."""

from __future__ import annotations

import errno
import io
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from booking_room import events
from exchange import Pair, exported, fill, imported, order, provision_pair, refused, room, running, units
from patience import PATIENCE_S, wait_for

from turnkey.database import StorageFull
from turnkey.device import Device
from turnkey.gallery.gallery import Gallery
from turnkey.interlock.permit import Permit
from turnkey.leads.records import LedgerEntry, PackEnrolled, PackImported
from turnkey.notary.notary import Notary
from turnkey.pack_export import export_pack
from turnkey.pack_import import import_pack
from turnkey.packs import Abandoned
from turnkey_tools.audit.rules import Rules
from turnkey_tools.pilot import Pilot

ROWS = 600


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TURNKEY_INTERLOCK__CLOSING_STABLE_MS", "100")
        patch.setenv("TURNKEY_INTERLOCK__LEASE_VALIDITY_MS", "5000")
        patch.setenv("TURNKEY_ATTESTATION__PUBLISH", "false")
        yield provision_pair(tmp_path)


@pytest.fixture
def pack(pair: Pair, tmp_path: Path) -> Path:
    """A pack of `ROWS` templates for the receiver."""
    path = tmp_path / "good.tkpack"
    with running(pair.sender) as here, path.open("w+b") as file:
        fill(here, units(ROWS))
        exported(here, order(pair), file)
    return path


def enrolled(device: Device) -> int:
    return sum(event.rows for event in events(device) if isinstance(event, PackEnrolled))


def audit_codes(device: Device) -> list[str]:
    """What an auditor holds against a whole ledger."""
    rules, codes = Rules(device.settings.device_id, 0), []
    for data in device.journal.entries(limit=device.journal.size):
        entry = LedgerEntry.model_validate_json(data)
        codes += [finding.code for finding in rules.take(entry, entry.at.timestamp())]
    return codes + [finding.code for finding in rules.end()]


def test_a_stop_ends_an_import_where_it_is_and_the_same_file_finishes_it(pair: Pair, pack: Path) -> None:
    with running(pair.receiver) as there, pack.open("rb") as file:

        def stop(done: int, _of: int) -> None:
            if done >= ROWS + 200:
                there.interlock.halt("for-the-test")

        reason = refused(import_pack(room(there), file, progress=stop))
        assert reason == "for-the-test"
        before = enrolled(there)
        assert before == there.gallery.counters().rows["bookings"] == 224
    with running(pair.receiver) as there, pack.open("rb") as file:
        outcome = imported(there, file)
        assert (outcome.enrolled, outcome.enrolled_before) == (ROWS - before, before)
        assert enrolled(there) == there.gallery.counters().rows["bookings"] == ROWS
        assert refused(import_pack(room(there), file)) == "pack-used-before"
        assert audit_codes(there) == []


def test_another_file_of_the_same_order_does_not_finish_what_the_first_began(pair: Pair, tmp_path: Path) -> None:
    envelope = order(pair)
    packs = []
    for name in ("one", "two"):  # a sender whose memory of its orders was set back
        with running(pair.sender) as here:
            fill(here, units(100))
            with here.gallery.rows() as store, store.database.transaction():
                store.database.execute("DELETE FROM pack")
            with (tmp_path / name).open("w+b") as file:
                exported(here, envelope, file)
                file.seek(0)
                packs.append(file.read())
            if name == "two":
                assert "pack-exported-twice" in audit_codes(here)
    with running(pair.receiver) as there:

        def stop(done: int, of: int) -> None:
            if done > of / 2:
                raise ConnectionError(errno.EPIPE, "gone")

        refused(import_pack(room(there), io.BytesIO(packs[0]), progress=stop))
        assert refused(import_pack(room(there), io.BytesIO(packs[1]))) == "pack-used-before"


def test_a_full_disk_is_named_and_what_was_enrolled_stays(
    pair: Pair, pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = Gallery.enrol_many, [0]

    def full(gallery: Gallery, *arguments: Any, **options: Any) -> list[int]:
        calls[0] += 1
        if calls[0] == 3:
            raise StorageFull("disk", "the disk is full")
        return whole(gallery, *arguments, **options)

    with running(pair.receiver) as there, pack.open("rb") as file:
        monkeypatch.setattr(Gallery, "enrol_many", full)
        assert refused(import_pack(room(there), file)) == "disk"
        assert enrolled(there) == there.gallery.counters().rows["bookings"] == 112
        assert imported(there, file).enrolled_before == 112
        assert enrolled(there) == ROWS


def test_rows_that_the_ledger_does_not_take_are_taken_back(
    pair: Pair, pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Notary.record

    def failing(notary: Notary, event: Any, permit: Permit | None = None) -> None:
        if isinstance(event, PackEnrolled):
            raise StorageFull("disk", "the ledger's disk is full")
        record(notary, event, permit)

    with running(pair.receiver) as there, pack.open("rb") as file:
        with monkeypatch.context() as patch:
            patch.setattr(Notary, "record", failing)
            assert refused(import_pack(room(there), file)) == "disk"
        assert there.gallery.counters().rows["bookings"] == 0
        assert imported(there, file).enrolled == ROWS


def rows(pilot: Pilot) -> int:
    try:
        with sqlite3.connect(f"file:{pilot.settings().state}/gallery.db?mode=ro", uri=True) as file:
            return int(file.execute("SELECT count(*) FROM pack_row").fetchone()[0])
    except sqlite3.Error:
        return 0


@pytest.mark.parametrize("after", [1, 300])
def test_a_killed_import_is_finished_by_calling_it_again(pair: Pair, pack: Path, after: int) -> None:
    turnkey = [sys.executable, "-m", "turnkey.cli", "--config", str(pair.receiver.settings_file)]
    subprocess.run([*turnkey, "key", "closed"], check=True, capture_output=True)
    with running(pair.receiver):
        pass  # released
    importing = subprocess.Popen(
        [*turnkey, "gallery", "import-pack", str(pack)],
        env=os.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: rows(pair.receiver) >= after or importing.poll() is not None)
    finally:
        importing.kill()
        importing.wait(PATIENCE_S)
    assert rows(pair.receiver) >= after
    with running(pair.receiver) as there, pack.open("rb") as file:
        kept = there.gallery.counters().rows["bookings"]
        if kept < ROWS:
            outcome = imported(there, file)
            assert (outcome.enrolled, outcome.enrolled_before) == (ROWS - kept, kept)
        assert enrolled(there) == there.gallery.counters().rows["bookings"] == ROWS
        assert sum(isinstance(event, PackImported) for event in events(there)) == 1
        # A kill between rows and their entry: they were taken back at the boot, and the device says so.
        assert set(audit_codes(there)) <= {"device-put-right"}


def test_an_export_nobody_waits_for_ends_and_its_order_is_still_good(pair: Pair, tmp_path: Path) -> None:
    envelope = order(pair)

    def gone(_done: int, _of: int) -> None:
        raise Abandoned

    with running(pair.sender) as here, (tmp_path / "x").open("w+b") as file:
        fill(here, units(10))
        assert refused(export_pack(room(here), envelope, file, progress=gone)) == "abandoned"
        assert exported(here, envelope, file).rows == 10
