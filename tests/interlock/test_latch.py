"""The latch through power cuts and failing disks: a fault at every write, fsync and rename; never between."""

from __future__ import annotations

import errno
import itertools
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from patience import PATIENCE_S, wait_for

from turnkey.interlock.latch import Latch, PosixDisk
from turnkey.interlock.machine import State
from turnkey.interlock.orders import OrderAccepted, OrderRefused
from turnkey.interlock.process import Comparison
from turnkey.interlock.witness import WitnessError

DISK_FULL = (errno.ENOSPC, "disk full")
MOST_OPERATIONS = 40


class PowerLost(BaseException):
    """The machine is gone; nothing of the program runs on."""


class FragileDisk:
    """A disk whose contents are durable only once synced, and whose power or space ends at a chosen operation.

    After `cut`, `survivors` gives every content that a real disk could be found with: unsynced data may be there
    whole, in part or not at all, and the unsynced renames up to any one of them.
    """

    def __init__(self) -> None:
        self.files: dict[str, int] = {}
        self.durable_files: dict[str, int] = {}
        self.content: dict[int, bytes] = {}
        self.durable_content: dict[int, bytes] = {}
        self.renames: list[dict[str, int]] = []
        self.operations = 0
        self.fail_at: int | None = None
        self.fail_until: int | None = None
        self.power = False
        self._next = itertools.count(1)

    def read(self, path: Path) -> bytes:
        if path.name not in self.files:
            raise FileNotFoundError(path)
        return self.content[self.files[path.name]]

    def write(self, path: Path, data: bytes) -> None:
        self._operate(needs_space=True)
        inode = next(self._next)
        self.content[inode] = data
        self.files[path.name] = inode
        self.renames.append(dict(self.files))

    def fsync(self, path: Path) -> None:
        self._operate(needs_space=True)
        inode = self.files[path.name]
        self.durable_content[inode] = self.content[inode]

    def rename(self, source: Path, target: Path) -> None:
        self._operate()
        if source.name not in self.files:
            raise FileNotFoundError(source)
        self.files[target.name] = self.files.pop(source.name)
        self.renames.append(dict(self.files))

    def fsync_directory(self, path: Path) -> None:
        self._operate()
        self.durable_files = dict(self.files)
        self.renames.clear()

    def survivors(self) -> Iterator[FragileDisk]:
        """Every disk that could be found after a power cut now."""
        for files in (self.durable_files, *self.renames):
            unsynced = [inode for inode in set(files.values()) if inode not in self.durable_content]
            for lost in itertools.product((0.0, 0.5, 1.0), repeat=len(unsynced)):
                disk = FragileDisk()
                disk._next = itertools.count(10_000)
                kept = dict(zip(unsynced, lost, strict=True))
                for name, inode in files.items():
                    whole = self.content[inode]
                    disk.content[inode] = whole[: int(len(whole) * kept.get(inode, 1.0))]
                    disk.files[name] = inode
                disk.durable_files, disk.durable_content = dict(disk.files), dict(disk.content)
                yield disk

    def _operate(self, *, needs_space: bool = False) -> None:
        number = self.operations
        self.operations += 1
        if self.fail_at is None or number < self.fail_at:
            return
        if self.power:
            raise PowerLost
        if self.fail_until is not None and number >= self.fail_until:
            return
        if needs_space or self.fail_until is not None:
            raise OSError(*DISK_FULL)


def turn_key(bench) -> None:
    bench.switch.open_key()


def order_stop(bench) -> None:
    bench.interlock.apply(bench.moratorium_order("council"))


def weld_relay(bench) -> None:
    bench.switch.break_wire(relay_welded=True)
    bench.switch.break_wire(relay_stuck_open=True)
    bench.interlock.halt("relay-welded")


STOPS: list[Callable] = [turn_key, order_stop, weld_relay]


def running_on(bench, disk: FragileDisk):
    """A device fresh from the image, in service on that disk."""
    bench.told.clear()
    bench.disk = disk
    bench.boot()
    bench.commission()
    assert bench.interlock.state is State.RUNNING
    disk.operations = 0
    return bench


