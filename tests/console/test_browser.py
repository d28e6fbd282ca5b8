"""The console in Debian's Chromium, over a real device with real models: what an officer sees first.

The rest, on more sizes and in more corners, is `tests/console/run`.
"""

from __future__ import annotations

from console.browsers import Chromium
from console.conftest import OpenHouse
from console.consoles import House, wait_for


def test_a_whole_booking_on_screens_that_axe_has_nothing_to_say_to(house: House, chromium: Chromium) -> None:
    desk = chromium.open(house.server.address)
    desk.on("Sign in").looks_right("01-sign-in").sign_in()
    desk.on("New booking").looks_right("02-number").number("B-2041")
    desk.on("Photograph").live().looks_right("03-camera").press("Take the picture")
    desk.on("Recorded").looks_right("04-recorded")
    seen = desk.page.inner_text("main")
    assert "B-2041" in seen
    assert desk.offers() == ["Next booking"]
    desk.press("Next booking").on("New booking").press("Lock")
    desk.on("Locked").looks_right("05-locked")
    desk.page.goto(house.server.address + "status")
    desk.on("Device status").looks_right("06-status")
    assert not desk.complaints


def test_two_people_are_refused_then_one_is_recorded(open_house: OpenHouse, chromium: Chromium) -> None:
    with open_house(two_people_first=True) as house:
        desk = chromium.open(house.server.address).on("Sign in").sign_in().on("New booking").number("B-7")
        desk.on("Photograph").live()
        wait_for(lambda: "Only one person in view" in desk.page.inner_text("[data-stage]"))
        desk.press("Take the picture").on("Not recorded").looks_right("07-refused")
        assert "More than one face" in desk.page.inner_text("main")
        desk.press("Take another picture").on("Photograph").live().press("Take the picture").on("Recorded")
        assert not desk.complaints


def test_a_stop_darkens_the_preview_and_leaves_nothing_that_captures(house: House, chromium: Chromium) -> None:
    desk = chromium.open(house.server.address).on("Sign in").sign_in().on("New booking").number("B-8")
    desk.on("Photograph").live()
    house.stop()
    desk.on("Facial recognition is stopped").looks_right("08-stopped")
    assert desk.picture_is_black()
    assert desk.offers() == ["Put on record"]
    assert "Key turned" in desk.page.inner_text("main")
    desk.press("Put on record").on("On record").looks_right("09-noted")
    assert not desk.complaints
