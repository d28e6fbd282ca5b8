"""The failures of the kill switch, one test each: what is broken, and that it ends stopped and latched."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from interlock.conftest import signed
from patience import PATIENCE_S, wait_for

from turnkey.interlock.latch import Latch
from turnkey.interlock.machine import State
from turnkey.interlock.orders import RELEASE_TYPE, OrderAccepted, OrderRefused, make_release_order
from turnkey.interlock.permit import Stopped


def stays_stopped(bench) -> None:
    """Whatever is mended and however long one waits and reboots, it does not start by itself."""
    bench.switch.break_wire(relay_welded=False, relay_stuck_open=False, cross_short=False, unreadable=False)
    bench.switch.close_key()
    bench.ledger_writable = True
    bench.run_ms(3000)
    assert bench.interlock.state is not State.RUNNING
    bench.boot()
    bench.run_ms(3000)
    assert bench.interlock.state is not State.RUNNING
    with pytest.raises(Stopped):
        bench.interlock.permit()
    assert isinstance(bench.release(), OrderAccepted), "a release order mends it"


@pytest.mark.parametrize("channel", ["a", "b"])
def test_wire_cut(running, channel):
    permit = running.interlock.permit()
    running.switch.open_channel(channel)
    assert permit.refusal() == "key-opened"
    running.run_ms(200)
    assert running.interlock.state is State.FAULT
    assert running.interlock.status().reason == "channels-disagree"
    stays_stopped(running)


@pytest.mark.parametrize("channel", ["a", "b"])
def test_a_contact_shorted_while_the_key_is_turned(running, channel):
    other = "b" if channel == "a" else "a"
    permit = running.interlock.permit()
    running.switch.open_channel(other)
    assert permit.refusal() == "key-opened"
    running.run_ms(200)
    assert running.interlock.state is State.FAULT
    stays_stopped(running)


def test_cross_short(running):
    permit = running.interlock.permit()
    running.switch.break_wire(cross_short=True)
    running.run_ms(1100)
    assert permit.refusal() == "cross-short"
    assert running.interlock.state is State.FAULT
    stays_stopped(running)


def test_bounce_on_opening(running):
    for _ in range(5):
        running.switch.open_key()
        running.switch.close_key()
    assert running.interlock.state is State.MORATORIUM
    assert [each.reason for each in running.told].count("key-opened") == 1
    stays_stopped(running)


def test_bounce_on_closing(bench):
    for _ in range(20):
        bench.switch.close_key()
        bench.run_ms(60)
        bench.switch.open_key()
        bench.run_ms(20)
    bench.switch.close_key()
    bench.run_ms(980)
    verdict = bench.release()
    assert isinstance(verdict, OrderRefused)
    assert verdict.reason == "key-open"
    bench.run_ms(40)
    assert isinstance(bench.release(), OrderAccepted)


def test_welded_relay(running):
    running.switch.break_wire(relay_welded=True)
    running.run_ms(1000)
    assert running.interlock.state is State.RUNNING, "while the supply should be on, the weld does not show"
    running.switch.open_key()
    running.run_ms(400)
    assert running.interlock.state is State.FAULT
    assert running.interlock.status().reason == "relay-welded"
    stays_stopped(running)


def test_field_supply_gone(running):
    """Both channels read open, and the relay's feedback, dark as well, reads as a supply that is on."""
    permit = running.interlock.permit()
    running.switch.break_wire(relay_welded=True)
    running.switch.open_key()
    assert permit.refusal() == "key-opened"
    running.run_ms(400)
    assert running.interlock.state is State.FAULT
    stays_stopped(running)


def test_relay_dropped_out(running):
    permit = running.interlock.permit()
    running.switch.break_wire(relay_stuck_open=True)
    running.run_ms(400)
    assert permit.refusal() == "relay-open"
    stays_stopped(running)


def test_lines_that_can_no_longer_be_read(running):
    permit = running.interlock.permit()
    running.switch.break_wire(unreadable=True)
    running.run_ms(40)
    assert permit.refusal() == "switch-unreadable"
    assert running.interlock.state is State.FAULT
    assert running.interlock.status().channel_a is None
    stays_stopped(running)


def test_after_lines_that_could_not_be_read_the_debounce_begins_anew(running):
    running.switch.break_wire(unreadable=True)
    running.run_ms(20)
    running.switch.break_wire(unreadable=False)
    running.run_ms(980)
    verdict = running.release()
    assert isinstance(verdict, OrderRefused)
    assert verdict.reason == "key-open"
    running.run_ms(60)
    assert isinstance(running.release(), OrderAccepted)


def test_lines_that_cannot_be_read_at_boot(bench):
    bench.switch.break_wire(unreadable=True)
    bench.boot()
    bench.run_ms(100)
    assert bench.interlock.state is State.FAULT
    stays_stopped(bench)


