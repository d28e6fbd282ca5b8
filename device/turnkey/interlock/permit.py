"""The permit: what a step must hold in order to run.

A `Permit` wraps the interlock's lease. Capture, vision, gallery, leads and the booth take one as an argument and call
`Permit.check` before they do anything and once more before anything is stored or submitted. There is no way to run a
step without one, and no way to make one but through the interlock.

Rules kept here:
1. A permit is valid only while its lease is: the lease is renewed by the interlock and lapses by itself
   (`lease_validity_ms` of monotonic time), so a hung or killed interlock stops everything.
2. A revoked permit never becomes valid again, even where the interlock runs again later: work that was in flight when
   the stop came is discarded, not resumed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Stopped(Exception):
    """The permit is dead: recognition is stopped. Carries the reason code that goes onto the ledger."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"recognition is stopped ({reason})")
        self.reason = reason


class Permit:
    """Permission to recognise, good until its lease lapses or it is revoked.

    Args:
        monotonic_ns: the clock the lease is measured with, nanoseconds.
        valid_until_ns: end of the first lease on that clock.
    """

    def __init__(self, monotonic_ns: Callable[[], int], valid_until_ns: int) -> None:
        self._monotonic_ns = monotonic_ns
        self._lock = threading.Lock()
        self._valid_until_ns = valid_until_ns
        self._revoked: str | None = None

    def check(self) -> None:
        """Return where work may go on.

        Raises:
            Stopped: revoked by the interlock, or the lease ran out.
        """
        reason = self.refusal()
        if reason is not None:
            raise Stopped(reason)

    def refusal(self) -> str | None:
        """The reason code for which work may not go on; None where it may."""
        with self._lock:
            if self._revoked is not None:
                return self._revoked
            if self._monotonic_ns() >= self._valid_until_ns:
                self._revoked = "lease-lapsed"
                return self._revoked
            return None

    def renew(self, valid_until_ns: int) -> None:
        """Extend the lease. A dead permit stays dead. For the interlock alone."""
        with self._lock:
            if self._revoked is None and self._monotonic_ns() >= self._valid_until_ns:
                self._revoked = "lease-lapsed"
            if self._revoked is None:
                self._valid_until_ns = max(self._valid_until_ns, valid_until_ns)

    def revoke(self, reason: str) -> None:
        """Kill the permit for good. The first reason stands. For the interlock alone."""
        with self._lock:
            if self._revoked is None:
                self._revoked = reason