@pytest.mark.parametrize("stop", STOPS)
def test_power_lost_at_any_operation_of_a_stop_leaves_old_or_new(bench, stop):
    """And the new is a stop. Where the old is found, the switch that is still open stops the device before it runs."""
    cut_at = 0
    for cut_at in range(MOST_OPERATIONS):
        bench.folder = bench.folder / str(cut_at)
        bench.folder.mkdir()
        bench.switch.break_wire(relay_welded=False, relay_stuck_open=False)
        disk = FragileDisk()
        running_on(bench, disk)
        before = bench.interlock.status().epoch
        disk.fail_at, disk.power = cut_at, True
        try:
            stop(bench)
        except PowerLost:
            pass
        else:
            break
        for survivor in disk.survivors():
            record = Latch(bench.latch_path, survivor).load("bench-1", bench.clock.utc)
            assert record.trouble is None, "between old and new"
            assert record.record.epoch in (before, before + 1)
            assert (record.record.state is State.RUNNING) == (record.record.epoch == before)
    assert cut_at >= 4, "the latch is written, synced, renamed and synced again"


def test_power_lost_at_any_operation_of_a_release_leaves_the_order_unused_or_used(bench):
    for cut_at in range(MOST_OPERATIONS):
        disk = FragileDisk()
        running_on(bench, disk)
        bench.switch.open_key()
        bench.switch.close_key()
        bench.run_ms(1200)
        order = bench.release_order()
        disk.operations, disk.fail_at, disk.power = 0, cut_at, True
        try:
            bench.interlock.apply(order)
        except PowerLost:
            pass
        else:
            assert cut_at >= 4
            return
        for survivor in disk.survivors():
            bench.disk = survivor
            bench.boot()
            bench.run_ms(1200)
            released = bench.interlock.state is State.RUNNING
            verdict = bench.interlock.apply(order)
            assert isinstance(verdict, OrderRefused) == released
    pytest.fail("the release never came through")


@pytest.mark.parametrize("stop", STOPS)
def test_a_full_disk_at_any_operation_still_stops_and_stays_stopped_after_a_reboot(bench, stop):
    for full_from in range(MOST_OPERATIONS):
        bench.switch.break_wire(relay_welded=False, relay_stuck_open=False)
        disk = FragileDisk()
        running_on(bench, disk)
        permit = bench.interlock.permit()
        disk.fail_at = full_from
        stop(bench)
        assert permit.refusal() is not None
        assert bench.interlock.state in (State.MORATORIUM, State.FAULT)
        reached = disk.operations > full_from
        disk.fail_at = None
        bench.switch.break_wire(relay_welded=False, relay_stuck_open=False)
        bench.switch.close_key()
        for survivor in disk.survivors():
            bench.disk = survivor
            bench.boot()
            bench.run_ms(3000)
            assert bench.interlock.state is not State.RUNNING
        if not reached:
            return
    pytest.fail("the stop never came through")


def test_one_failing_operation_of_a_stop_still_stops_and_stays_stopped_after_a_reboot(bench):
    for failing in range(MOST_OPERATIONS):
        disk = FragileDisk()
        running_on(bench, disk)
        disk.fail_at, disk.fail_until = failing, failing + 1
        bench.switch.open_key()
        assert bench.interlock.state in (State.MORATORIUM, State.FAULT)
        done = disk.operations <= failing
        disk.fail_at = None
        bench.switch.close_key()
        bench.boot()
        bench.run_ms(3000)
        assert bench.interlock.state is not State.RUNNING
        if done:
            return
    pytest.fail("the stop never came through")


@pytest.mark.parametrize("failing", range(12))
def test_one_failing_operation_of_a_release_starts_nothing_not_even_after_a_reboot(bench, failing):
    """The disk works again by the next operation: what is written then must be the stop."""
    disk = FragileDisk()
    running_on(bench, disk)
    bench.switch.open_key()
    bench.switch.close_key()
    bench.run_ms(1200)
    disk.operations, disk.fail_at, disk.fail_until = 0, failing, failing + 1
    verdict = bench.release()
    if isinstance(verdict, OrderAccepted):
        assert failing >= 4
        return
    assert bench.interlock.state is State.FAULT
    disk.fail_at = None
    for survivor in disk.survivors():
        bench.disk = survivor
        bench.boot()
        bench.run_ms(1200)
        assert bench.interlock.state is not State.RUNNING


