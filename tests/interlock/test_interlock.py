"""The whole interlock in one process: what stops it, and what alone starts it."""

from __future__ import annotations

import pytest

from turnkey.interlock.machine import State
from turnkey.interlock.orders import OrderAccepted, OrderRefused
from turnkey.interlock.permit import Stopped


def test_a_fresh_device_is_in_moratorium(bench):
    assert bench.interlock.state is State.MORATORIUM
    assert bench.interlock.status().epoch == 1
    with pytest.raises(Stopped):
        bench.interlock.permit()


def test_closing_the_key_alone_starts_nothing(bench):
    bench.switch.close_key()
    bench.run_ms(5000)
    assert bench.interlock.state is State.MORATORIUM


def test_a_release_with_the_key_open_is_refused_and_not_used_up(bench):
    order = bench.release_order()
    verdict = bench.interlock.apply(order)
    assert isinstance(verdict, OrderRefused)
    assert verdict.reason == "key-open"
    bench.switch.close_key()
    bench.run_ms(1100)
    assert isinstance(bench.interlock.apply(order), OrderAccepted)
    assert bench.interlock.state is State.RUNNING


def test_first_opening_stops_at_once(running):
    permit = running.interlock.permit()
    permit.check()
    running.switch.open_channel("b")
    assert permit.refusal() == "key-opened"
    assert running.interlock.state is State.MORATORIUM


def test_an_opening_shorter_than_a_poll_stops(running):
    running.switch.open_channel("a")
    running.switch.close_channel("a")
    running.run_ms(3000)
    assert running.interlock.state is State.MORATORIUM


def test_a_running_device_runs_again_after_a_power_cut(running):
    running.boot()
    assert running.interlock.state is State.BOOTING
    with pytest.raises(Stopped):
        running.interlock.permit()
    running.run_ms(1100)
    assert running.interlock.state is State.RUNNING


def test_a_stopped_device_stays_stopped_after_a_power_cut(running):
    running.switch.open_key()
    running.switch.close_key()
    running.boot()
    running.run_ms(3000)
    assert running.interlock.state is State.MORATORIUM


def test_a_device_whose_key_was_opened_while_it_was_off_is_stopped_even_when_closed_again(running):
    running.switch.close()
    running.switch.open_key()
    running.boot()
    running.interlock.tick()
    running.switch.close_key()
    running.run_ms(3000)
    assert running.interlock.state is State.MORATORIUM


def test_the_gallery_key_is_wiped_with_the_permit(running):
    permit = running.interlock.permit()
    key = permit.gallery_key()
    assert bytes(key) == bytes(range(32))
    running.switch.open_key()
    assert bytes(key) == bytes(32)
    with pytest.raises(Stopped):
        permit.gallery_key()


def test_a_lease_that_is_not_renewed_lapses(running):
    permit = running.interlock.permit()
    running.clock.pass_ms(1001)
    assert permit.refusal() == "lease-lapsed"
    with pytest.raises(Stopped):
        running.interlock.permit()


def test_a_revoked_permit_stays_dead_after_a_release(running):
    permit = running.interlock.permit()
    running.switch.open_key()
    running.commission()
    running.interlock.permit().check()
    assert permit.refusal() == "key-opened"


def test_an_ordered_moratorium_stops_with_the_key_on_and_needs_its_rank(running):
    assert isinstance(running.interlock.apply(running.moratorium_order("council")), OrderAccepted)
    assert running.interlock.state is State.MORATORIUM
    for role in ("release", "chief"):
        verdict = running.release(role)
        assert isinstance(verdict, OrderRefused)
        assert verdict.reason == "lower-authority"
    assert isinstance(running.release("council"), OrderAccepted)
    assert running.interlock.state is State.RUNNING


def test_a_release_order_is_good_for_one_use(running):
    running.switch.open_key()
    running.switch.close_key()
    running.run_ms(1100)
    order = running.release_order()
    assert isinstance(running.interlock.apply(order), OrderAccepted)
    running.switch.open_key()
    running.switch.close_key()
    running.run_ms(1100)
    verdict = running.interlock.apply(order)
    assert isinstance(verdict, OrderRefused)
    assert verdict.reason == "used-before"


def test_every_transition_is_witnessed_with_its_cause(running):
    running.switch.open_key()
    told = [(each.previous, each.state, each.reason) for each in running.told]
    assert told == [
        (State.BOOTING, State.MORATORIUM, "latch-missing"),
        (State.MORATORIUM, State.RUNNING, "released"),
        (State.RUNNING, State.MORATORIUM, "key-opened"),
    ]


def test_a_ledger_that_cannot_be_written_stops_the_device(running):
    permit = running.interlock.permit()
    running.ledger_writable = False
    running.switch.open_key()
    assert permit.refusal() is not None
    assert running.interlock.state is State.FAULT
    running.switch.close_key()
    running.run_ms(1100)
    assert isinstance(running.release(), OrderRefused)
    assert running.interlock.state is State.FAULT
