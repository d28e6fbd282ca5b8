"""Every way through the console in Debian's Chromium: what `tests/console/run` adds to the suite's own three.

Collected by that command only. Screenshots are kept where TURNKEY_SCREENS says.
"""

from __future__ import annotations

import pytest
from booking_room import events
from console.browsers import Chromium, Desktop
from console.conftest import OpenHouse
from console.consoles import BADGE, OTHER_BADGE, OTHER_PIN, PIN, House, wait_for

from turnkey.leads.records import Captured, NotCaptured

STOPPED = "Facial recognition is stopped"
SIZES = [(360, 740), (480, 800), (800, 480), (1024, 600), (1280, 800)]


def begin(house: House, chromium: Chromium, number: str = "B-1", **how: object) -> Desktop:
    """An officer at the camera."""
    desk = chromium.open(house.server.address, **how).on("Sign in").sign_in()  # type: ignore[arg-type]
    return desk.on("New booking").number(number).on("Photograph").live()


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_screen_fits_and_axe_has_nothing_to_say(
    open_house: OpenHouse, chromium: Chromium, width: int, height: int, scheme: str
) -> None:
    with open_house(two_people_first=True) as house:
        name = scheme.__add__
        desk = chromium.open(house.server.address, width, height, color_scheme=scheme)
        desk.on("Sign in").looks_right(name("-sign-in")).sign_in(pin=OTHER_PIN).on("Sign in")
        desk.looks_right(name("-wrong-pin")).sign_in()
        desk.on("New booking").looks_right(name("-number")).number("nonsense").on("New booking")
        desk.looks_right(name("-number-refused")).number("B-204117").on("Photograph").live()
        wait_for(lambda: desk.page.get_attribute("[data-stage]", "data-state") == "guide")
        desk.looks_right(name("-camera")).press("Take the picture")
        desk.on("Not recorded").looks_right(name("-refused")).press("No picture possible")
        desk.on("Why is there no picture?").looks_right(name("-reason")).press("Back to the camera")
        desk.on("Photograph").live().press("Take the picture").on("Recorded").looks_right(name("-recorded"))
        desk.page.goto(house.server.address + "status")
        desk.on("Device status").looks_right(name("-status")).page.get_by_role("link", name="Back").click()
        desk.on("Recorded").press("Lock").on("Locked").looks_right(name("-locked"))
        desk.page.fill("#pin", PIN)
        desk.press("Unlock").on("Recorded").press("Next booking").on("New booking")
        house.stop()
        desk.on(STOPPED).looks_right(name("-stopped")).page.fill("#number", "B-204118")
        desk.press("Put on record").on("On record").looks_right(name("-noted")).press("Sign out")
        desk.on("Sign in").looks_right(name("-sign-in-stopped"))
        assert not desk.complaints


def test_a_booking_in_spanish(open_house: OpenHouse, chromium: Chromium) -> None:
    with open_house(two_people_first=True) as house:
        desk = chromium.open(house.server.address)
        desk.on("Sign in").page.get_by_role("link", name="Español").click()
        desk.on("Iniciar sesión").looks_right("sign-in").sign_in().on("Nuevo registro").looks_right("number")
        desk.number("B-9").on("Fotografía").live().looks_right("camera").press("Tomar la foto")
        desk.on("No registrado").looks_right("refused").press("Tomar otra foto").on("Fotografía").live()
        desk.press("Tomar la foto").on("Registrado").looks_right("recorded").press("English").on("Recorded")
        desk.press("Español").on("Registrado").press("Siguiente registro").on("Nuevo registro")
        house.stop()
        desk.on("El reconocimiento facial está detenido").looks_right("stopped")
        assert "Llave girada" in desk.page.inner_text("main")
        assert not desk.complaints


