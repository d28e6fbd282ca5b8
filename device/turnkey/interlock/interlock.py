"""The interlock: the switch, the latch and the orders, joined by the state machine. A plain object.

The same object runs inside one process (the demo, the tests) and as the daemon. It decides nothing by itself:
`contacts` says what a reading means, `orders` whether an order holds, `machine` what follows; here the effects are
carried out.

Rules kept here:
1. An opening kills the permit in the thread that saw it, before any lock is waited for.
2. A lease is renewed only by the thread that reads the switch, and only after it read it.
3. Whatever cannot be read, written or witnessed is a fault; a fault is latched.
4. `RUNNING` is entered only after latch and witness have both succeeded, and only if no opening came meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from pydantic import BaseModel, ConfigDict

from turnkey.interlock.authority import Authority
from turnkey.interlock.contacts import NS_PER_MS, Contacts, Finding
from turnkey.interlock.latch import Latch, LatchError, LatchRecord, StandingOrder, UsedNonce
from turnkey.interlock.machine import Effect, Event, State, step
from turnkey.interlock.orders import Circumstances, MoratoriumOrder, OrderAccepted, OrderRefused, ReleaseRequest, judge
from turnkey.interlock.permit import Permit, Stopped
from turnkey.interlock.settings import InterlockSettings
from turnkey.interlock.switch import Edge, Switch, SwitchReading, SwitchUnreadable


@dataclass(frozen=True)
class Transition:
    """One change, as the witness (the ledger) gets it.

    Attributes:
        previous: state before.
        state: state after; the same where an order or a fault was added to a stop.
        event: what happened.
        reason: code of the cause, finer than the event.
        epoch: of the stop that holds, or that was released.
        monotonic_ns: when.
        utc: when, by the wall clock.
        reading: the lines as last read; None where they never were.
        order_id: the order that caused it, if one did.
    """

    previous: State
    state: State
    event: Event
    reason: str
    epoch: int
    monotonic_ns: int
    utc: datetime
    reading: SwitchReading | None
    order_id: str | None


class InterlockStatus(BaseModel):
    """What the device shows of itself: `turnkey status`, the console, the attestation. No personal data.

    Attributes:
        state, reason, since, epoch: of the present state.
        channel_a, channel_b, relay_closed: the lines as last read; None where they cannot be.
        key_closed: both channels closed for the whole debounce.
        fault: a fault that shows now; a latched one that has gone is only in `reason`.
        standing: orders in force.
        challenge: what a release order must name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    device_id: str
    state: State
    reason: str
    since: datetime
    epoch: int
    channel_a: bool | None
    channel_b: bool | None
    relay_closed: bool | None
    key_closed: bool
    fault: str | None
    standing: tuple[StandingOrder, ...]
    challenge: str


