"""One attempt: a piece of work with a face, admitted under a permit and a policy, and put on record however it ends.

    permit -> policy -> outbox -> gallery open -> the steps of the work

Bookings (`turnkey.booth`) and case packets (`turnkey.casework`) are attempts.

Rules kept here, in the order in which they are enforced:
1. No permit, no step.
2. Nothing begins that policy, an unwritable ledger or a full outbox would only throw away afterwards.
3. Every refusal is a value with a step and a reason code, and is on the ledger; so is the discarding of what a stop
   overtook. Where the ledger itself cannot be written, the device halts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from turnkey.database import StorageError
from turnkey.gallery.gallery import Gallery, GalleryLocked
from turnkey.interlock.permit import Permit, Stopped
from turnkey.leads.policy import PolicyRefusal, SignedPolicy
from turnkey.leads.records import Discarded, Refused, Step
from turnkey.notary.notary import Clocks, Recorder

Outcome = TypeVar("Outcome")


class Gate(Protocol):
    """The interlock, as the booth sees it."""

    def permit(self) -> Permit:
        """A live permit.

        Raises:
            Stopped: recognition is stopped.
        """
        ...


@dataclass(frozen=True)
class Refusal:
    """A step said no. `step` and `reason` are on the ledger, `message` is for the officer and says what to do."""

    step: Step
    reason: str
    message: str


@dataclass
class Attempt:
    """One piece of work under one permit, with its stopwatch."""

    id: str
    permit: Permit
    policy: SignedPolicy
    stages_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.permit.check()
        started = time.perf_counter()
        yield
        self.stages_ms[name] = self.stages_ms.get(name, 0.0) + (time.perf_counter() - started) * 1e3


class Refuse(Exception):
    """Leaves the steps of an attempt with a refusal; `Attempts.run` turns it into one."""

    def __init__(self, step: Step, reason: str, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(step, reason, message)


class Attempts:
    """Runs attempts, one at a time: who comes second waits. Arguments as for `turnkey.booth.Booth`."""

    def __init__(
        self,
        *,
        gate: Gate,
        gallery: Gallery,
        notary: Recorder,
        policy: Callable[[], SignedPolicy | PolicyRefusal],
        model_id: str,
        clocks: Clocks,
        halt: Callable[[str], None],
    ) -> None:
        self._gate = gate
        self._gallery = gallery
        self._notary = notary
        self._policy = policy
        self._model_id = model_id
        self._clocks = clocks
        self._halt = halt
        self._one_at_a_time = threading.Lock()

    def run(self, steps: Callable[[Attempt], Outcome]) -> Outcome | Refusal:
        """Admit an attempt and take its steps; what came of it, or the refusal, which is on the ledger."""
        with self._one_at_a_time:
            return self._run(steps)

    def _run(self, steps: Callable[[Attempt], Outcome]) -> Outcome | Refusal:
        attempt_id = self._clocks.new_id()
        begun = False
        try:
            attempt = self._admit(attempt_id)
            begun = True
            return steps(attempt)
        except Refuse as refused:
            return self.refused(refused.refusal, attempt_id if begun else None)
        except Stopped as stopped:
            return self._stopped(stopped.reason, attempt_id if begun else None)
        except GalleryLocked as locked:
            # A stop took the key between two steps, before the later one asked its permit.
            return self._stopped(locked.reason, attempt_id)
        except StorageError as error:
            return self._unwritable(error)

    def _admit(self, attempt_id: str) -> Attempt:
        permit = self._gate.permit()
        policy = self._policy()
        if isinstance(policy, PolicyRefusal):
            raise Refuse("policy", policy.reason, policy.message)
        if self._model_id not in policy.policy.models:
            raise Refuse("policy", "model-not-permitted", f"The policy does not permit the model {self._model_id}.")
        try:
            self._notary.hand_over()
        except StorageError as error:
            raise Refuse("outbox", error.reason, f"Leads cannot be sent on: {error}. Call IT.") from error
        self._unlock(permit)
        return Attempt(attempt_id, permit, policy)

    def _unlock(self, permit: Permit) -> None:
        try:
            self._gallery.unlock(permit.gallery_key())
        except StorageError as error:
            permit.check()  # a key wiped while it was being used is a stop, not a wrong key
            raise Refuse("gallery", error.reason, f"The gallery cannot be used: {error}. Call IT.") from error
        try:
            permit.check()
        except Stopped:
            self._gallery.lock()  # the stop's own locking may have come before the unlocking was done
            raise

    def _stopped(self, reason: str, attempt_id: str | None) -> Refusal:
        if attempt_id is None:
            return self.refused(
                Refusal("interlock", reason, "Facial recognition is stopped. Nothing was captured."), None
            )
        refusal = Refusal("interlock", reason, "Facial recognition was stopped. This picture was discarded.")
        return self._record_or_halt(Discarded(attempt_id=attempt_id, reason=reason), refusal)

    def refused(self, refusal: Refusal, attempt_id: str | None) -> Refusal:
        """Put a refusal on the ledger; what comes back is the refusal, or why that was not possible."""
        return self._record_or_halt(Refused(attempt_id=attempt_id, step=refusal.step, reason=refusal.reason), refusal)

    def _record_or_halt(self, event: Refused | Discarded, refusal: Refusal) -> Refusal:
        try:
            self._notary.record(event)
        except StorageError as error:
            return self._unwritable(error)
        return refusal

    def _unwritable(self, error: StorageError) -> Refusal:
        """What happened cannot be put on record, so nothing more may happen."""
        self._halt("ledger-unwritable")
        return Refusal("ledger", error.reason, f"The device has stopped: {error}. Call IT.")
