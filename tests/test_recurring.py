"""A thread that does something again and again is missed when it ends."""

from __future__ import annotations

import threading

import pytest
from patience import PATIENCE_S, wait_for

from turnkey.recurring import Recurring


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_deed_that_fails_as_nobody_foresaw_stops_the_device() -> None:
    halted: list[str] = []

    def deed() -> None:
        raise ZeroDivisionError

    recurring = Recurring(deed, halted.append, "rounds-failed", 0.01)
    recurring.start()
    wait_for(lambda: halted == ["rounds-failed"])
    recurring.close()
    assert halted == ["rounds-failed"]


def test_a_deed_is_done_again_and_again_until_it_is_closed() -> None:
    done = threading.Semaphore(0)
    recurring = Recurring(done.release, lambda reason: pytest.fail(reason), "rounds-failed", 0.01)
    recurring.start()
    assert all(done.acquire(timeout=PATIENCE_S) for _ in range(3))
    recurring.close()
    while done.acquire(blocking=False):
        pass
    assert not done.acquire(timeout=0.05)
    recurring.close()


def test_one_that_never_began_can_be_closed() -> None:
    Recurring(lambda: None, lambda reason: pytest.fail(reason), "rounds-failed", 60.0).close()
