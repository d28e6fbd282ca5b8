"""The heartbeat: each minute an entry on the ledger that says how the device stands, published where that is not off.

A device that is silent is UNKNOWN to whoever watches it, never "stopped": only a heartbeat says so.

Rules kept here:
1. The interval is held against the monotonic clock; a beat that comes late does not move the next.
2. Where it is not known how the device stands (its interlock does not answer) there is no beat.
3. A beat that a change of state overtook is taken anew, a few times; the next one is a minute away.
4. Where the ledger cannot be written the device stops: `halt` is called, once for each beat that failed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from turnkey.database import StorageError
from turnkey.leads.records import Heartbeat
from turnkey.notary.notary import Notary

TRIES = 5
AGAIN_S = 0.2
"""A change of state is on the ledger within milliseconds of being one."""


class Heart:
    """Beats in a thread of its own between `start` and `close`.

    Args:
        notary: puts the beat on the ledger.
        statement: how the device stands now; None where that is not known.
        halt: stops the device, with a reason code.
        every_s: seconds between beats; the first comes after as long, since boot and switch have spoken by then.
    """

    def __init__(
        self, notary: Notary, statement: Callable[[], Heartbeat | None], halt: Callable[[str], None], every_s: float
    ) -> None:
        self._notary = notary
        self._statement = statement
        self._halt = halt
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def close(self) -> None:
        """Stop beating. Safe to call where it never began, and twice."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def beat(self) -> None:
        """One beat, now."""
        try:
            for _ in range(TRIES):
                statement = self._statement()
                if statement is None or self._notary.beat(statement) or self._over.wait(AGAIN_S):
                    return
        except StorageError:
            self._halt("ledger-unwritable")

    def _run(self) -> None:
        due_s = time.monotonic() + self._every_s
        while not self._over.wait(max(0.0, due_s - time.monotonic())):
            self.beat()
            due_s = max(due_s + self._every_s, time.monotonic())