@pytest.mark.parametrize("failing", range(4))
def test_a_disk_that_fails_while_it_runs_stops_it_for_good(bench, failing):
    """The hourly mark of the clock is a write too."""
    disk = FragileDisk()
    running_on(bench, disk)
    permit = bench.interlock.permit()
    disk.operations, disk.fail_at, disk.fail_until = 0, failing, failing + 1
    bench.clock.utc += timedelta(hours=2)
    bench.run_ms(20)
    assert permit.refusal() == "latch-unwritable"
    disk.fail_at = None
    bench.boot()
    bench.run_ms(1200)
    assert bench.interlock.state is not State.RUNNING


def test_a_stop_that_was_set_aside_is_over_once_it_was_released(bench):
    disk = FragileDisk()
    running_on(bench, disk)
    disk.fail_at = 0
    bench.switch.open_key()
    disk.fail_at = None
    assert "latch.stopped" in disk.files
    bench.boot()
    assert bench.interlock.status().reason == "latch-set-aside"
    bench.commission()
    bench.boot()
    bench.run_ms(1200)
    assert bench.interlock.state is State.RUNNING


def test_a_release_that_cannot_be_latched_starts_nothing(bench):
    disk = FragileDisk()
    running_on(bench, disk)
    bench.switch.open_key()
    bench.switch.close_key()
    bench.run_ms(1200)
    disk.operations, disk.fail_at = 0, 0
    assert isinstance(bench.release(), OrderRefused)
    assert bench.interlock.state is State.FAULT
    assert bench.told[-1].reason == "latch-unwritable"


def test_a_stop_that_no_disk_took_is_known_to_the_ledger_at_the_next_boot(bench):
    disk = FragileDisk()
    running_on(bench, disk)
    disk.fail_at, disk.fail_until = 0, 10_000
    bench.switch.open_key()
    assert bench.interlock.state is State.FAULT
    bench.switch.close_key()
    disk.fail_at = None
    bench.boot()
    bench.run_ms(3000)
    assert bench.interlock.state is State.MORATORIUM
    assert bench.interlock.status().reason == "latch-older-than-ledger"


def test_a_lost_latch_is_a_moratorium_that_only_the_highest_body_lifts(running):
    """For all that is known the council had ordered a stop; and no order from before lifts it."""
    running.switch.open_key()
    running.switch.close_key()
    running.run_ms(1200)
    order = running.release_order("council")
    running.latch_path.unlink()
    running.boot()
    running.run_ms(1200)
    assert running.interlock.state is State.MORATORIUM
    assert isinstance(running.interlock.apply(order), OrderRefused)
    for role in ("release", "chief"):
        verdict = running.release(role)
        assert isinstance(verdict, OrderRefused)
        assert verdict.reason == "lower-authority"
    assert isinstance(running.release("council"), OrderAccepted)


def test_a_stop_order_that_is_not_on_disk_is_not_acknowledged(bench):
    disk = FragileDisk()
    running_on(bench, disk)
    disk.fail_at = 0
    verdict = bench.interlock.apply(bench.moratorium_order("council"))
    assert isinstance(verdict, OrderRefused)
    assert verdict.reason == "latch-unwritable"
    assert bench.interlock.state is State.FAULT


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:0],
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b"MORATORIUM", b"RUNNING"),
        lambda data: data + b"x",
        lambda data: b"\x00" * len(data),
        lambda data: data.replace(b"bench-1", b"bench-2"),
    ],
)
def test_a_corrupt_latch_is_a_moratorium_and_is_kept_for_investigation(running, damage):
    running.switch.open_key()
    running.switch.close_key()
    damaged = damage(running.latch_path.read_bytes())
    running.latch_path.write_bytes(damaged)
    running.boot()
    running.run_ms(3000)
    assert running.interlock.state is State.MORATORIUM
    assert running.interlock.status().reason == "latch-corrupt"
    assert running.latch_path.with_name("latch.disbelieved").read_bytes() == damaged


def test_every_flipped_byte_of_a_running_latch_is_noticed(running, tmp_path):
    good = running.latch_path.read_bytes()
    other = tmp_path / "flipped"
    for place in range(len(good)):
        other.write_bytes(good[:place] + bytes([good[place] ^ 0x01]) + good[place + 1 :])
        found = Latch(other).load("bench-1", running.clock.utc)
        assert found.record.state is State.MORATORIUM


def test_another_devices_latch_is_a_moratorium(running):
    found = Latch(running.latch_path).load("bench-2", running.clock.utc)
    assert found.trouble == "latch-of-another-device"
    assert found.record.state is State.MORATORIUM