def test_clock_set_back_a_year(running):
    running.clock.utc += timedelta(days=400)
    running.run_ms(40)
    permit = running.interlock.permit()
    running.clock.utc -= timedelta(days=365)
    running.run_ms(40)
    assert permit.refusal() == "clock-set-back"
    assert running.interlock.state is State.FAULT
    running.clock.utc += timedelta(days=365)
    stays_stopped(running)


def test_clock_set_back_a_year_while_the_device_was_off(running):
    running.clock.utc -= timedelta(days=200)
    running.boot()
    running.run_ms(3000)
    assert running.interlock.state is State.BOOTING
    assert running.interlock.status().fault == "clock-set-back"
    running.clock.utc += timedelta(days=200)
    running.run_ms(100)
    assert running.interlock.state is State.RUNNING, "nobody stopped it; the clock is believed again"


def ran_ahead(running) -> None:
    """The clock jumped a year ahead, and was put right again: the device has seen a later time than now."""
    running.clock.utc += timedelta(days=365)
    running.run_ms(100)
    running.clock.utc -= timedelta(days=365)
    running.run_ms(1500)
    assert running.interlock.status().reason == "clock-set-back"


def clock_order(running, hours: float = 24, signers: int = 2, epoch: int = 0) -> bytes:
    request = running.interlock.release_request()
    request = request.model_copy(update={"epoch": request.epoch + epoch})
    payload = make_release_order(
        request, "release", now=running.clock.utc, valid_for=timedelta(hours=hours), sets_clock=True
    )
    return signed(RELEASE_TYPE, payload, running.keyring.release[:signers])


def test_a_clock_that_ran_ahead_is_believed_again_once_enough_have_signed_what_time_it_is(running):
    ran_ahead(running)
    plain = running.release()
    assert isinstance(plain, OrderRefused)
    assert plain.reason == "clock-set-back"
    order = clock_order(running)
    assert isinstance(running.interlock.apply(order), OrderAccepted)
    running.run_ms(2000)
    assert running.interlock.state is State.RUNNING
    running.boot()
    running.run_ms(1500)
    assert running.interlock.state is State.RUNNING, "the latch remembers the right time"
    running.switch.open_key()
    running.run_ms(100)
    running.switch.close_key()
    running.run_ms(1500)
    again = running.interlock.apply(order)
    assert isinstance(again, OrderRefused)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"signers": 1}, "not-signed"), ({"epoch": -1}, "other-epoch")],
)
def test_a_clock_order_is_held_to_everything_that_a_release_is(running, change, reason):
    ran_ahead(running)
    outcome = running.interlock.apply(clock_order(running, **change))
    assert isinstance(outcome, OrderRefused)
    assert outcome.reason == reason
    late = clock_order(running, hours=1)
    running.clock.utc += timedelta(hours=2)
    outcome = running.interlock.apply(late)
    assert isinstance(outcome, OrderRefused)
    assert outcome.reason == "expired", "the signers did not say that it is this late"
    running.run_ms(100)
    assert running.interlock.state is not State.RUNNING


def test_a_clock_order_says_what_time_it_is_to_within_days(running):
    with pytest.raises(ValueError, match="at most 2 days"):
        clock_order(running, hours=24 * 30)


def test_a_lease_does_not_care_for_the_wall_clock(running):
    permit = running.interlock.permit()
    running.clock.utc += timedelta(days=3650)
    permit.check()
    running.clock.pass_ms(1000)
    assert permit.refusal() == "lease-lapsed"


def test_a_clock_corrected_by_seconds_is_no_fault(running):
    running.clock.utc -= timedelta(seconds=30)
    running.run_ms(100)
    assert running.interlock.state is State.RUNNING


def test_ledger_unwritable(running):
    permit = running.interlock.permit()
    running.interlock.halt("ledger-unwritable")
    assert permit.refusal() == "ledger-unwritable"
    stays_stopped(running)


def test_ledger_unwritable_while_the_release_is_witnessed(running):
    running.switch.open_key()
    running.switch.close_key()
    running.run_ms(1200)
    running.ledger_writable = False
    assert isinstance(running.release(), OrderRefused)
    assert running.interlock.state is State.FAULT
    stays_stopped(running)


def test_an_ordered_stop_outlasts_a_release_that_came_to_nothing(running):
    running.interlock.apply(running.moratorium_order("council"))
    running.ledger_writable = False
    assert isinstance(running.release("council"), OrderRefused)
    running.ledger_writable = True
    running.boot()
    running.run_ms(1200)
    verdict = running.release("release")
    assert isinstance(verdict, OrderRefused)
    assert verdict.reason == "lower-authority"


