"""The permit: what a step must hold in order to run.

A `Permit` wraps the interlock's lease. Capture, vision, gallery, leads and the booth take one as an argument and call
`Permit.check` before they do anything and once more before anything is stored or submitted. There is no way to run a
step without one, and no way to make one but through the interlock.

Rules kept here:
1. A permit is valid only while its lease is: the lease is renewed by the interlock and lapses by itself
   (`lease_validity_ms` of monotonic time), so a hung or killed interlock stops everything.
2. A revoked permit never becomes valid again, even where the interlock runs again later: work that was in flight when
   the stop came is discarded, not resumed.
3. The gallery key lives in the permit and is overwritten when the permit dies.
4. What is stored or submitted is stored inside `Permit.commit`: either the check came before the stop, and the
   interlock waits for that commit before it puts the stop on the ledger, or the commit does not begin.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
        gallery_key: copied; the copy is overwritten when the permit dies.
        run: names the run that it was leased for, the same in every process; a new one after each stop.
    """

    def __init__(
        self,
        monotonic_ns: Callable[[], int],
        valid_until_ns: int,
        gallery_key: bytes | memoryview | None = None,
        run: bytes = b"",
    ) -> None:
        self.run = run
        self._monotonic_ns = monotonic_ns
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._valid_until_ns = valid_until_ns
        self._revoked: str | None = None
        self._died_ns: int | None = None
        self._committing = 0
        self._key = bytearray(gallery_key or b"")

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
            return self._refusal()

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Hold this around the transaction that stores or submits. Keep it short: a stop waits for it, but not long.

        Raises:
            Stopped: the permit is dead; the transaction does not begin.
        """
        with self._lock:
            reason = self._refusal()
            if reason is not None:
                raise Stopped(reason)
            self._committing += 1
        try:
            yield
        finally:
            with self._lock:
                self._committing -= 1
                self._changed.notify_all()

    def gallery_key(self) -> bytearray:
        """The key of the gallery's rows: the permit's own buffer, so do not copy it. Empty where none was given.

        Raises:
            Stopped: the permit is dead and the key is gone.
        """
        with self._lock:
            reason = self._refusal()
            if reason is not None:
                raise Stopped(reason)
            return self._key

    @property
    def valid_until_ns(self) -> int:
        """End of the present lease on the monotonic clock."""
        with self._lock:
            return self._valid_until_ns

    @property
    def died_ns(self) -> int | None:
        """When it died on the monotonic clock, that is from when on every check fails; None while it lives."""
        with self._lock:
            return self._died_ns

    def wait(self, timeout_s: float) -> bool:
        """Wait until the permit is dead, but no longer than `timeout_s`; whether it is."""
        with self._lock:
            self._changed.wait_for(lambda: self._revoked is not None, timeout_s)
            return self._refusal() is not None

    def renew(self, valid_until_ns: int) -> None:
        """Extend the lease. A dead permit stays dead. For the interlock alone."""
        with self._lock:
            if self._refusal() is None:
                self._valid_until_ns = max(self._valid_until_ns, valid_until_ns)

    def revoke(self, reason: str) -> None:
        """Kill the permit for good and wipe the key. The first reason stands. For the interlock alone."""
        with self._lock:
            if self._revoked is None:
                self._die(reason)

    def drain(self, timeout_s: float) -> bool:
        """Wait until no commit is under way; False where one still is. For the interlock alone, after `revoke`."""
        with self._lock:
            return self._changed.wait_for(lambda: self._committing == 0, timeout_s)

    def _refusal(self) -> str | None:
        if self._revoked is None and self._monotonic_ns() >= self._valid_until_ns:
            self._die("lease-lapsed")
        return self._revoked

    def _die(self, reason: str) -> None:
        self._revoked = reason
        self._died_ns = self._monotonic_ns()
        self._key[:] = bytes(len(self._key))
        self._changed.notify_all()
