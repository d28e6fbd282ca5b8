"""What the processes of a device have in common: the same rooms as in `turnkey.device`, wired across processes
(`notary_process`, `booth_process`, `console_process`; the interlock has its own).

Rules kept here:
1. A process that cannot do its work ends, and so ends everything that leans on it: without a notary nothing is
   captured and the interlock does not start, without a booth nothing is captured, without an interlock there is no
   lease. systemd starts it again.
2. Each is a module of its own, and reads no other's rooms: a board starts four of them at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from turnkey.interlock.notify import notify, watchdog_s


class ProcessFailed(Exception):
    """The process cannot go on; its end is what stops the others. Carries the reason code."""


class End:
    """When a process is to end: systemd asks for it, or it has failed."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self.reason: str | None = None

    def fail(self, reason: str) -> None:
        """End, and say that it was a failure. The first reason stands."""
        self.reason = self.reason or reason
        self._stop.set()

    def wait(self, alive: Callable[[], bool]) -> None:
        """Tell systemd that all is well for as long as it is. Raises: ProcessFailed."""
        every_s = min(watchdog_s() or 1.0, 1.0) / 2
        notify("READY=1")
        while not self._stop.wait(every_s):
            if alive():
                notify("WATCHDOG=1")
        notify("STOPPING=1")
        if self.reason is not None:
            raise ProcessFailed(self.reason)
