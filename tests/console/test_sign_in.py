"""Who may sign in, how often it may be tried, and what a session is."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from booking_room import events
from console.consoles import BADGE, OTHER_BADGE, OTHER_PIN, PIN, UNTRAINED_BADGE, House, enlist, title
from typer.testing import CliRunner

from turnkey.cli import app
from turnkey.console.attempts import LOCK, MOST_ROWS, TRIES, Attempts
from turnkey.console.officers import Admitted, OfficersError, SignInRefusal, admit, read_officers, weakness
from turnkey.console.session import Desk, Session
from turnkey.leads.records import NotCaptured, SignInRefused
from turnkey_tools.pilot import Pilot

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


@pytest.fixture
def attempts(tmp_path: Path) -> Attempts:
    return Attempts(tmp_path / "console.db")


@pytest.fixture
def officers(tmp_path: Path) -> Path:
    enlist(tmp_path / "officers.json")
    return tmp_path / "officers.json"


def test_five_failures_lock_a_badge_for_fifteen_minutes(attempts: Attempts) -> None:
    for _ in range(TRIES):
        assert attempts.begin(BADGE, NOW) is None
    assert attempts.begin(BADGE, NOW) == NOW + LOCK
    assert attempts.begin(BADGE, NOW + LOCK - timedelta(seconds=1)) == NOW + LOCK
    assert attempts.begin(OTHER_BADGE, NOW) is None
    assert attempts.begin(BADGE, NOW + LOCK) is None


def test_a_lock_outlives_a_restart_and_a_clock_set_back(attempts: Attempts, tmp_path: Path) -> None:
    for _ in range(TRIES):
        attempts.begin(BADGE, NOW)
    attempts.close()
    again = Attempts(tmp_path / "console.db")
    assert again.begin(BADGE, NOW + timedelta(minutes=1)) is not None
    assert again.begin(BADGE, NOW - timedelta(days=1)) is not None


def test_a_right_pin_forgets_what_failed_before(attempts: Attempts) -> None:
    for _ in range(3 * TRIES):
        assert attempts.begin(BADGE, NOW) is None
        attempts.succeeded(BADGE)


def test_a_stranger_cannot_fill_the_disk_with_badges(attempts: Attempts) -> None:
    for number in range(MOST_ROWS + 20):
        attempts.begin(f"X-{number}", NOW + timedelta(seconds=number))
    assert attempts._database.rows("SELECT count(*) FROM tries") == [(MOST_ROWS,)]


def test_a_right_pin_admits_and_nothing_else_does(officers: Path) -> None:
    everybody = read_officers(officers)

    def ask(badge: str, pin: str, trained: bool = True) -> Admitted | SignInRefusal:
        return admit(everybody, badge, pin, lambda _day: trained)

    assert ask(BADGE, PIN) == Admitted(BADGE)
    assert ask(BADGE, OTHER_PIN) is SignInRefusal.WRONG
    assert ask("nobody", PIN) is SignInRefusal.WRONG
    assert ask(BADGE, PIN, trained=False) is SignInRefusal.TRAINING
    assert ask(BADGE, OTHER_PIN, trained=False) is SignInRefusal.WRONG, "training is told to nobody but the officer"


def test_training_is_judged_by_the_day_on_file(officers: Path) -> None:
    asked: list[date] = []
    admit(read_officers(officers), BADGE, PIN, lambda day: not asked.append(day))  # type: ignore[func-returns-value]
    assert asked == [datetime.now(UTC).date() - timedelta(days=30)]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_admits_nobody(officers: Path, mode: int) -> None:
    officers.chmod(mode)
    with pytest.raises(OfficersError, match="chmod"):
        read_officers(officers)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_elses_admits_nobody(officers: Path) -> None:
    os.chown(officers, 12345, -1)
    with pytest.raises(OfficersError, match="root"):
        read_officers(officers)


def test_a_link_in_the_files_place_admits_nobody(officers: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(officers)
    with pytest.raises(OfficersError):
        read_officers(link)


@pytest.mark.parametrize("pin", ["12345", "111111", "123456", "654321", "890123", "12a456", "1234567890123"])
def test_weak_pins_are_refused(pin: str) -> None:
    assert weakness(pin) is not None


def test_a_session_locks_after_idling_and_ends_after_as_long_again() -> None:
    clock = [0.0]
    desk = Desk(lambda: clock[0], idle_s=600, abandoned_s=15)
    session = desk.open(BADGE, "en")
    assert isinstance(session, Session)
    clock[0] = 599
    assert desk.find(session.token) is session, "news asked for by the page itself"
    assert not session.locked
    clock[0] = 601
    assert desk.find(session.token, touch=True) is session
    assert session.locked
    desk.unlock(session)
    clock[0] = 1100
    assert desk.find(session.token, touch=True) is session
    assert not session.locked
    clock[0] = 1100 + 1201
    assert desk.find(session.token) is None


def test_a_second_browser_waits_until_the_first_has_gone() -> None:
    clock = [0.0]
    desk = Desk(lambda: clock[0], idle_s=600, abandoned_s=15)
    first = desk.open(BADGE, "en")
    assert first is not None
    assert desk.open(OTHER_BADGE, "en") is None
    clock[0] = 10
    assert desk.find(first.token) is first
    clock[0] = 24
    assert desk.open(OTHER_BADGE, "en") is None
    clock[0] = 26
    second = desk.open(OTHER_BADGE, "en")
    assert second is not None
    assert desk.find(first.token) is None


def test_wrong_pins_lock_the_badge_through_the_pages_and_through_a_restart(house: House) -> None:
    browser = house.browser()
    for _ in range(TRIES):
        assert "wrong" in browser.sign_in(pin=OTHER_PIN).body
    locked = browser.sign_in()
    assert (locked.status, "locked until" in locked.body) == (429, True)
    house.server.__exit__()
    with house.again() as server:
        browser.address = server.address
        assert browser.sign_in().status == 429
        assert title(browser.sign_in(OTHER_BADGE, OTHER_PIN)) == "New booking"


def test_an_untrained_officer_is_told_so_on_the_ledger_too_and_a_missing_file_admits_nobody(house: House) -> None:
    browser = house.browser()
    assert "out of date" in browser.sign_in(UNTRAINED_BADGE).body
    assert [event for event in events(house.device) if isinstance(event, SignInRefused)] == [
        SignInRefused(reason="training-too-old")
    ]
    house.settings.console.officers.unlink()
    refused = browser.sign_in()
    assert (refused.status, "cannot be used" in refused.body) == (503, True)


def test_a_second_browser_is_refused_at_the_pages(house: House) -> None:
    first, second = house.browser(), house.browser()
    assert title(first.sign_in()) == "New booking"
    refused = second.sign_in(OTHER_BADGE, OTHER_PIN)
    assert (refused.status, title(refused)) == (409, "Sign in")
    first.post("/sign-out")
    assert title(second.sign_in(OTHER_BADGE, OTHER_PIN)) == "New booking"


def test_a_locked_page_shows_nothing_and_the_pin_brings_the_booking_back(house: House) -> None:
    browser = house.browser()
    browser.sign_in()
    browser.post("/number", number="B-31")
    browser.post("/lock")
    assert title(browser.get()) == "Locked"
    assert "B-31" not in browser.get().body
    assert title(browser.post("/shoot")) == "Locked"
    assert title(browser.post("/unlock", pin=OTHER_PIN)) == "Locked"
    assert title(browser.post("/unlock", pin=PIN)) == "Photograph"


def test_a_note_is_on_the_ledger_with_its_reason(house: House) -> None:
    browser = house.browser()
    browser.sign_in()
    browser.post("/number", number="B-32")
    browser.post("/event", event="give-up")
    assert title(browser.post("/note", reason="person-refused")) == "On record"
    browser.post("/event", event="next")
    house.stop()
    assert title(browser.get()) == "Facial recognition is stopped"
    assert title(browser.post("/note", number="B-33", reason="person-refused")) == "On record"
    notes = [event for event in events(house.device) if isinstance(event, NotCaptured)]
    assert [(note.booking_number, note.reason) for note in notes] == [
        ("B-32", "person-refused"),
        ("B-33", "recognition-stopped"),
    ]


def test_a_foreign_booking_number_goes_no_further(house: House) -> None:
    browser = house.browser()
    browser.sign_in()
    for number in ("C-1", "", "B-1 B-2", "B-" + "9" * 60, "../B-1", "<b>B-1</b>"):
        refused = browser.post("/number", number=number)
        assert (refused.status, title(refused)) in ((422, "New booking"), (400, "This did not work"))
    assert title(browser.post("/number", number=" B-34\r\n")) == "Photograph"


def officer(pilot: Pilot, *words: str, pin: str = "") -> tuple[int, str]:
    done = CliRunner().invoke(app, ["--config", str(pilot.settings_file), "officer", *words], input=pin)
    return done.exit_code, done.output


def test_officers_are_added_listed_changed_and_removed(pilot: Pilot) -> None:
    assert officer(pilot, "add", "77", "--trained", "2026-01-05", "--pin-stdin", pin="271828\n")[0] == 0
    assert officer(pilot, "add", "77", "--trained", "2026-01-05", "--pin-stdin", pin="271828\n")[0] == 1
    assert officer(pilot, "add", "78", "--trained", "2026-01-05", "--pin-stdin", pin="123456\n")[0] == 1
    assert officer(pilot, "pin", "77", pin="314159\n314159\n")[0] == 0
    assert officer(pilot, "trained", "77", "--on", "2026-02-01")[0] == 0
    listed = officer(pilot, "list", "--json")[1]
    assert listed.strip() == '{"officers": [{"badge": "77", "trained_on": "2026-02-01"}]}'
    path = pilot.settings().console.officers
    assert path.stat().st_mode & 0o077 == 0
    assert "314159" not in path.read_text()
    assert isinstance(admit(read_officers(path), "77", "314159", lambda _: True), Admitted)
    assert officer(pilot, "remove", "77")[0] == 0
    assert officer(pilot, "remove", "77")[0] == 1
