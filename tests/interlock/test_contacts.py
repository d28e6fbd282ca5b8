"""Debounce, disagreement, relay and test pulse, on values alone: no thread, no clock, no switch."""

from __future__ import annotations

import pytest

from turnkey.interlock.contacts import Contacts, Finding
from turnkey.interlock.switch import PulseReading, SwitchReading
from turnkey.settings import GpioLines, InterlockSettings

SETTINGS = InterlockSettings()
CLOSED = SwitchReading(True, True, True)
OPEN = SwitchReading(False, False, False)


def seen(*readings: tuple[int, SwitchReading]) -> tuple[Contacts, list[tuple[int, Finding]]]:
    """Feed readings, each at its millisecond; give what was found when."""
    contacts, found = Contacts(), []
    for at_ms, reading in readings:
        contacts, new = contacts.after(reading, at_ms * 1_000_000, SETTINGS)
        found += [(at_ms, finding) for finding in new]
    return contacts, found


def steady(reading: SwitchReading, start_ms: int, end_ms: int, each_ms: int = 20) -> list[tuple[int, SwitchReading]]:
    return [(at, reading) for at in range(start_ms, end_ms + 1, each_ms)]


def test_closing_counts_after_one_second_and_not_before():
    contacts, found = seen(*steady(CLOSED, 0, 980))
    assert not contacts.closed
    assert found == []
    contacts, found = seen(*steady(CLOSED, 0, 1000))
    assert contacts.closed
    assert found == [(1000, Finding.CLOSED)]


def test_bounce_on_closing_starts_the_second_anew():
    bounce = [*steady(CLOSED, 0, 500), (510, OPEN), *steady(CLOSED, 520, 1500)]
    contacts, found = seen(*bounce)
    assert not contacts.closed
    assert Finding.CLOSED not in [finding for _, finding in found]
    contacts, _ = seen(*bounce, (1520, CLOSED))
    assert contacts.closed


def test_bounce_on_opening_is_one_opening():
    bounce = [(1020, OPEN), (1021, CLOSED), (1022, OPEN), (1023, CLOSED), (1024, OPEN)]
    _, found = seen(*steady(CLOSED, 0, 1000), *bounce)
    assert found == [(1000, Finding.CLOSED), (1020, Finding.OPENED)]


def test_a_first_reading_that_is_open_is_an_opening():
    _, found = seen((0, OPEN))
    assert found == [(0, Finding.OPENED)]


@pytest.mark.parametrize("reading", [SwitchReading(True, False, False), SwitchReading(False, True, False)])
def test_channels_that_differ_for_more_than_100_ms_are_a_fault(reading):
    contacts, found = seen(*steady(CLOSED, 0, 1000), *steady(reading, 1020, 1120))
    assert found[1:] == [(1020, Finding.OPENED)]
    assert contacts.present_fault is None
    contacts, found = seen(*steady(CLOSED, 0, 1000), *steady(reading, 1020, 1140))
    assert found[1:] == [(1020, Finding.OPENED), (1140, Finding.DISAGREE)]
    assert contacts.present_fault is Finding.DISAGREE


def test_channels_that_part_by_milliseconds_are_a_turned_key():
    turn = [(1020, SwitchReading(False, True, True)), (1040, SwitchReading(False, False, True))]
    _, found = seen(*steady(CLOSED, 0, 1000), *turn, *steady(OPEN, 1060, 3000))
    assert found == [(1000, Finding.CLOSED), (1020, Finding.OPENED)]


def test_a_relay_that_stays_on_with_the_key_open_is_welded():
    _, found = seen(*steady(CLOSED, 0, 1000), *steady(SwitchReading(False, False, True), 1020, 1280))
    assert found[-1] == (1280, Finding.RELAY_WELDED)


def test_a_relay_that_stays_off_with_the_key_closed_is_a_fault():
    _, found = seen(*steady(SwitchReading(True, True, False), 0, 260))
    assert found == [(260, Finding.RELAY_OPEN)]


def test_a_relay_that_takes_its_time_is_none():
    _, found = seen(*steady(SwitchReading(True, True, False), 0, 240), *steady(CLOSED, 260, 2000))
    assert found == [(1000, Finding.CLOSED)]


@pytest.mark.parametrize("pulse", [PulseReading(False, True), PulseReading(True, False), PulseReading(False, False)])
def test_a_line_that_ignores_its_own_pulse_is_cross_shorted(pulse):
    contacts, _ = seen(*steady(CLOSED, 0, 1000))
    contacts, found = contacts.pulsed(pulse)
    assert found == (Finding.CROSS_SHORT,)
    assert contacts.present_fault is Finding.CROSS_SHORT
    assert contacts.pulsed(pulse)[1] == ()
    mended, _ = contacts.pulsed(PulseReading(True, True))
    assert mended.present_fault is None


def test_feeds_are_to_be_proved_again_after_each_opening():
    contacts, _ = seen(*steady(CLOSED, 0, 1000))
    contacts, _ = contacts.pulsed(PulseReading(True, True))
    assert contacts.proved
    contacts, _ = contacts.after(OPEN, 1_020_000_000, SETTINGS)
    assert not contacts.proved


def test_a_gap_in_the_readings_is_not_stability():
    contacts, _ = seen(*steady(CLOSED, 0, 500), (1600, CLOSED))
    assert not contacts.closed


def test_an_opening_edge_counts_even_where_the_line_is_closed_again():
    contacts, _ = seen(*steady(CLOSED, 0, 1000))
    contacts, found = contacts.opened(1_001_000_000)
    assert found == (Finding.OPENED,)
    contacts, _ = contacts.after(CLOSED, 1_020_000_000, SETTINGS)
    assert not contacts.closed


def test_settings_that_could_not_be_safe_are_refused():
    with pytest.raises(ValueError, match="never guessed"):
        InterlockSettings(adapter="gpio")
    with pytest.raises(ValueError, match="outlast"):
        InterlockSettings(lease_validity_ms=300, lease_renewal_ms=200)
    with pytest.raises(ValueError, match="wire of its own"):
        GpioLines(chip="/dev/gpiochip0", channel_a=5, channel_b=5, relay_feedback=6, pulse_a=7, pulse_b=8, lamp=9)
