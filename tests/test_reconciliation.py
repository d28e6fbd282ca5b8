"""Ledger, gallery, latch and the last signed checkpoint held against each other: what a kill left is put right, what no
kill explains stops the device."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from booking_room import RunningDevice, events, lay

from turnkey.booth import CaseEnrolled, Refusal
from turnkey.device import Device, DeviceError
from turnkey.interlock.machine import State
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.leads.records import Expunged, TamperFound
from turnkey_tools.pilot import Pilot

FACE = "ardern/ardern-2018.jpg"


def enrol(device: Device, *numbers: str) -> None:
    for number in numbers:
        assert isinstance(device.booth.enrol_case(number), CaseEnrolled)


def found(device: Device) -> list[tuple[str, bool]]:
    return [(event.finding, event.stopped) for event in events(device) if isinstance(event, TamperFound)]


def copy_of(pilot: Pilot, *names: str) -> Path:
    """What an image of these files would hold."""
    image = pilot.root / "image"
    image.mkdir()
    for name in names:
        for file in pilot.settings().state.glob(f"{name}*"):
            shutil.copy2(file, image / file.name)
    return image


def restore(pilot: Pilot, image: Path, *names: str) -> None:
    for name in names:
        for file in pilot.settings().state.glob(f"{name}*"):
            file.unlink()
    for file in image.iterdir():
        shutil.copy2(file, pilot.settings().state / file.name)


def test_a_device_that_was_left_alone_finds_nothing(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, FACE, FACE)
    with running() as device:
        enrol(device, "C-2026-1", "C-2026-2")
        device.rounds.go()
    with running() as device:
        device.rounds.go()
        assert found(device) == []
        assert device.interlock.state is State.RUNNING


def test_a_row_without_its_entry_is_taken_back(pilot: Pilot, running: RunningDevice) -> None:
    """As a kill between the row and the entry leaves it."""
    lay(pilot, FACE)
    template = np.zeros(128, np.float32)
    template[0] = 1.0
    with running() as device:
        enrol(device, "C-2026-1")
        permit, now = device.interlock.permit(), datetime.now(UTC)
        device.gallery.enrol("cases", "C-2026-2", template, quality=50, enrolled_at=now, permit=permit)
        assert device.gallery.counters().rows["cases"] == 2
    with running() as device:
        assert found(device) == [("rows-without-entry", False)]
        assert device.gallery.row_numbers("cases") == [1]
        assert device.interlock.state is State.RUNNING


def test_an_entry_without_its_row_is_put_right(pilot: Pilot, running: RunningDevice) -> None:
    """As a kill between a removal and its entry leaves it."""
    lay(pilot, FACE, FACE)
    with running() as device:
        enrol(device, "C-2026-1", "C-2026-2")
        device.gallery.expunge("cases", "C-2026-1")
    with running() as device:
        assert found(device) == [("rows-missing", False)]
        assert Expunged(partition="cases", row=1, reason="found-missing") in events(device)
        assert device.journal.tally("cases").standing == device.gallery.counters().rows["cases"] == 1
    with running() as device:
        assert len(found(device)) == 1, "it is found once"


def test_a_gallery_from_an_older_image_stops_the_device(
    pilot: Pilot, running: RunningDevice, switch: SimulatedSwitch
) -> None:
    lay(pilot, FACE, FACE)
    with running() as device:
        enrol(device, "C-2026-1")
    image = copy_of(pilot, "gallery.db")
    with running() as device:
        enrol(device, "C-2026-2")
    restore(pilot, image, "gallery.db")
    with Device(pilot.settings(), switch=switch) as device:
        device.settled()
        assert found(device) == [("gallery-older-than-ledger", True)]
        assert device.interlock.state is State.FAULT
        assert isinstance(device.booth.book("B-1"), Refusal)


@pytest.mark.parametrize("reached", ["rolled-back", "grown-again"])
def test_a_ledger_from_an_older_image_is_never_signed_again(
    pilot: Pilot, running: RunningDevice, switch: SimulatedSwitch, reached: str
) -> None:
    with running():
        pass
    image = copy_of(pilot, "ledger.db")
    with running() as device:
        device.heart.beat()
        size = device.journal.size
    restore(pilot, image, "ledger.db")
    checkpoint = pilot.settings().outbox_file.with_name("checkpoint")
    if reached == "grown-again":
        kept = checkpoint.read_bytes()
        checkpoint.unlink()
        with running() as device:
            while device.journal.size <= size:
                device.heart.beat()
        checkpoint.write_bytes(kept)
    reason = "set back" if reached == "rolled-back" else "not those that were signed"
    with pytest.raises(DeviceError, match=reason):
        Device(pilot.settings(), switch=switch)


def test_a_ledger_that_is_exchanged_while_it_runs_is_found_within_the_hour(
    pilot: Pilot, running: RunningDevice
) -> None:
    with running() as device:
        device.heart.beat()
        device.rounds.go()
        assert device.interlock.state is State.RUNNING
        raw = sqlite3.connect(pilot.settings().state / "ledger.db")
        raw.execute("UPDATE node SET hash = zeroblob(32)")
        raw.commit()
        raw.close()
        device.rounds.go()
        assert device.interlock.state is State.FAULT
        assert device.interlock.status().reason == "ledger-forked"


def test_a_checkpoint_that_somebody_deleted_or_forged_stops_nothing(pilot: Pilot, running: RunningDevice) -> None:
    with running():
        pass
    checkpoint = pilot.settings().outbox_file.with_name("checkpoint")
    for forged in (None, b"", b"nonsense", b"\xff\xfe"):
        checkpoint.unlink()
        if forged is not None:
            checkpoint.write_bytes(forged)
        with running() as device:
            assert device.interlock.state is State.RUNNING


def test_stops_that_the_ledger_does_not_know_of_stop_the_device(
    pilot: Pilot, running: RunningDevice, switch: SimulatedSwitch
) -> None:
    with running():
        pass
    image = copy_of(pilot, "ledger.db")
    with running() as device:
        for _ in range(2):
            device.interlock.halt("camera-lost")
    restore(pilot, image, "ledger.db")
    pilot.settings().outbox_file.with_name("checkpoint").unlink()
    with Device(pilot.settings(), switch=switch) as device:
        assert ("ledger-older-than-latch", True) in found(device)
        assert device.settled().state is State.FAULT
