"""A booking's way, as the table has it."""

from __future__ import annotations

import pytest

from turnkey.console.flow import TABLE, Event, Page, Screen, Visit, after, page, permits


def test_nothing_is_recorded_before_a_number_is_given() -> None:
    assert not permits(Visit(), Event.PICTURE_RECORDED)
    assert after(Visit(), Event.PICTURE_RECORDED) == Visit()


@pytest.mark.parametrize("screen", list(Screen))
def test_every_screen_can_be_left(screen: Screen) -> None:
    assert {TABLE[screen, event] for event in Event if (screen, event) in TABLE} - {screen}


def test_a_recorded_booking_cannot_be_cancelled_or_taken_again() -> None:
    recorded = after(after(Visit(), Event.NUMBER_GIVEN, number="B-1"), Event.PICTURE_RECORDED)
    for event in (Event.CANCEL, Event.RETAKE, Event.PICTURE_RECORDED, Event.GIVE_UP):
        assert after(recorded, event) == recorded


def test_refusals_are_counted_until_the_next_person() -> None:
    visit = after(Visit(), Event.NUMBER_GIVEN, number="B-1")
    for expected in (1, 2, 3):
        visit = after(visit, Event.PICTURE_REFUSED, reason="blurred", step="vision")
        assert (visit.refusals, visit.reason) == (expected, "blurred")
        visit = after(visit, Event.RETAKE)
    assert after(visit, Event.CANCEL) == Visit()


@pytest.mark.parametrize("screen", [one for one in Screen if one is not Screen.NOTED])
def test_while_stopped_every_screen_is_the_stopped_one_and_can_note(screen: Screen) -> None:
    assert page(Visit(screen, "B-1"), locked=False, running=False) is Page.STOPPED
    if screen is not Screen.RECORDED:
        assert permits(Visit(screen, "B-1"), Event.NOTE_KEPT)


def test_a_locked_session_shows_nothing_of_the_booking() -> None:
    for running in (True, False):
        assert page(Visit(Screen.CAMERA, "B-1"), locked=True, running=running) is Page.LOCKED


def test_no_screen_leads_from_stopped_to_the_camera_without_recognition() -> None:
    assert page(None, locked=False, running=True) is Page.SIGN_IN
    assert page(Visit(Screen.CAMERA, "B-1"), locked=False, running=False) is Page.STOPPED
