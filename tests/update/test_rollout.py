"""Which device takes which release: shares, pauses, pins, and that nothing goes back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkey.update.release import Release, Terms, order, release_of
from turnkey.update.rollout import DeviceFacts, Stay, StayReason, Take, decide, granted_to, place

FLEET = [f"booth-{number}" for number in range(2000)]


def release(version: str, **terms: Any) -> Release:
    terms = {"kind": "bundle", "board": "rpi5", "groups": {"station": 100}} | terms
    return Release(f"turnkey-{version}", version.rjust(64, "0"), 1, Terms(version=version, **terms))


def device(has: str | None = "1.0", **facts: Any) -> DeviceFacts:
    versions = {} if has is None else {"bundle": has}
    facts = {"device_id": "booth-1", "group": "station", "board": "rpi5", "versions": versions} | facts
    return DeviceFacts(**facts)


def taken(releases: list[Release], facts: DeviceFacts) -> str | StayReason:
    decision = decide(releases, "bundle", facts)
    match decision:
        case Take():
            return decision.release.terms.version
        case Stay():
            return decision.reason


def test_the_newest_that_is_granted_is_taken() -> None:
    assert taken([release("1.2"), release("1.10"), release("1.9")], device()) == "1.10"


@pytest.mark.parametrize("has", ["1.2", "1.2.0", "1.3", "2"])
def test_a_device_never_goes_back_and_never_installs_what_it_has(has: str) -> None:
    assert taken([release("1.2")], device(has)) is StayReason.NEWEST


def test_not_even_a_pin_takes_a_device_back() -> None:
    assert taken([release("1.2", pins=("booth-1",)), release("1.4")], device("1.3")) is StayReason.PINNED


def test_a_pinned_device_takes_its_release_and_no_other_whatever_groups_and_pauses_say() -> None:
    pinned = release("1.2", pins=("booth-1",), groups={}, paused=True)
    assert taken([pinned, release("1.3")], device()) == "1.2"
    assert taken([pinned, release("1.3")], device("1.2")) is StayReason.PINNED
    assert taken([pinned, release("1.3")], device(device_id="booth-2")) == "1.3"


def test_two_pins_are_a_mistake_and_neither_is_followed() -> None:
    pins = ("booth-1",)
    assert taken([release("1.2", pins=pins), release("1.3", pins=pins)], device()) is StayReason.PINNED_TWICE


def test_another_board_another_group_and_a_pause_are_not_for_this_device() -> None:
    assert taken([release("1.2", board="rpi4")], device()) is StayReason.NEWEST
    assert taken([release("1.2", groups={"pilot": 100})], device()) is StayReason.NOT_GRANTED
    assert taken([release("1.2", paused=True)], device()) is StayReason.PAUSED
    assert taken([release("1.2"), release("1.3", paused=True)], device()) == "1.2"


def test_what_the_device_came_back_from_is_not_taken_again_but_the_next_is() -> None:
    bad = release("1.2")
    facts = device(returned=frozenset({bad.digest}))
    assert taken([bad], facts) is StayReason.CAME_BACK
    assert taken([bad, release("1.3")], facts) == "1.3"


def test_other_kinds_are_decided_on_their_own() -> None:
    policy = release("7", kind="policy", board=None)
    assert taken([policy], device()) is StayReason.NEWEST
    assert isinstance(decide([policy], "policy", device()), Take)
    assert isinstance(decide([policy], "policy", device(versions={"policy": "7"})), Stay)


def test_a_share_is_about_that_share_of_the_fleet_and_another_one_for_each_version() -> None:
    tenth = {name for name in FLEET if place(name, "1.2") < 10}
    other = {name for name in FLEET if place(name, "1.3") < 10}
    assert 150 <= len(tenth) <= 250
    assert len(tenth & other) < 60


@given(st.sampled_from(FLEET), st.integers(0, 100), st.integers(0, 100))
def test_widening_a_share_never_takes_a_device_out(name: str, share: int, wider: int) -> None:
    share, wider = sorted((share, wider))
    facts = device(device_id=name)
    if granted_to(release("1.2", groups={"station": share}), facts):
        assert granted_to(release("1.2", groups={"station": wider}), facts)
    assert granted_to(release("1.2", groups={"station": 100}), facts)
    assert not granted_to(release("1.2", groups={"station": 0}), facts)


def test_versions_are_compared_number_by_number() -> None:
    assert order("1.10") > order("1.9.9")
    assert order("1.0.0") == order("1")
    assert order("0") < order("0.1")


@pytest.mark.parametrize(
    "custom",
    [
        None,
        "bundle",
        {},
        {"turnkey": {}},
        {"turnkey": {"kind": "bundle", "version": "1.2", "colour": "red"}},
        {"turnkey": {"kind": "bundle", "version": "1.2", "groups": {"Station": 5}}},
        {"turnkey": {"kind": "bundle", "version": "1.2", "pins": ["Booth 7"]}},
        {"turnkey": {"kind": "bundle", "version": "1.2.3.4.5"}},
    ],
)
def test_what_is_not_understood_is_no_release(custom: object) -> None:
    assert release_of("name", 1, {"sha256": "0" * 64}, custom) is None
