"""The interlock against a model of what may be, over random orders of everything that can happen to it.

Hypothesis draws sequences of key, wires, relay, lines, time, clocks, orders, ledger, disk, crashes and reboots. Beside
the interlock runs a model that knows only what the people and the hardware did. Rules that must hold after every step:

1. RUNNING only while both contacts are closed, the lines are readable, the ledger and the disk take what is written, no
   standing order is in force, and since the last thing that stopped the device a release was accepted that carried the
   threshold's signatures of a sufficient body, with the key closed.
2. A permit that was had before anything stopped the device is dead.
3. The epoch never goes back behind what the ledger was told.
4. The latch on disk never says released while the model says stopped.
"""

from __future__ import annotations

import errno
import tempfile
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from turnkey.interlock.latch import Latch, PosixDisk
from turnkey.interlock.machine import State
from turnkey.interlock.orders import OrderAccepted
from turnkey.interlock.permit import Permit, Stopped

STEPS = 20_000
STEPS_EACH = 100
EXAMPLES = STEPS // STEPS_EACH + 40
RANKS = {"release": 0, "chief": 1, "council": 2}


class UnsyncedDisk(PosixDisk):
    """The real disk without the wait for its platters; it can be full."""

    full = False
    was_full = False

    def write(self, path: Path, data: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "disk full")
        super().write(path, data)

    def fsync(self, path: Path) -> None:
        """Power cuts are the latch's own test; here twenty thousand steps must pass in two minutes."""

    def fsync_directory(self, path: Path) -> None:
        """See `fsync`."""


