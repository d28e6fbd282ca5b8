"""The interlock: the switch, the latch and the orders, joined by the state machine. A plain object.

The same object runs inside one process (the demo, the tests) and as the daemon. It decides nothing by itself:
`contacts` says what a reading means, `orders` whether an order holds, `machine` what follows, and the `governor`
carries it out.

Rules kept here:
1. An opening kills the permit in the thread that saw it, before any lock is waited for.
2. A lease is renewed only by reading the switch.
3. Whatever cannot be read, written or witnessed is a fault; a fault is latched.
4. What a lost latch may have held is taken to be the highest order there can be.
5. A clock that is not believed keeps a stopped device stopped, and is a fault in a running one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Self

from turnkey.interlock.authority import Authority, AuthorityError
from turnkey.interlock.authority_folder import AuthorityFolder
from turnkey.interlock.contacts import Finding
from turnkey.interlock.governor import Governor
from turnkey.interlock.latch import Latch, LatchRecord, StandingOrder, UsedNonce
from turnkey.interlock.machine import Event, State
from turnkey.interlock.orders import (
    CLOCK_SET_BACK,
    AuthorityFollowed,
    Circumstances,
    MoratoriumOrder,
    OrderAccepted,
    OrderRefused,
    ReleaseRequest,
    judge,
    unknown_order,
)
from turnkey.interlock.permit import Permit
from turnkey.interlock.status import InterlockStatus, Transition
from turnkey.interlock.switch import Edge, Switch, SwitchUnreadable
from turnkey.interlock.watch import Watch
from turnkey.settings import InterlockSettings

__all__ = ["Interlock", "InterlockStatus", "Transition"]


class Interlock:
    """The interlock of one device.

    Args:
        switch: the lines. Closed with the interlock.
        latch: the file.
        device_id: which device this is.
        authority: whose orders hold: fixed, or a folder in which successors are followed.
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
        authority: Authority | AuthorityFolder,
        settings: InterlockSettings,
        monotonic_ns: Callable[[], int],
        utc_now: Callable[[], datetime],
        witness: Callable[[Transition], None],
        gallery_key: bytes | None = None,
        ledger_epoch: int = 0,
    ) -> None:
        self._switch = switch
        self._device_id = device_id
        self._folder = authority if isinstance(authority, AuthorityFolder) else None
        self._authority = authority.current if isinstance(authority, AuthorityFolder) else authority
        self._latch = latch
        self._settings = settings
        self._monotonic_ns = monotonic_ns
        self._utc_now = utc_now
        self._lock = threading.RLock()
        self._watch = Watch(switch, settings, monotonic_ns)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        found = latch.load(device_id, self._now(), ledger_epoch=ledger_epoch)
        fresh = found.trouble == "latch-missing" and ledger_epoch == 0
        known = found.trouble in (None, "latch-set-aside") or fresh
        self._governor = Governor(
            latch,
            found.record if known else self._with_unknown_order(found.record),
            settings=settings,
            monotonic_ns=monotonic_ns,
            now=self._now,
            witness=witness,
            lamp=switch.lamp,
            reading=lambda: self._watch.reading,
            gallery_key=gallery_key,
        )
        if found.record.state is State.MORATORIUM:
            self._governor.happen(Event.FOUND_STOPPED, found.trouble or found.record.reason)
        elif found.record.state is State.FAULT:
            self._governor.happen(Event.FOUND_FAULTED, found.record.reason)
        switch.on_edge(self._on_edge)

    @property
    def state(self) -> State:
        """Where it is now."""
        return self._governor.state

    @property
    def last_look_ns(self) -> int:
        """When the switch was last looked at, on the monotonic clock; 0 where it never was. For the watchdog."""
        return self._watch.contacts.last_ns or 0

    def status(self) -> InterlockStatus:
        """What the device shows of itself."""
        with self._lock:
            governor, reading, obstacle = self._governor, self._watch.reading, self._obstacle()
            return InterlockStatus(
                device_id=self._device_id,
                state=governor.state,
                reason=governor.reason,
                since=governor.since,
                epoch=governor.record.epoch,
                channel_a=reading.channel_a if reading else None,
                channel_b=reading.channel_b if reading else None,
                relay_closed=reading.relay_closed if reading else None,
                key_closed=self._watch.contacts.closed,
                fault=None if obstacle in ("key-open", "feeds-unproved") else obstacle,
                standing=governor.record.standing,
                challenge=governor.record.challenge,
                authority_version=self._authority.version,
            )

    def release_request(self) -> ReleaseRequest:
        """What the signers of a release order need."""
        with self._lock:
            record = self._governor.record
            return ReleaseRequest(device_id=self._device_id, epoch=record.epoch, challenge=record.challenge)

    def permit(self) -> Permit:
        """A live permit.

        Raises:
            Stopped: with the reason why there is none.
        """
        with self._lock:
            self._take_openings()
            return self._governor.permit()

    def apply(self, order_envelope: bytes) -> OrderAccepted | OrderRefused:
        """Apply a moratorium or a release order. On `OrderAccepted` it is on disk and in force."""
        with self._lock:
            self.tick()
            verdict = judge(order_envelope, self._authority, self._circumstances())
            if isinstance(verdict, OrderRefused):
                return verdict
            return self._carry_out(verdict)

    def follow(self, authority_envelope: bytes) -> AuthorityFollowed | OrderRefused:
        """Replace the authority by its successor. It is on disk when this returns; what was stopped stays so."""
        with self._lock:
            if self._folder is None:
                return OrderRefused("authority-fixed", "this device's authority is replaced by provisioning it anew")
            try:
                self._authority = self._folder.follow(authority_envelope)
            except AuthorityError as error:
                return OrderRefused(error.reason, str(error))
            except OSError as error:
                self._fault("authority-unwritable")
                return OrderRefused("authority-unwritable", str(error))
            governor, version = self._governor, self._authority.version
            governor.record = governor.record.model_copy(update={"authority_version": version})
            governor.happen(Event.AUTHORITY_FOLLOWED, "authority-followed")
            return AuthorityFollowed(version)

    def followed(self, version: int) -> bytes | None:
        """The envelope of a successor that this device has followed; None where there is none of that version."""
        return self._folder.envelope(version) if self._folder is not None else None

    def hold_to(self, ledger_epoch: int) -> None:
        """Stop where latch, its file and the ledger disagree, as at boot; the ledger knew `ledger_epoch` just now."""
        with self._lock:
            governor = self._governor
            if governor.record.epoch < ledger_epoch:
                behind = governor.record.model_copy(update={"epoch": ledger_epoch})
                governor.record = self._with_unknown_order(behind)
                governor.happen(Event.LATCH_DISBELIEVED, "latch-older-than-ledger")
            elif governor.stored and not self._latch.holds(governor.record):
                governor.happen(Event.LATCH_DISBELIEVED, "latch-changed")

    def halt(self, reason: str) -> None:
        """Stop, and latch a fault that another room found: a ledger that cannot be written, say."""
        with self._lock:
            self._fault(reason)

    def start(self) -> Self:
        """Begin watching in a thread of its own."""
        self._thread = threading.Thread(target=self._keep_watching, name="interlock", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop watching; permits die, the switch is given back."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        with self._lock:
            self._governor.happen(Event.CLOSING_DOWN, "closing-down")
        self._switch.close()

    def tick(self) -> None:
        """Read the switch once and act on it; renew the lease where it runs. The thread calls it each `poll_ms`."""
        with self._lock:
            self._take_openings()
            began_ns = self._monotonic_ns()
            if self._watch.was_lost():
                self._governor.happen(Event.WATCH_LOST, "watch-lost")
            was_unreadable = self._watch.unreadable
            try:
                self._act_on(self._watch.look())
            except SwitchUnreadable:
                if not was_unreadable:
                    self._fault("switch-unreadable")
                return
            self._mind_the_clock()
            if self.state is State.BOOTING and self._obstacle() is None and not self._governor.record.standing:
                self._governor.happen(Event.CONDITIONS_HOLD, "conditions-hold")
            self._take_openings()
            self._governor.renew(began_ns)

    def _keep_watching(self) -> None:
        while not self._closing.is_set():
            self._or_halt(self.tick)
            self._closing.wait(self._settings.poll_ms / 1000)

    def _or_halt(self, work: Callable[[], None]) -> None:
        """A fault of the program itself: stop, then end the thread, so that no lease is ever renewed again."""
        try:
            work()
        except Exception:
            self.halt("interlock-failed")
            raise

    def _on_edge(self, edge: Edge) -> None:
        if edge.closed:
            return
        self._governor.cut(Finding.OPENED.value)
        self._watch.note_opening()
        self._or_halt(self._take_openings)

    def _take_openings(self) -> None:
        with self._lock:
            self._act_on(self._watch.openings())

    def _act_on(self, found: tuple[Finding, ...]) -> None:
        for finding in found:
            if finding is Finding.OPENED:
                self._governor.happen(Event.KEY_OPENED, finding.value)
            elif finding is not Finding.CLOSED:
                self._fault(finding.value)

    def _mind_the_clock(self) -> None:
        trouble = self._clock_trouble()
        if trouble is not None:
            if self.state is State.RUNNING:
                self._fault(trouble)
            return
        governor, now = self._governor, self._now()
        if now - governor.record.latest >= timedelta(seconds=self._settings.clock_mark_s):
            governor.record = governor.record.seen(now)
            governor.store()

    def _clock_trouble(self) -> str | None:
        now = self._now()
        if now < self._settings.clock_not_before:
            return "clock-unset"
        if self._governor.record.latest - now > timedelta(seconds=self._settings.clock_tolerance_s):
            return CLOCK_SET_BACK
        return None

    def _obstacle(self) -> str | None:
        """Why it could not run now even if it were released; None where it could."""
        return self._authority_obstacle() or self._watch.obstacle() or self._clock_trouble()

    def _authority_obstacle(self) -> str | None:
        if self._folder is not None and self._folder.trouble is not None:
            return "authority-untrusted"
        if self._authority.version < self._governor.record.authority_version:
            return "authority-older-than-latch"
        return None

    def _circumstances(self) -> Circumstances:
        record = self._governor.record
        return Circumstances(
            device_id=self._device_id,
            stopped=self.state in (State.MORATORIUM, State.FAULT),
            epoch=record.epoch,
            challenge=record.challenge,
            standing=record.standing,
            used=frozenset(used.nonce for used in record.used),
            now=self._now(),
            clock_trouble=self._clock_trouble(),
            obstacle=self._authority_obstacle() or self._watch.obstacle(),
            longest=timedelta(days=self._settings.order_window_days),
        )

    def _with_unknown_order(self, record: LatchRecord) -> LatchRecord:
        unknown = unknown_order(self._authority, self._now())
        return record.model_copy(update={"standing": (*record.standing, unknown)})

    def _carry_out(self, verdict: OrderAccepted) -> OrderAccepted | OrderRefused:
        order, governor = verdict.order, self._governor
        standing = governor.record.standing
        used = (*governor.record.used, UsedNonce(nonce=order.nonce, not_after=order.not_after))
        version = max(governor.record.authority_version, self._authority.version)
        governor.record = governor.record.model_copy(update={"used": used, "authority_version": version})
        if isinstance(order, MoratoriumOrder):
            new = StandingOrder(order_id=order.order_id, role=order.role, rank=verdict.rank, since=self._now())
            governor.record = governor.record.model_copy(update={"standing": (*standing, new)})
            governor.happen(Event.STOP_ORDERED, "stop-ordered", order.order_id)
            if governor.stored:
                return verdict
            return OrderRefused("latch-unwritable", "the device is stopped, but the order is not on disk: call IT")
        if order.sets_clock:
            # What was used stays used: an order of the time that never was names a challenge that is no more.
            governor.record = governor.record.model_copy(update={"latest": self._now()})
        governor.happen(Event.RELEASED, "released", order.order_id)
        self._take_openings()
        if self.state is State.RUNNING:
            return verdict
        governor.record = governor.record.model_copy(update={"standing": standing})
        governor.store()
        return OrderRefused(governor.reason, "the order is used up, but a stop came before it took effect")

    def _fault(self, reason: str) -> None:
        self._governor.happen(Event.FAULT_FOUND, reason)

    def _now(self) -> datetime:
        return self._utc_now().astimezone(UTC)