def test_an_older_latch_put_back_is_a_moratorium(running):
    old = running.latch_path.read_bytes()
    running.switch.open_key()
    running.switch.close_key()
    running.latch_path.write_bytes(old)
    running.boot()
    running.run_ms(3000)
    assert running.interlock.state is State.MORATORIUM
    assert running.interlock.status().reason == "latch-older-than-ledger"
    assert running.interlock.status().epoch > max(each.epoch for each in running.told[:-1])


def test_the_epoch_never_goes_back(running):
    latch = Latch(running.latch_path)
    record = latch.load("bench-1", running.clock.utc).record
    with pytest.raises(ValueError, match="epoch"):
        latch.store(record.model_copy(update={"epoch": record.epoch - 1}))


def test_the_real_disk_does_what_the_fragile_one_does(running):
    assert isinstance(Latch(running.latch_path)._disk, PosixDisk)
    assert running.latch_path.stat().st_mode & 0o777 == 0o600
    running.boot()
    running.run_ms(1200)
    assert running.interlock.state is State.RUNNING


def test_a_running_device_whose_ledger_knows_a_later_stop_is_in_moratorium_under_the_highest_order(running):
    """As at boot: what the lost latch held may have been anything."""
    permit = running.interlock.permit()
    epoch = running.interlock.status().epoch
    running.interlock.hold_to(epoch + 3)
    assert permit.refusal() == "latch-older-than-ledger"
    assert running.interlock.state is State.MORATORIUM
    assert running.interlock.status().epoch == epoch + 4
    verdict = running.release("release")
    assert isinstance(verdict, OrderRefused)
    assert verdict.reason == "lower-authority"
    running.interlock.hold_to(epoch + 4)
    assert running.interlock.status().epoch == epoch + 4, "once is enough"
    assert isinstance(running.release("council"), OrderAccepted)


@pytest.mark.parametrize("change", ["older", "missing", "damaged"])
def test_a_latch_whose_file_was_changed_while_it_runs_is_a_moratorium(running, change):
    running.switch.open_key()
    older = running.latch_path.read_bytes()
    running.commission()
    running.interlock.hold_to(running.interlock.status().epoch)
    assert running.interlock.state is State.RUNNING
    if change == "missing":
        running.latch_path.unlink()
    else:
        running.latch_path.write_bytes(older if change == "older" else b"x")
    running.interlock.hold_to(running.interlock.status().epoch)
    assert running.interlock.state is State.MORATORIUM
    assert running.told[-1].reason == "latch-changed"
    running.boot()
    running.run_ms(3000)
    assert running.interlock.state is State.MORATORIUM


@pytest.mark.parametrize("state", ["MORATORIUM", "FAULT"])
def test_a_stopped_device_that_is_held_to_the_ledger_keeps_its_stop(running, state):
    running.switch.open_key()
    if state == "FAULT":
        running.interlock.halt("relay-welded")
    request = running.interlock.release_request()
    running.interlock.hold_to(request.epoch)
    assert running.interlock.release_request() == request, "who is collecting signatures is not disturbed"
    running.interlock.hold_to(request.epoch + 1)
    assert running.interlock.state is State[state]
    assert running.interlock.release_request().epoch == request.epoch + 2


def test_a_comparison_that_fails_stops(running, monkeypatch):
    def ledger_epoch() -> int:
        raise RuntimeError("a fault of the program")

    monkeypatch.setattr(threading, "excepthook", [].append)
    comparison = Comparison(running.interlock, ledger_epoch, threading.Event(), every_s=0.01)
    comparison.start()
    comparison.join(PATIENCE_S)
    assert (running.interlock.state, running.interlock.status().reason) == (State.FAULT, "interlock-failed")


def test_latch_and_ledger_are_compared_again_and_again_and_a_silent_notary_is_asked_anew(running):
    answers: list[int | None] = [None, 1, 50]
    stop = threading.Event()

    def ledger_epoch() -> int:
        answer = answers.pop(0) if answers else 50
        if answer is None:
            raise WitnessError("nobody is there")
        return answer

    comparison = Comparison(running.interlock, ledger_epoch, stop, every_s=0.01)
    comparison.start()
    wait_for(lambda: running.told[-1].reason == "latch-older-than-ledger")
    stop.set()
    comparison.join(PATIENCE_S)
    assert not comparison.is_alive()