def test_a_watch_that_slept_looks_again_before_anything_runs(running):
    permit = running.interlock.permit()
    running.clock.pass_ms(5000)
    assert permit.refusal() == "lease-lapsed"
    running.interlock.tick()
    assert running.interlock.state is State.BOOTING
    running.run_ms(980)
    assert running.interlock.state is State.BOOTING
    running.run_ms(40)
    assert running.interlock.state is State.RUNNING


def test_a_watch_that_fails_stops_and_renews_no_lease_again(bench, monkeypatch):
    bench.settings = bench.settings.model_copy(update={"poll_ms": 1})
    bench.commission()

    def broken() -> None:
        raise RuntimeError("a fault of the program")

    monkeypatch.setattr(bench.switch, "read", broken)
    monkeypatch.setattr(threading, "excepthook", [].append)
    bench.interlock.start()
    bench.interlock._thread.join(timeout=PATIENCE_S)
    assert bench.interlock.state is State.FAULT
    assert bench.interlock.status().reason == "interlock-failed"


def test_an_opening_while_the_latch_is_being_written_kills_the_permit_without_waiting(running, monkeypatch):
    permit = running.interlock.permit()
    writing, may_end = threading.Event(), threading.Event()
    slow = Latch.store

    def store(latch, record):
        writing.set()
        assert may_end.wait(PATIENCE_S)
        slow(latch, record)

    monkeypatch.setattr(Latch, "store", store)
    running.clock.utc += timedelta(hours=2)
    ticking = threading.Thread(target=running.interlock.tick)
    ticking.start()
    assert writing.wait(PATIENCE_S)
    opening = threading.Thread(target=running.switch.open_key)
    opening.start()
    assert wait_for(permit.refusal) == "key-opened"
    may_end.set()
    ticking.join(PATIENCE_S)
    opening.join(PATIENCE_S)
    assert running.interlock.state is State.MORATORIUM


def test_a_stop_is_witnessed_only_after_the_commit_that_was_under_way(running):
    permit = running.interlock.permit()
    order: list[str] = []
    inside, witness = threading.Event(), running.interlock._governor._witness

    def told(transition) -> None:
        order.append("stop on the ledger")
        witness(transition)

    running.interlock._governor._witness = told

    def book() -> None:
        with permit.commit():
            inside.set()
            time.sleep(0.05)
            order.append("commit")

    booking = threading.Thread(target=book)
    booking.start()
    assert inside.wait(PATIENCE_S)
    running.switch.open_key()
    booking.join(PATIENCE_S)
    assert order == ["commit", "stop on the ledger"]
    with pytest.raises(Stopped), permit.commit():
        order.append("a commit after the stop")
    assert len(order) == 2


def test_a_stop_is_latched_and_the_lamp_is_dark_before_a_commit_under_way_is_waited_for(running, monkeypatch):
    """The disk waits for nobody: power may go in the very moment in which the key is turned."""
    permit = running.interlock.permit()
    found: list[tuple[State, bool, str]] = []

    def drain(_permit, _timeout_s) -> bool:
        record = Latch(running.latch_path).load("bench-1", running.clock.utc).record
        found.append((record.state, running.switch.lamp_on, running.told[-1].reason))
        return True

    monkeypatch.setattr(type(permit), "drain", drain)
    running.switch.open_key()
    assert found == [(State.MORATORIUM, False, "released")], "latched, dark, and not yet on the ledger"
    assert running.told[-1].reason == "key-opened"


def test_a_fault_of_the_program_in_the_thread_that_sees_the_edges_stops(running, monkeypatch):
    """Such a thread ends unseen, and with it the edges: nothing may run on polling alone."""
    permit = running.interlock.permit()

    def broken(_found) -> None:
        monkeypatch.undo()
        raise RuntimeError("a fault of the program")

    monkeypatch.setattr(running.interlock, "_act_on", broken)
    with pytest.raises(RuntimeError):
        running.switch.open_key()
    assert permit.refusal() == "key-opened"
    assert (running.interlock.state, running.interlock.status().reason) == (State.FAULT, "interlock-failed")


def test_a_commit_that_hangs_does_not_hold_up_the_stop(running):
    permit = running.interlock.permit()
    may_end, inside = threading.Event(), threading.Event()

    def book() -> None:
        with permit.commit():
            inside.set()
            may_end.wait(10)

    booking = threading.Thread(target=book)
    booking.start()
    assert inside.wait(PATIENCE_S)
    began = time.monotonic()
    running.switch.open_key()
    assert running.interlock.state is State.MORATORIUM
    assert time.monotonic() - began < 2
    may_end.set()
    booking.join(PATIENCE_S)


def test_closing_the_process_revokes_and_does_not_latch(running):
    permit = running.interlock.permit()
    running.interlock.close()
    assert permit.refusal() == "closing-down"
    running.boot()
    running.run_ms(1200)
    assert running.interlock.state is State.RUNNING
