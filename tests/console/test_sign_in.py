"""Who may sign in, how often it may be tried, and what a session is."""

from __future__ import annotations

from console.consoles import House, title


def test_a_whole_booking_without_a_screen(house: House) -> None:
    browser = house.browser()
    assert title(browser.get()) == "Sign in"
    assert title(browser.sign_in()) == "New booking"
    assert title(browser.post("/number", number="B-1")) == "Photograph"
    assert title(browser.post("/shoot")) == "Recorded"
    assert title(browser.post("/event", event="next")) == "New booking"