class Interlock:
    """The interlock of one device.

    Args:
        switch: the lines. Closed with the interlock.
        latch: the file.
        device_id: which device this is.
        authority: whose orders hold.
        settings: limits.
        monotonic_ns: clock for leases and debounce.
        utc_now: wall clock.
        witness: is given each transition and raises where it cannot record it, which is a fault. It may read `status`.
        gallery_key: handed out with the permit alone.
        ledger_epoch: the highest epoch the ledger knows.
    """

    def __init__(
        self,
        switch: Switch,
        latch: Latch,
        *,
        device_id: str,
        authority: Authority,
        settings: InterlockSettings,
        monotonic_ns: Callable[[], int],
        utc_now: Callable[[], datetime],
        witness: Callable[[Transition], None],
        gallery_key: bytes | None = None,
        ledger_epoch: int = 0,
    ) -> None:
        self._switch = switch
        self._latch = latch
        self._device_id = device_id
        self._authority = authority
        self._settings = settings
        self._monotonic_ns = monotonic_ns
        self._utc_now = utc_now
        self._witness = witness
        self._gallery_key = gallery_key
        self._lock = threading.RLock()
        self._openings: deque[int] = deque()
        self._contacts = Contacts()
        self._reading: SwitchReading | None = None
        self._permit: Permit | None = None
        self._lease_until_ns = 0
        self._pulse_due_ns = 0
        self._unreadable = False
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._state = State.BOOTING
        found = latch.load(device_id, self._now(), ledger_epoch=ledger_epoch)
        self._record: LatchRecord = found.record
        self._reason, self._since = "booting", self._now()
        if self._record.state is State.MORATORIUM:
            self._happen(Event.FOUND_STOPPED, found.trouble or self._record.reason)
        elif self._record.state is State.FAULT:
            self._happen(Event.FOUND_FAULTED, self._record.reason)
        if authority.version < self._record.authority_version:
            self._fault("authority-older-than-latch")
        trouble = self._clock_trouble()
        if trouble is not None:
            self._fault(trouble)
        switch.on_edge(self._on_edge)

    @property
    def state(self) -> State:
        """Where it is now."""
        return self._state

    def status(self) -> InterlockStatus:
        """What the device shows of itself."""
        with self._lock:
            reading, fault = self._reading, self._contacts.present_fault
            return InterlockStatus(
                device_id=self._device_id,
                state=self._state,
                reason=self._reason,
                since=self._since,
                epoch=self._record.epoch,
                channel_a=reading.channel_a if reading else None,
                channel_b=reading.channel_b if reading else None,
                relay_closed=reading.relay_closed if reading else None,
                key_closed=self._contacts.closed,
                fault="switch-unreadable" if self._unreadable else fault,
                standing=self._record.standing,
                challenge=self._record.challenge,
            )

    def release_request(self) -> ReleaseRequest:
        """What the signers of a release order need."""
        with self._lock:
            return ReleaseRequest(device_id=self._device_id, epoch=self._record.epoch, challenge=self._record.challenge)

    def permit(self) -> Permit:
        """A live permit.

        Raises:
            Stopped: with the reason why there is none.
        """
        with self._lock:
            self._take_openings()
            if self._state is not State.RUNNING:
                raise Stopped(self._reason)
            if self._permit is None or self._permit.refusal() is not None:
                self._permit = Permit(self._monotonic_ns, self._lease_until_ns, self._gallery_key)
            self._permit.check()
            return self._permit

    def apply(self, order_envelope: bytes) -> OrderAccepted | OrderRefused:
        """Apply a moratorium or a release order. On `OrderAccepted` it is on disk and in force."""
        with self._lock:
            self.tick()
            verdict = judge(order_envelope, self._authority, self._circumstances())
            if isinstance(verdict, OrderRefused):
                return verdict
            order, now = verdict.order, self._now()
            used = (*self._record.used, UsedNonce(nonce=order.nonce, not_after=order.not_after))
            version = max(self._record.authority_version, self._authority.version)
            record = self._record.model_copy(update={"used": used, "authority_version": version})
            if isinstance(order, MoratoriumOrder):
                standing = StandingOrder(order_id=order.order_id, role=order.role, rank=verdict.rank, since=now)
                self._record = record.model_copy(update={"standing": (*record.standing, standing)})
                self._happen(Event.STOP_ORDERED, "stop-ordered", order.order_id)
                return verdict
            self._record = record.model_copy(update={"standing": ()})
            self._happen(Event.RELEASED, "released", order.order_id)
            if self._state is State.RUNNING:
                return verdict
            return OrderRefused(self._reason, "the order is used up, but a stop came before it took effect")

    def halt(self, reason: str) -> None:
        """Stop, and latch a fault that another room found: a ledger that cannot be written, say."""
        with self._lock:
            self._fault(reason)

    def start(self) -> Self:
        """Begin watching in a thread of its own."""
        self._thread = threading.Thread(target=self._watch, name="interlock", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop watching; permits die, the switch is given back."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        with self._lock:
            self._happen(Event.CLOSING_DOWN, "closing-down")
        self._switch.close()

    def tick(self) -> None:
        """Read the switch once and act on it; renew the lease where it runs. The thread calls it each `poll_ms`."""
        with self._lock:
            self._take_openings()
            began_ns = self._monotonic_ns()
            last_ns = self._contacts.last_ns
            if last_ns is not None and began_ns - last_ns > self._settings.lease_validity_ms * NS_PER_MS:
                self._happen(Event.WATCH_LOST, "watch-lost")
            try:
                self._reading = self._switch.read()
                self._unreadable = False
                self._contacts, found = self._contacts.after(self._reading, self._monotonic_ns(), self._settings)
                self._act_on(found)
                self._prove_feeds()
            except SwitchUnreadable:
                self._reading = None
                self._contacts = Contacts(last_ns=began_ns)
                if not self._unreadable:
                    self._unreadable = True
                    self._fault("switch-unreadable")
                return
            self._mind_the_clock()
            if self._state is State.BOOTING and self._obstacle() is None and not self._record.standing:
                self._happen(Event.CONDITIONS_HOLD, "conditions-hold")
            if self._state is State.RUNNING:
                self._lease_until_ns = began_ns + self._settings.lease_validity_ms * NS_PER_MS
                if self._permit is not None:
                    self._permit.renew(self._lease_until_ns)

    def _watch(self) -> None:
        while not self._closing.is_set():
            self.tick()
            self._closing.wait(self._settings.poll_ms / 1000)

    def _on_edge(self, edge: Edge) -> None:
        if edge.closed:
            return
        permit = self._permit
        if permit is not None:
            permit.revoke(Finding.OPENED)
        self._openings.append(self._monotonic_ns())
        with self._lock:
            self._take_openings()

    def _take_openings(self) -> None:
        while self._openings:
            self._contacts, found = self._contacts.opened(self._openings.popleft())
            self._act_on(found)

    def _act_on(self, found: tuple[Finding, ...]) -> None:
        for finding in found:
            if finding is Finding.OPENED:
                self._happen(Event.KEY_OPENED, finding)
            elif finding is not Finding.CLOSED:
                self._fault(finding)

    def _prove_feeds(self) -> None:
        now_ns = self._monotonic_ns()
        if now_ns < self._pulse_due_ns:
            return
        self._pulse_due_ns = now_ns + self._settings.pulse_every_ms * NS_PER_MS
        pulse = self._switch.pulse()
        if pulse is not None:
            self._contacts, found = self._contacts.pulsed(pulse)
            self._act_on(found)

    def _mind_the_clock(self) -> None:
        trouble = self._clock_trouble()
        if trouble is not None:
            if not (self._state is State.FAULT and self._reason == trouble):
                self._fault(trouble)
            return
        now = self._now()
        if now - self._record.latest >= timedelta(seconds=self._settings.clock_mark_s):
            self._record = self._record.seen(now)
            self._store()

    def _clock_trouble(self) -> str | None:
        now = self._now()
        if now < self._settings.clock_not_before:
            return "clock-unset"
        if self._record.latest - now > timedelta(seconds=self._settings.clock_tolerance_s):
            return "clock-set-back"
        return None

    def _obstacle(self) -> str | None:
        if self._unreadable:
            return "switch-unreadable"
        if self._contacts.present_fault is not None:
            return self._contacts.present_fault
        if not self._contacts.closed:
            return "key-open"
        if self._authority.version < self._record.authority_version:
            return "authority-older-than-latch"
        return self._clock_trouble()

    def _circumstances(self) -> Circumstances:
        return Circumstances(
            device_id=self._device_id,
            stopped=self._state in (State.MORATORIUM, State.FAULT),
            epoch=self._record.epoch,
            challenge=self._record.challenge,
            standing=self._record.standing,
            used=frozenset(used.nonce for used in self._record.used),
            now=self._now(),
            clock_trouble=self._clock_trouble(),
            obstacle=self._obstacle(),
            longest=timedelta(days=self._settings.order_window_days),
        )

    def _fault(self, reason: str) -> None:
        self._happen(Event.FAULT_FOUND, reason)

    def _happen(self, event: Event, reason: str, order_id: str | None = None) -> None:
        """Carry out one transition of the table."""
        previous = self._state
        after, effects = step(previous, event)
        starting = Effect.GRANT in effects
        if not starting:
            self._state = after
        if effects:
            self._reason, self._since = str(reason), self._now()
        for effect in effects:
            if effect is Effect.REVOKE:
                self._revoke(reason)
            elif effect is Effect.LATCH:
                self._change_record(after, event, reason)
                if not self._store():
                    return
            elif effect is Effect.WITNESS:
                if not self._tell(previous, after, event, reason, order_id):
                    return
            elif effect is Effect.GRANT:
                self._state = after
                self._lease_until_ns = self._monotonic_ns() + self._settings.lease_validity_ms * NS_PER_MS
                self._take_openings()
            elif effect is Effect.LAMP:
                self._show(after is State.RUNNING)

    def _revoke(self, reason: str) -> None:
        if self._permit is not None:
            self._permit.revoke(str(reason))
            self._permit.drain(self._settings.drain_ms / 1000)
            self._permit = None

    def _change_record(self, after: State, event: Event, reason: str) -> None:
        if after is State.RUNNING:
            released = {"state": after, "reason": str(reason), "since": self._now()}
            self._record = self._record.model_copy(update=released).seen(self._now())
        elif event not in (Event.FOUND_STOPPED, Event.FOUND_FAULTED):
            self._record = self._record.stopped_anew(after, str(reason), self._now())

    def _store(self) -> bool:
        """Put the record on disk; where that fails, stop in memory: the latch itself has kept what it could."""
        try:
            self._latch.store(self._record)
        except LatchError:
            self._stop_in_memory("latch-unwritable")
            return False
        return True

    def _tell(self, previous: State, after: State, event: Event, reason: str, order_id: str | None) -> bool:
        told = Transition(
            previous=previous,
            state=after,
            event=event,
            reason=str(reason),
            epoch=self._record.epoch,
            monotonic_ns=self._monotonic_ns(),
            utc=self._now(),
            reading=self._reading,
            order_id=order_id,
        )
        try:
            self._witness(told)
        except Exception:
            # Whatever the witness raised, the change is not on the ledger, and an unrecorded device must not run.
            self._stop_in_memory("record-unwritable")
            self._record = self._record.stopped_anew(State.FAULT, "record-unwritable", self._now())
            self._store()
            return False
        return True

    def _stop_in_memory(self, reason: str) -> None:
        self._revoke(reason)
        self._state, self._reason, self._since = State.FAULT, reason, self._now()
        self._show(False)

    def _show(self, running: bool) -> None:
        try:
            self._switch.lamp(running)
        except SwitchUnreadable:
            self._unreadable = True

    def _now(self) -> datetime:
        return self._utc_now().astimezone(UTC)
