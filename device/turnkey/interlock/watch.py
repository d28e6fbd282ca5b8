"""Looking at the switch: reads it, proves its feeds, keeps what it showed. Decides nothing.

Rules kept here:
1. An opening edge is kept even where the line is closed again by the time it is read; any thread may report one.
2. After lines that could not be read nothing is known of them: the debounce and the proof begin anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from turnkey.interlock.contacts import NS_PER_MS, Contacts, Finding
from turnkey.interlock.switch import Switch, SwitchReading, SwitchUnreadable
from turnkey.settings import InterlockSettings


class Watch:
    """The switch as one interlock sees it.

    Args:
        switch: the lines.
        settings: limits.
        monotonic_ns: clock for debounce and test pulses.

    Attributes:
        reading: the lines as last read; None where they could not be.
        contacts: what was learned from the readings.
        unreadable: whether the last reading failed.
    """

    def __init__(self, switch: Switch, settings: InterlockSettings, monotonic_ns: Callable[[], int]) -> None:
        self._switch = switch
        self._settings = settings
        self._monotonic_ns = monotonic_ns
        self._openings: deque[int] = deque()
        self._pulse_due_ns = 0
        self.reading: SwitchReading | None = None
        self.contacts = Contacts()
        self.unreadable = False

    def was_lost(self) -> bool:
        """Whether the switch went unseen for longer than a lease is valid."""
        last_ns = self.contacts.last_ns
        limit_ns = self._settings.lease_validity_ms * NS_PER_MS
        return last_ns is not None and self._monotonic_ns() - last_ns > limit_ns

    def note_opening(self) -> None:
        """An opening edge came. From any thread; `openings` tells what it means."""
        self._openings.append(self._monotonic_ns())

    def openings(self) -> tuple[Finding, ...]:
        """What the edges since the last call showed."""
        found: tuple[Finding, ...] = ()
        while self._openings:
            self.contacts, new = self.contacts.opened(self._openings.popleft())
            found += new
        return found

    def look(self) -> tuple[Finding, ...]:
        """Read the lines, and prove the feeds where that is due.

        Raises:
            SwitchUnreadable: they cannot be read; `unreadable` and `reading` say so too.
        """
        began_ns = self._monotonic_ns()
        try:
            self.reading = self._switch.read()
            self.contacts, found = self.contacts.after(self.reading, self._monotonic_ns(), self._settings)
            self.unreadable = False
            return found + self._prove_feeds()
        except SwitchUnreadable:
            self.reading, self.unreadable = None, True
            self.contacts = Contacts(last_ns=began_ns)
            raise

    def obstacle(self) -> str | None:
        """What about the switch stands in the way of running; None where nothing does."""
        if self.unreadable:
            return "switch-unreadable"
        if self.contacts.present_fault is not None:
            return self.contacts.present_fault.value
        if not self.contacts.closed:
            return "key-open"
        if not self.contacts.proved:
            return "feeds-unproved"
        return None

    def _prove_feeds(self) -> tuple[Finding, ...]:
        now_ns = self._monotonic_ns()
        if now_ns < self._pulse_due_ns and (self.contacts.proved or not self.contacts.closed):
            return ()
        self._pulse_due_ns = now_ns + self._settings.pulse_every_ms * NS_PER_MS
        pulse = self._switch.pulse()
        if pulse is None:
            return ()
        self.contacts, found = self.contacts.pulsed(pulse)
        return found
