"""The heartbeat: each minute an entry on the ledger that says how the device stands, published where that is not off.

A device that is silent is UNKNOWN to whoever watches it, never "stopped": only a heartbeat says so.

Rules kept here:
1. Where it is not known how the device stands (its interlock does not answer) there is no beat.
2. A beat that a change of state overtook is taken anew, a few times; the next one is a minute away.
3. Where the ledger cannot be written the device stops: `halt` is called, once for each beat that failed.
"""

from __future__ import annotations

from collections.abc import Callable

from turnkey.database import StorageError
from turnkey.leads.records import Heartbeat
from turnkey.notary.notary import Notary
from turnkey.recurring import Recurring

TRIES = 5
AGAIN_S = 0.2
"""A change of state is on the ledger within milliseconds of being one."""


class Heart(Recurring):
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
        super().__init__(self.beat, halt, "heartbeat-failed", every_s)
        self._notary = notary
        self._statement = statement

    def beat(self) -> None:
        """One beat, now."""
        try:
            for _ in range(TRIES):
                statement = self._statement()
                if statement is None or self._notary.beat(statement) or self.over.wait(AGAIN_S):
                    return
        except StorageError:
            self._halt("ledger-unwritable")