@pytest.mark.parametrize("screen", ["Sign in", "Locked", "New booking", "Photograph", "Not recorded", "Recorded"])
def test_a_stop_in_the_middle_of_each_screen(open_house: OpenHouse, chromium: Chromium, screen: str) -> None:
    with open_house(two_people_first=screen == "Not recorded") as house:
        desk = chromium.open(house.server.address).on("Sign in")
        if screen != "Sign in":
            desk.sign_in().on("New booking")
        if screen in ("Photograph", "Not recorded", "Recorded"):
            desk.number("B-1").on("Photograph").live()
        if screen in ("Not recorded", "Recorded"):
            desk.press("Take the picture").on(screen)
        if screen == "Locked":
            desk.press("Lock").on("Locked")
        pictures = len([event for event in events(house.device) if isinstance(event, Captured)])
        house.stop()
        if screen in ("Sign in", "Locked"):
            wait_for(lambda: "Recognition is stopped" in desk.page.inner_text("header"))
        else:
            desk.on(STOPPED)
            assert desk.offers() == ["Put on record"]
        assert desk.picture_is_black()
        assert len([event for event in events(house.device) if isinstance(event, Captured)]) == pictures
        if screen in ("New booking", "Photograph", "Not recorded"):
            house.release()
            desk.on("Photograph" if screen == "Photograph" else screen)
        assert not desk.complaints


def test_a_stop_while_the_reason_is_being_given(house: House, chromium: Chromium) -> None:
    desk = begin(house, chromium)
    desk.press("No picture possible").on("Why is there no picture?")
    house.stop()
    desk.on(STOPPED).press("Put on record").on("On record")
    notes = [event for event in events(house.device) if isinstance(event, NotCaptured)]
    assert [(note.booking_number, note.reason) for note in notes] == [("B-1", "recognition-stopped")]


def test_a_reason_is_given_with_the_keyboard_alone(house: House, chromium: Chromium) -> None:
    desk = begin(house, chromium)
    desk.press("No picture possible").on("Why is there no picture?")
    keys = desk.page.keyboard
    desk.page.locator("input[type=radio]").first.focus()
    keys.press("ArrowDown")
    keys.press("Enter")
    desk.on("On record")
    notes = [event for event in events(house.device) if isinstance(event, NotCaptured)]
    assert [note.reason for note in notes] == ["person-refused"]


def test_five_wrong_pins_lock_the_badge_and_a_restart_does_not_help(house: House, chromium: Chromium) -> None:
    desk = chromium.open(house.server.address).on("Sign in")
    for _ in range(5):
        desk.sign_in(pin=OTHER_PIN).on("Sign in")
        assert "wrong" in desk.page.inner_text("[role=alert]")
    desk.sign_in().on("Sign in").looks_right("locked-out")
    assert "locked until" in desk.page.inner_text("[role=alert]")
    house.server.__exit__()
    with house.again() as server:
        desk.page.goto(server.address)
        desk.on("Sign in").sign_in().on("Sign in")
        assert "locked until" in desk.page.inner_text("[role=alert]")
        desk.sign_in(OTHER_BADGE, OTHER_PIN).on("New booking")


def test_an_idle_console_locks_itself_and_goes_on_where_it_was(open_house: OpenHouse, chromium: Chromium) -> None:
    with open_house(idle_lock_min=0.5) as house:
        desk = begin(house, chromium, "B-55")
        desk.on("Locked")
        assert "B-55" not in desk.page.inner_text("body")
        desk.page.fill("#pin", PIN)
        desk.press("Unlock").on("Photograph")
        assert "B-55" in desk.page.inner_text("header")


def test_a_scanner_needs_no_field_and_presses_no_button(house: House, chromium: Chromium) -> None:
    desk = chromium.open(house.server.address).on("Sign in").sign_in().on("New booking")
    desk.page.get_by_role("button", name="Sign out").focus()
    desk.page.keyboard.type("B-20260001"[:10])
    desk.page.keyboard.press("Enter")
    desk.on("Photograph")
    assert "B-20260001" in desk.page.inner_text("header")


