"""Orders that must not hold, each for its own reason; and an authority that gives way only to its successor."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from turnkey.envelope import cosign, sign
from turnkey.interlock.authority import AUTHORITY_TYPE, AuthorityError
from turnkey.interlock.authority_folder import AuthorityFolder
from turnkey.interlock.interlock import Interlock
from turnkey.interlock.latch import Latch
from turnkey.interlock.machine import State
from turnkey.interlock.orders import (
    MORATORIUM_TYPE,
    RELEASE_TYPE,
    AuthorityFollowed,
    OrderAccepted,
    OrderRefused,
    ReleaseRequest,
    make_moratorium_order,
    make_release_order,
)


@pytest.fixture
def stopped(running):
    """A device that was running and was stopped with the key, which is closed again."""
    running.switch.open_key()
    running.switch.close_key()
    running.run_ms(1200)
    return running


def signed_release(bench, *, signers=2, **changed):
    """A release for the present stop, changed before it is signed."""
    payload = json.loads(make_release_order(bench.interlock.release_request(), "release", now=bench.clock.utc))
    data = json.dumps(payload | changed).encode()
    keys = bench.keyring.of("release")[:signers]
    envelope = sign(RELEASE_TYPE, data, keys[0])
    for key in keys[1:]:
        envelope = cosign(envelope, key)
    return envelope


def refused(bench, envelope) -> str:
    before = bench.interlock.status()
    verdict = bench.interlock.apply(envelope)
    assert isinstance(verdict, OrderRefused), verdict
    assert verdict.message
    after = bench.interlock.status()
    assert (after.state, after.epoch, after.challenge) == (before.state, before.epoch, before.challenge)
    return verdict.reason


def test_the_unchanged_order_holds(stopped):
    assert isinstance(stopped.interlock.apply(signed_release(stopped)), OrderAccepted)


def test_k_minus_1_good_signatures(stopped):
    assert refused(stopped, signed_release(stopped, signers=1)) == "not-signed"


def test_one_key_signing_twice(stopped):
    twice = json.loads(signed_release(stopped, signers=1))
    twice["signatures"] *= 2
    assert refused(stopped, json.dumps(twice).encode()) in ("not-signed", "not-an-envelope")
    alias = json.loads(signed_release(stopped, signers=1))
    alias["signatures"].append(alias["signatures"][0] | {"keyid": "0" * 64})
    assert refused(stopped, json.dumps(alias).encode()) == "not-signed"


def test_a_signature_by_a_key_of_another_role(stopped):
    one = signed_release(stopped, signers=1)
    assert refused(stopped, cosign(one, stopped.keyring.chief[0])) == "not-signed"


def test_a_payload_changed_after_signing(stopped):
    changed = json.loads(signed_release(stopped))
    changed["payload"] = json.loads(signed_release(stopped))["payload"]
    assert refused(stopped, json.dumps(changed).encode()) == "not-signed"


def test_for_another_device(stopped):
    assert refused(stopped, signed_release(stopped, device_id="bench-2")) == "other-device"


def test_a_release_for_every_device_does_not_exist(stopped):
    assert refused(stopped, signed_release(stopped, device_id="*")) == "malformed"


@pytest.mark.parametrize("step", [-1, 1])
def test_for_another_epoch(stopped, step):
    epoch = stopped.interlock.status().epoch
    assert refused(stopped, signed_release(stopped, epoch=epoch + step)) == "other-epoch"


def test_for_another_stop_of_the_same_number(stopped):
    assert refused(stopped, signed_release(stopped, challenge="0" * 32)) == "other-challenge"


def test_expired_and_not_yet_valid(stopped):
    order = signed_release(stopped)
    stopped.clock.utc -= timedelta(seconds=200)
    assert refused(stopped, order) == "not-yet-valid"
    stopped.clock.utc += timedelta(days=1, seconds=201)
    assert refused(stopped, order) == "expired"


def test_valid_for_longer_than_any_order_may_be(stopped):
    late = (stopped.clock.utc + timedelta(days=400)).isoformat()
    assert refused(stopped, signed_release(stopped, not_after=late)) == "valid-too-long"


def test_replayed_after_the_next_stop_and_after_a_reboot(stopped):
    order = signed_release(stopped)
    assert isinstance(stopped.interlock.apply(order), OrderAccepted)
    assert refused(stopped, order) == "used-before"
    stopped.switch.open_key()
    stopped.switch.close_key()
    stopped.run_ms(1200)
    assert refused(stopped, order) == "used-before"
    stopped.boot()
    stopped.run_ms(1200)
    assert refused(stopped, order) == "used-before"


def test_a_stop_order_replayed(stopped):
    order = stopped.moratorium_order("chief")
    assert isinstance(stopped.interlock.apply(order), OrderAccepted)
    assert refused(stopped, order) == "used-before"
    stopped.release("chief")
    assert refused(stopped, order) == "used-before"
    assert stopped.interlock.state is State.RUNNING


def test_a_release_prepared_before_a_stop_order_does_not_lift_it(stopped):
    order = signed_release(stopped)
    stopped.interlock.apply(stopped.moratorium_order("chief"))
    assert refused(stopped, order) == "other-epoch"


@pytest.mark.parametrize(
    ("breakage", "reason"),
    [
        ({"cross_short": True}, "cross-short"),
        ({"relay_stuck_open": True}, "relay-open"),
        ({"unreadable": True}, "switch-unreadable"),
    ],
)
def test_with_a_fault_showing(stopped, breakage, reason):
    stopped.switch.break_wire(**breakage)
    stopped.run_ms(1500)
    assert refused(stopped, signed_release(stopped)) == reason


def test_with_the_key_closed_for_less_than_the_debounce(stopped):
    stopped.switch.open_key()
    stopped.switch.close_key()
    stopped.run_ms(900)
    assert refused(stopped, signed_release(stopped)) == "key-open"


def test_with_a_clock_that_was_never_set(stopped):
    order = signed_release(stopped)
    stopped.clock.utc = stopped.settings.clock_not_before - timedelta(days=1)
    assert refused(stopped, order) == "clock-unset"


def test_with_a_clock_set_back_a_year_to_when_an_old_order_was_valid(stopped):
    old = stopped.clock.utc - timedelta(days=300)
    payload = make_release_order(stopped.interlock.release_request(), "release", now=old)
    envelope = cosign(sign(RELEASE_TYPE, payload, stopped.keyring.release[0]), stopped.keyring.release[1])
    stopped.clock.utc = old + timedelta(hours=1)
    assert refused(stopped, envelope) == "clock-set-back"


def test_a_role_that_may_not_release(stopped):
    payload = make_release_order(stopped.interlock.release_request(), "root", now=stopped.clock.utc)
    envelope = cosign(sign(RELEASE_TYPE, payload, stopped.keyring.root[0]), stopped.keyring.root[1])
    assert refused(stopped, envelope) == "role-may-not"
    payload = make_release_order(stopped.interlock.release_request(), "nobody", now=stopped.clock.utc)
    assert refused(stopped, sign(RELEASE_TYPE, payload, stopped.keyring.chief[0])) == "unknown-role"


def test_a_stop_order_is_never_read_as_a_release(stopped):
    payload = make_release_order(stopped.interlock.release_request(), "chief", now=stopped.clock.utc)
    assert refused(stopped, sign(MORATORIUM_TYPE, payload, stopped.keyring.chief[0])) == "malformed"


@pytest.mark.parametrize("data", [b"", b"{}", b"\x00", b"[" * 60_000, b"x" * 70_000])
def test_what_is_no_order_at_all(stopped, data):
    assert refused(stopped, data) in ("not-an-envelope", "too-large")


def test_a_release_while_running_releases_nothing(running):
    assert refused(running, signed_release(running)) == "not-stopped"


def test_an_order_for_every_device_stops_this_one(running):
    payload = make_moratorium_order("*", "chief", now=running.clock.utc)
    assert isinstance(running.interlock.apply(sign(MORATORIUM_TYPE, payload, running.keyring.chief[0])), OrderAccepted)
    assert running.interlock.state is State.MORATORIUM


def test_two_standing_orders_are_lifted_by_the_higher_body_alone(running):
    running.interlock.apply(running.moratorium_order("chief"))
    running.interlock.apply(running.moratorium_order("council"))
    assert refused(running, running.release_order("chief")) == "lower-authority"
    assert isinstance(running.release("council"), OrderAccepted)
    assert running.interlock.status().standing == ()


def test_a_standing_order_survives_the_key_a_fault_and_a_reboot(running):
    running.interlock.apply(running.moratorium_order("council"))
    running.switch.open_key()
    running.switch.close_key()
    running.switch.break_wire(unreadable=True)
    running.run_ms(100)
    running.switch.break_wire(unreadable=False)
    running.boot()
    running.run_ms(1200)
    assert refused(running, running.release_order("release")) == "lower-authority"


def test_a_nonce_is_forgotten_only_when_its_order_is_expired_anyway(stopped):
    order = signed_release(stopped)
    stopped.interlock.apply(order)
    stopped.clock.utc += timedelta(days=2)
    stopped.run_ms(40)
    stopped.switch.open_key()
    stopped.switch.close_key()
    stopped.run_ms(1200)
    assert refused(stopped, order) == "expired"


class Succession:
    """A device that follows authorities, with two generations of keys."""

    def __init__(self, bench, keyring, later) -> None:
        self.bench, self.later = bench, later
        self.first = keyring.authority()
        self.folder = bench.folder / "authorities"
        self.folder.mkdir()
        self.provisioned = self.sign(self.first, keyring.root[:2])

    @staticmethod
    def sign(authority, keys) -> bytes:
        data = sign(AUTHORITY_TYPE, authority.payload(), keys[0])
        for key in keys[1:]:
            data = cosign(data, key)
        return data

    def boot(self) -> Interlock:
        bench = self.bench
        bench.switch.close()
        bench.interlock = Interlock(
            bench.switch,
            Latch(bench.latch_path),
            device_id="bench-1",
            authority=AuthorityFolder(self.provisioned, self.folder),
            settings=bench.settings,
            monotonic_ns=bench.clock.monotonic_ns,
            utc_now=bench.clock.utc_now,
            witness=bench.witness,
        )
        return bench.interlock


@pytest.fixture
def succession(bench, keyring):
    return Succession(bench, keyring, type(keyring).generate())


def test_a_successor_takes_over_and_its_predecessors_orders_no_longer_hold(succession):
    bench, later = succession.bench, succession.later
    interlock = succession.boot()
    second = later.authority(version=2)
    old_roots, new_roots = bench.keyring.root[:2], later.root[:2]
    for keys in (new_roots, old_roots, (*old_roots[:1], *new_roots)):
        verdict = interlock.follow(succession.sign(second, keys))
        assert isinstance(verdict, OrderRefused)
        assert verdict.reason == "not-signed"
    assert interlock.follow(succession.sign(second, (*old_roots, *new_roots))) == AuthorityFollowed(2)
    bench.switch.close_key()
    bench.run_ms(1200)
    assert refused(bench, bench.release_order()) == "not-signed"
    bench.keyring = later
    assert isinstance(bench.release(), OrderAccepted)
    interlock = succession.boot()
    assert interlock.status().authority_version == 2


def test_a_successor_that_went_missing_keeps_the_device_stopped(succession):
    bench, later = succession.bench, succession.later
    interlock = succession.boot()
    keys = (*bench.keyring.root[:2], *later.root[:2])
    interlock.follow(succession.sign(later.authority(version=2), keys))
    (succession.folder / "2.json").unlink()
    succession.boot()
    bench.switch.close_key()
    bench.run_ms(1200)
    assert refused(bench, bench.release_order()) == "authority-older-than-latch"


def test_a_successor_that_was_tampered_with_keeps_the_device_stopped(succession):
    bench, later = succession.bench, succession.later
    (succession.folder / "2.json").write_bytes(succession.sign(later.authority(version=2), later.root[:2]))
    succession.boot()
    bench.switch.close_key()
    bench.run_ms(1200)
    assert refused(bench, bench.release_order()) == "authority-untrusted"


def test_a_fixed_authority_follows_nobody(bench):
    verdict = bench.interlock.follow(b"{}")
    assert isinstance(verdict, OrderRefused)
    assert verdict.reason == "authority-fixed"


def test_a_first_authority_not_signed_by_its_root_is_refused(succession, tmp_path):
    with pytest.raises(AuthorityError):
        AuthorityFolder(succession.sign(succession.first, succession.later.root[:2]), tmp_path)


def test_the_request_a_device_shows_is_what_the_order_needs(stopped):
    request = ReleaseRequest.model_validate_json(stopped.interlock.release_request().model_dump_json())
    status = stopped.interlock.status()
    assert (request.epoch, request.challenge) == (status.epoch, status.challenge)