class AnyOrderOfEvents(RuleBasedStateMachine):
    """See the top of the file. `new_bench` is set by the test."""

    new_bench: type
    keyring: object
    steps = 0
    runs = 0

    @initialize()
    def make(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.disk = UnsyncedDisk()
        self.bench = type(self).new_bench(Path(self.folder.name), type(self).keyring, disk=self.disk)
        self.stopped = True
        self.standing: list[str] = []
        self.orders: list[bytes] = []
        self.permits: list[Permit] = []
        self.stale: list[Permit] = []
        self.epoch = 0
        self.forgotten = False

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def stop(self) -> None:
        """The model: from here on only a release starts it."""
        self.stopped = True
        self.stale += self.permits
        self.permits.clear()

    def settle(self) -> None:
        """Take over what the interlock itself found (faults that need time); that only ever stops."""
        if self.bench.interlock.state in (State.MORATORIUM, State.FAULT):
            self.stop()

    @rule(channel=st.sampled_from("ab"))
    def open_channel(self, channel: str) -> None:
        if getattr(self.bench.switch.lines(), f"channel_{channel}"):
            self.bench.switch.open_channel(channel)
            self.stop()

    @rule(channel=st.sampled_from("ab"))
    def close_channel(self, channel: str) -> None:
        self.bench.switch.close_channel(channel)

    @rule()
    def turn_the_key_on(self) -> None:
        self.bench.switch.close_key()

    @rule(wire=st.sampled_from(("relay_welded", "relay_stuck_open", "cross_short", "unreadable")), broken=st.booleans())
    def break_or_mend(self, wire: str, broken: bool) -> None:
        self.bench.switch.break_wire(**{wire: broken})

    @rule()
    def mend_everything(self) -> None:
        self.bench.switch.break_wire(relay_welded=False, relay_stuck_open=False, cross_short=False, unreadable=False)
        self.bench.ledger_writable = True
        self.disk.full = False

    @rule(ms=st.sampled_from((20, 100, 300, 1100, 1100, 3000)))
    def watch(self, ms: int) -> None:
        self.bench.run_ms(ms, each_ms=100)
        self.settle()

    @rule(ms=st.sampled_from((10, 900, 1001, 60_000)))
    def sleep(self, ms: int) -> None:
        self.bench.clock.pass_ms(ms)

    @rule(hours=st.sampled_from((-24 * 365, -1, 1, 24 * 40)))
    def set_the_clock(self, hours: int) -> None:
        self.bench.clock.utc += timedelta(hours=hours)

    @rule(writable=st.booleans())
    def ledger(self, writable: bool) -> None:
        self.bench.ledger_writable = writable

    @rule(full=st.booleans())
    def fill_disk(self, full: bool) -> None:
        self.disk.full = full
        self.disk.was_full |= full

    @rule()
    def reboot(self) -> None:
        """Also a crash and a power cut between two writes: nothing of the old process is asked."""
        self.stale += self.permits
        self.permits.clear()
        self.forgotten |= self.disk.was_full
        self.epoch = max((each.epoch for each in self.bench.told), default=0)
        self.bench.boot()
        self.settle()

    @rule()
    def lose_the_latch(self) -> None:
        if not self.bench.latch_path.exists():
            return  # a full disk set it aside under another name: there is nothing to lose
        self.bench.latch_path.unlink()
        self.reboot()
        assert self.bench.interlock.state is not State.RUNNING
        self.stop()
        self.standing = ["council"] if self.bench.told else []
        self.forgotten = True

    @rule(role=st.sampled_from(("chief", "council")))
    def order_a_stop(self, role: str) -> None:
        order = self.bench.moratorium_order(role)
        # One that was refused was never used: it may be applied later, and that is no replay.
        if isinstance(self.bench.interlock.apply(order), OrderAccepted):
            self.orders.append(order)
            self.standing.append(role)
            self.stop()
        self.settle()

    @rule(role=st.sampled_from(tuple(RANKS)))
    def order_a_release(self, role: str) -> None:
        self.release(self.bench.release_order(role), role)

    @precondition(lambda self: self.stopped)
    @rule(role=st.sampled_from(("release", "council", "council")))
    def do_all_that_a_release_needs(self, role: str) -> None:
        """Random steps alone would seldom get there, and a device that never runs proves nothing."""
        self.mend_everything()
        self.bench.switch.close_key()
        self.bench.clock.utc = max(self.bench.clock.utc, self.bench.interlock._governor.record.latest)
        self.bench.run_ms(1300, each_ms=100)
        self.settle()
        self.release(self.bench.release_order(role), role)

    @rule(role=st.sampled_from(("release", "council")))
    def order_a_release_with_a_signature_short(self, role: str) -> None:
        short = self.bench.keyring.authority().roles[role].threshold - 1
        assert not isinstance(self.bench.interlock.apply(self.bench.release_order(role, short)), OrderAccepted)
        self.settle()

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        order = data.draw(st.sampled_from(self.orders))
        verdict = self.bench.interlock.apply(order)
        if isinstance(verdict, OrderAccepted):
            assert self.forgotten, "only where the latch that held the used nonces was lost"
            assert verdict.order.payload().find(b"challenge") < 0, "and never a release"
            self.standing.append(verdict.order.role)
            self.stop()
        self.settle()

    @rule()
    def compare_latch_and_ledger(self) -> None:
        """As each hour: where nobody touched either, nothing follows, whatever has gone wrong before."""
        before = self.bench.interlock.release_request()
        self.bench.interlock.hold_to(max((each.epoch for each in self.bench.told), default=0))
        assert self.bench.interlock.release_request() == before

    @rule()
    def take_a_permit(self) -> None:
        try:
            permit = self.bench.interlock.permit()
        except Stopped:
            return
        assert self.bench.interlock.state is State.RUNNING
        self.permits.append(permit)

    def release(self, order: bytes, role: str) -> None:
        closed = self.bench.switch.lines()
        verdict = self.bench.interlock.apply(order)
        if isinstance(verdict, OrderAccepted):
            assert closed.channel_a
            assert closed.channel_b
            assert not closed.unreadable
            assert all(RANKS[role] >= RANKS[each] for each in self.standing)
            self.stopped = False
            self.standing.clear()
            self.orders.append(order)
            type(self).runs += 1
        self.settle()

    @invariant()
    def running_only_while_every_condition_holds(self) -> None:
        if not hasattr(self, "bench"):
            return
        type(self).steps += 1
        if self.bench.interlock.state is State.RUNNING:
            lines = self.bench.switch.lines()
            assert not self.stopped
            assert not self.standing
            assert lines.channel_a
            assert lines.channel_b
            assert self.bench.interlock.status().standing == ()

    @invariant()
    def a_permit_from_before_a_stop_is_dead(self) -> None:
        for permit in getattr(self, "stale", ()):
            if permit.refusal() is None:
                # A reboot that no one noticed: the old process is gone, and its lease runs out by itself.
                self.bench.clock.pass_ms(1001)
            assert permit.refusal() is not None

    @invariant()
    def the_epoch_never_goes_back(self) -> None:
        if hasattr(self, "bench"):
            epoch = self.bench.interlock.status().epoch
            assert epoch >= self.epoch
            self.epoch = epoch

    @invariant()
    def the_disk_never_says_released_while_it_is_stopped(self) -> None:
        if hasattr(self, "bench") and self.stopped and not self.disk.full:
            found = Latch(self.bench.latch_path, self.disk).load(
                "bench-1", self.bench.clock.utc, ledger_epoch=max((each.epoch for each in self.bench.told), default=0)
            )
            assert found.record.state is not State.RUNNING


def test_no_order_of_events_makes_it_run_when_it_must_not(bench, keyring):
    AnyOrderOfEvents.new_bench, AnyOrderOfEvents.keyring = type(bench), keyring
    AnyOrderOfEvents.steps = AnyOrderOfEvents.runs = 0
    run_state_machine_as_test(
        AnyOrderOfEvents,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS_EACH,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    print(f"{AnyOrderOfEvents.steps} steps, {AnyOrderOfEvents.runs} releases")
    assert AnyOrderOfEvents.steps >= STEPS
    assert AnyOrderOfEvents.runs >= STEPS // 100, "the device ran often enough for its stops to mean something"
