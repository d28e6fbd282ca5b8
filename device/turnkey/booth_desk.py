"""What one booth does for whoever asks: one piece of work at a time, and a look through its camera in between.

Rules kept here:
1. There is one camera: who wants work done while there is some under way is told so, and nothing is queued.
2. Work goes before looks: a look is refused while there is work, and work waits for one look at most.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from turnkey.attempt import Refusal
from turnkey.booth import Booth, CaseEnrolled, Recorded
from turnkey.console.room import Dark, Seen
from turnkey.console.viewfinder import Viewfinder

Outcome = TypeVar("Outcome", Recorded, CaseEnrolled)

BUSY = Refusal("capture", "booth-busy", "The booth is busy.")


class BoothDesk:
    """One booth and its viewfinder. Its methods may be called from any thread."""

    def __init__(self, booth: Booth, viewfinder: Viewfinder) -> None:
        self._booth = booth
        self._viewfinder = viewfinder
        self._busy = threading.Lock()
        self._camera = threading.Lock()

    def book(self, booking_number: str) -> Recorded | Refusal:
        """See `Booth.book`."""
        return self._work(lambda: self._booth.book(booking_number))

    def enrol_case(self, case_number: str) -> CaseEnrolled | Refusal:
        """See `Booth.enrol_case`."""
        return self._work(lambda: self._booth.enrol_case(case_number))

    def look(self) -> Seen | Dark:
        """One preview frame; `busy` while a picture is being taken."""
        with self._camera:
            return Dark("busy") if self._busy.locked() else self._viewfinder.look()

    @contextmanager
    def quiet(self, patience_s: float) -> Iterator[None]:
        """Wait for work under way, but not longer than `patience_s`."""
        held = self._busy.acquire(timeout=patience_s)
        try:
            yield
        finally:
            if held:
                self._busy.release()

    def _work(self, work: Callable[[], Outcome | Refusal]) -> Outcome | Refusal:
        if not self._busy.acquire(blocking=False):
            return BUSY
        try:
            with self._camera:
                return work()
        finally:
            self._busy.release()
