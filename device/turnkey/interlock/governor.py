"""The governor: holds the state and carries out what the table says, in the table's order.

Rules kept here:
1. A stop takes permission away first; nothing that a disk or a ledger does can delay that.
2. Running is entered last, only after latch and witness have both succeeded and the lamp is lit.
3. A change that cannot be latched or witnessed is a fault. The ledger is told of a latch that failed, so that the
   latch is found to be behind the ledger at the next boot.
4. The latch waits for nobody. The ledger waits for the commits under way, which began before the stop, so that they
   stand before it; no longer than `drain_ms`.
5. The caller holds the interlock's lock, except for `cut`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime

from turnkey.interlock.latch import Latch, LatchError, LatchRecord
from turnkey.interlock.machine import Effect, Event, State, step
from turnkey.interlock.permit import Permit, Stopped
from turnkey.interlock.status import Transition
from turnkey.interlock.switch import SwitchReading, SwitchUnreadable
from turnkey.settings import InterlockSettings

_NS_PER_MS = 1_000_000
_NO_NEW_STOP = frozenset({Event.FOUND_STOPPED, Event.FOUND_FAULTED, Event.AUTHORITY_FOLLOWED})


class Governor:
    """State, latch record and permit of one interlock.

    Args:
        latch: where the record is kept.
        record: what the latch said.
        settings: limits.
        monotonic_ns: clock for leases.
        now: wall clock, UTC.
        witness: see `Interlock`.
        lamp: shows whether recognition is permitted; raises SwitchUnreadable.
        reading: the lines as last read.
        gallery_key: handed out with permits.

    Attributes:
        record: what holds; on disk where `stored` is true.
        state, reason, since: of the present state.
    """

    def __init__(
        self,
        latch: Latch,
        record: LatchRecord,
        *,
        settings: InterlockSettings,
        monotonic_ns: Callable[[], int],
        now: Callable[[], datetime],
        witness: Callable[[Transition], None],
        lamp: Callable[[bool], None],
        reading: Callable[[], SwitchReading | None],
        gallery_key: bytes | None,
    ) -> None:
        self._latch = latch
        self._settings = settings
        self._monotonic_ns = monotonic_ns
        self._now = now
        self._witness = witness
        self._lamp = lamp
        self._reading = reading
        self._gallery_key = gallery_key
        self._permit: Permit | None = None
        self._draining: Permit | None = None
        self._lease_until_ns = 0
        self.record = record
        self.stored = True
        self.state = State.BOOTING
        self.reason = "booting"
        self.since = now()

    def permit(self) -> Permit:
        """A live permit.

        Raises:
            Stopped: with the reason why there is none.
        """
        if self.state is not State.RUNNING:
            raise Stopped(self.reason)
        permit = self._permit
        if permit is None or permit.refusal() is not None:
            permit = self._permit = Permit(self._monotonic_ns, self._lease_until_ns, self._gallery_key)
        permit.check()
        return permit

    def renew(self, seen_ns: int) -> None:
        """Extend the lease from the moment at which the lines were seen to permit it. Only while running."""
        if self.state is State.RUNNING:
            self._lease_until_ns = seen_ns + self._settings.lease_validity_ms * _NS_PER_MS
            if self._permit is not None:
                self._permit.renew(self._lease_until_ns)

    def cut(self, reason: str) -> None:
        """Kill the present permit from any thread, without any lock: the transition follows."""
        permit = self._permit
        if permit is not None:
            permit.revoke(reason)

    def happen(self, event: Event, reason: str, order_id: str | None = None) -> None:
        """Carry out one transition of the table.

        Raises:
            ImpossibleEvent: the table does not hold it.
        """
        previous = self.state
        after, effects = step(previous, event)
        if Effect.GRANT not in effects:
            self.state = after
        if effects and event is not Event.AUTHORITY_FOLLOWED:
            self.reason, self.since = reason, self._now()
        for effect in effects:
            if not self._carry_out(effect, previous, after, event, reason, order_id):
                return

    def store(self) -> bool:
        """Put the record on disk; False where that failed, and the stop that follows is already done."""
        try:
            self._latch.store(self.record)
            self.stored = True
            return True
        except LatchError:
            self._stop_in_memory("latch-unwritable")
        # Whatever is written from here on, should the disk take it, is a stop; the latch sets the old file aside where
        # not.
        self.record = self.record.stopped_anew(State.FAULT, "latch-unwritable", self._now())
        try:
            self._latch.store(self.record)
            self.stored = True
        except LatchError:
            self.stored = False
        with contextlib.suppress(Exception):
            self._tell(State.FAULT, State.FAULT, Event.FAULT_FOUND, "latch-unwritable", None)
        return False

    def _carry_out(
        self, effect: Effect, previous: State, after: State, event: Event, reason: str, order_id: str | None
    ) -> bool:
        """Carry out one effect; False where it failed and the stop that follows is already done."""
        if effect is Effect.REVOKE:
            self._revoke(reason)
        elif effect is Effect.LATCH:
            self.record = self._changed_record(after, event, reason)
            return self.store()
        elif effect is Effect.WITNESS:
            try:
                self._tell(previous, after, event, reason, order_id)
            except Exception:
                # Whatever the witness raised: the change is not on the ledger, and an unrecorded device must not run.
                self._stop_in_memory("record-unwritable")
                self.record = self.record.stopped_anew(State.FAULT, "record-unwritable", self._now())
                self.store()
                return False
        elif effect is Effect.LAMP:
            return self._show(after)
        elif effect is Effect.GRANT:
            self.state = after
            self.renew(self._monotonic_ns())
        return True

    def _changed_record(self, after: State, event: Event, reason: str) -> LatchRecord:
        now = self._now()
        if after is State.RUNNING and event is not Event.AUTHORITY_FOLLOWED:
            released = {"state": after, "reason": reason, "since": now, "standing": ()}
            return self.record.model_copy(update=released).seen(now)
        if event in _NO_NEW_STOP:
            return self.record.seen(now)
        return self.record.stopped_anew(after, reason, now)

    def _drain(self) -> None:
        if self._draining is not None:
            self._draining.drain(self._settings.drain_ms / 1000)
            self._draining = None

    def _tell(self, previous: State, after: State, event: Event, reason: str, order_id: str | None) -> None:
        self._drain()
        self._witness(
            Transition(
                previous=previous,
                state=after,
                event=event,
                reason=reason,
                epoch=self.record.epoch,
                monotonic_ns=self._monotonic_ns(),
                utc=self._now(),
                reading=self._reading(),
                order_id=order_id,
            )
        )

    def _show(self, after: State) -> bool:
        """Light or darken the lamp. One that cannot be lit keeps the device from running; a dark one needs no proof."""
        try:
            self._lamp(after is State.RUNNING)
        except SwitchUnreadable:
            if after is State.RUNNING:
                self.happen(Event.FAULT_FOUND, "switch-unreadable")
                return False
        return True

    def _revoke(self, reason: str) -> None:
        if self._permit is not None:
            self._permit.revoke(reason)
            self._permit, self._draining = None, self._permit

    def _stop_in_memory(self, reason: str) -> None:
        self._revoke(reason)
        self.state, self.reason, self.since = State.FAULT, reason, self._now()
        self._show(State.FAULT)