def test_fingers_alone_sign_in_and_give_a_number(house: House, chromium: Chromium) -> None:
    desk = chromium.open(house.server.address, 800, 480, has_touch=True).on("Sign in")

    def tap(text: str) -> None:
        for one in text:
            desk.page.locator(f".key:visible[data-key='{one}']").tap()

    tap(BADGE)
    desk.page.locator("#pin").tap()
    tap("99")
    desk.page.locator(".key:visible[data-backspace]").tap()
    desk.page.locator(".key:visible[data-backspace]").tap()
    tap(PIN)
    desk.page.get_by_role("button", name="Sign in").tap()
    desk.on("New booking").page.locator(".key:visible[data-switch=letters]").tap()
    tap("B-")
    desk.looks_right("letters").page.locator(".key:visible[data-switch=digits]").tap()
    tap("417")
    desk.page.get_by_role("button", name="Continue").tap()
    desk.on("Photograph")
    assert "B-417" in desk.page.inner_text("header")


def test_a_second_browser_is_refused_until_the_first_signs_out(house: House, chromium: Chromium) -> None:
    first = begin(house, chromium)
    second = chromium.open(house.server.address).on("Sign in").sign_in(OTHER_BADGE, OTHER_PIN).on("Sign in")
    second.looks_right("second-browser")
    assert "in use in another window" in second.page.inner_text("[role=alert]")
    first.press("Sign out").on("Sign in")
    second.sign_in(OTHER_BADGE, OTHER_PIN).on("New booking")


def test_a_browser_that_crashed_gives_the_console_up(open_house: OpenHouse, chromium: Chromium) -> None:
    with open_house(abandoned_s=3.0) as house:
        begin(house, chromium).close()
        after = chromium.open(house.server.address).on("Sign in")
        wait_for(lambda: after.sign_in(OTHER_BADGE, OTHER_PIN).page.title().startswith("New booking"))


def test_a_service_that_starts_again_under_the_page(house: House, chromium: Chromium) -> None:
    desk = begin(house, chromium)
    house.server.__exit__()
    wait_for(lambda: desk.page.is_visible("[data-lost]"))
    assert desk.picture_is_black()
    with house.again():
        desk.on("Sign in").sign_in().on("New booking")


def test_nothing_moves_for_whom_nothing_shall_move(house: House, chromium: Chromium) -> None:
    desk = begin(house, chromium, reduced_motion="reduce")
    assert desk.page.evaluate("getComputedStyle(document.querySelector('[data-stage]')).transitionDuration") == "0s"


def test_night_colours_are_chosen_and_kept(house: House, chromium: Chromium) -> None:
    desk = chromium.open(house.server.address, color_scheme="light").on("Sign in").sign_in().on("New booking")
    day = desk.page.evaluate("getComputedStyle(document.body).backgroundColor")
    desk.press("Night colours").on("New booking").looks_right("night-chosen")
    assert desk.page.evaluate("getComputedStyle(document.body).backgroundColor") != day
    desk.number("B-1").on("Photograph")
    desk.press("Day colours").on("Photograph")
    assert desk.page.evaluate("getComputedStyle(document.body).backgroundColor") == day


def test_no_screen_shows_a_candidate_where_the_lead_desk_gets_one(open_house: OpenHouse, chromium: Chromium) -> None:
    with open_house("ardern/ardern-2018.jpg", "ardern/ardern-2022.jpg") as house:
        enrolled = house.device.booth.enrol_case("C-2026-77")
        assert type(enrolled).__name__ == "CaseEnrolled", enrolled
        desk = begin(house, chromium, "B-78").press("Take the picture").on("Recorded")
        assert house.device.leads_waiting() == 1
        shown = desk.page.content()
        for secret in ("C-2026-77", "candidate", "score", "lead_id", "threshold"):
            assert secret not in shown
