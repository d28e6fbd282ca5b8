"""A deed at an interval, in a thread of its own: the heartbeat, the hourly rounds.

Rules kept here:
1. The interval is held against the monotonic clock; a deed that comes late does not move the next.
2. A deed that fails in a way that nobody foresaw stops the device: a thread that ended unseen would look like one that
   finds nothing wrong.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Recurring:
    """Does `deed` each `every_s` seconds between `start` and `close`; first after as long.

    Args:
        deed: what is to be done. It handles the errors that it expects.
        halt: stops the device, with a reason code: `failed` where the deed raised.
        failed: the reason code.
    """

    def __init__(self, deed: Callable[[], None], halt: Callable[[str], None], failed: str, every_s: float) -> None:
        self._deed = deed
        self._halt = halt
        self._failed = failed
        self._every_s = every_s
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=failed.removesuffix("-failed"), daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Do it no more. Safe to call where it never began, and twice."""
        self.over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        due_s = time.monotonic() + self._every_s
        while not self.over.wait(max(0.0, due_s - time.monotonic())):
            try:
                self._deed()
            except Exception:
                self._halt(self._failed)
                raise
            due_s = max(due_s + self._every_s, time.monotonic())
