"""The window of each piece of work, from its capture or its case packet to its last record: none may touch a stop.

Rules kept here:
1. A window belongs to one run of the interlock's leases, and opens with the capture, or the accepted case
   packet, on the ledger.
2. A stop on the ledger closes every window, and the run it ended: nothing of that run is taken any more, whatever a
   permit still says.
3. A step whose attempt has no open window is refused: its beginning was before a stop, or never.
"""

from __future__ import annotations

from collections import OrderedDict

from turnkey.interlock.permit import Permit, Stopped

MOST_OPEN = 256
"""Attempts under way at once; a booth has one. The oldest goes first."""


class Windows:
    """The open windows. Not for several threads at once: the notary's daemon holds its lock."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, bytes] = OrderedDict()
        self._ended: bytes | None = None

    def admit(self, run: bytes, permit: Permit) -> None:
        """Check that work of a lease's run may go on the ledger under the notary's own permit.

        Raises:
            Stopped: the permit is dead, or a stop lies between the work and now.
        """
        permit.check()
        if run == self._ended or run != permit.run:
            raise Stopped("window-touches-a-stop")

    def open(self, attempt_id: str, run: bytes) -> None:
        """A capture is on the ledger."""
        self._open[attempt_id] = run
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)

    def check(self, attempt_id: str, run: bytes) -> None:
        """Check a later step. Raises: Stopped: its capture was before a stop, or never."""
        if self._open.get(attempt_id) != run:
            raise Stopped("window-touches-a-stop")

    def stop(self, run: bytes | None) -> None:
        """A stop goes onto the ledger. `run`: what the notary's own lease says runs, if anything."""
        self._open.clear()
        self._ended = run or self._ended
