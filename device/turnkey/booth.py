"""One booking, start to end: the only place where the steps meet.

    permit -> policy -> outbox -> shutter -> face -> quality -> search -> lead -> enrolment

Rules kept here, in the order in which they are enforced:
1. No permit, no step. The permit is checked by each step, and last inside each transaction that stores anything.
2. Nothing is captured that policy, an unwritable ledger or a full outbox would only throw away afterwards.
3. Each step is on the ledger before the next begins. Where a stop comes in between, the work in flight is discarded, an
   enrolment is taken back, and the discarding is on the ledger.
4. Every refusal is a value with a step and a reason code, and is on the ledger. Where the ledger itself cannot be
   written, the device halts.
5. Frames and templates live in this function's variables only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from turnkey.capture.camera import Camera, CameraError
from turnkey.database import StorageError
from turnkey.gallery.gallery import Gallery, GalleryLocked
from turnkey.interlock.permit import Permit, Stopped
from turnkey.leads.decision import GalleryTooLarge, Group, select, threshold_for
from turnkey.leads.policy import PolicyRefusal, SignedPolicy
from turnkey.leads.records import (
    Captured,
    Discarded,
    Enrolled,
    Expunged,
    Lead,
    LeadCandidate,
    Partition,
    Refused,
    Searched,
    Step,
)
from turnkey.notary.notary import Clocks, LeadDraft, Recorder
from turnkey.vision.analyzer import Analysis, Analyzer

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


@dataclass(frozen=True)
class Recorded:
    """A booking went through. The officer sees "recorded" and nothing else.

    Attributes:
        booking_number: as given.
        leads: what was signed and handed to the outbox; none where no candidate reached the threshold.
        stages_ms: milliseconds per step, in the order of the steps.
    """

    booking_number: str
    leads: tuple[Lead, ...]
    stages_ms: dict[str, float]


@dataclass(frozen=True)
class CaseEnrolled:
    """A probe of an open case is in the `cases` partition."""

    case_number: str
    row: int


@dataclass
class _Attempt:
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


class _Refuse(Exception):
    """Leaves the steps of an attempt with a refusal; never leaves this file."""

    def __init__(self, step: Step, reason: str, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(step, reason, message)


class Booth:
    """The booking room's work, on parts that are made elsewhere.

    Args:
        gate: the interlock.
        policy: the policy in force, or why there is none; asked anew for each booking.
        calibration: FMR bounds of the embedder in use.
        model_id: the embedder in use, as the policy names it.
        halt: stops the device, with a reason code: called where the ledger cannot be written.
    """

    def __init__(
        self,
        *,
        gate: Gate,
        camera: Camera,
        analyzer: Analyzer,
        gallery: Gallery,
        notary: Recorder,
        policy: Callable[[], SignedPolicy | PolicyRefusal],
        calibration: tuple[Group, ...],
        model_id: str,
        clocks: Clocks,
        halt: Callable[[str], None],
    ) -> None:
        self._gate = gate
        self._camera = camera
        self._analyzer = analyzer
        self._gallery = gallery
        self._notary = notary
        self._policy = policy
        self._calibration = calibration
        self._model_id = model_id
        self._clocks = clocks
        self._halt = halt

    def book(self, booking_number: str) -> Recorded | Refusal:
        """Photograph, search what policy allows, report, enrol."""

        def steps(attempt: _Attempt) -> Recorded:
            policy = attempt.policy.policy
            if not policy.permits_booking_number(booking_number):
                raise _Refuse("policy", "booking-number-malformed", "The booking number has not the agency's form.")
            analysis = self._photograph(attempt, "booking")
            leads = tuple(
                lead
                for partition in policy.search_on_booking
                if (lead := self._search(attempt, partition, booking_number, analysis)) is not None
            )
            if policy.enrol_bookings:
                self._enrol(attempt, "bookings", booking_number, analysis)
            attempt.permit.check()
            return Recorded(booking_number, leads, attempt.stages_ms)

        return self._attempt(steps)

    def enrol_case(self, case_number: str) -> CaseEnrolled | Refusal:
        """Enrol the probe of an open case from the camera. Nothing is searched."""

        def steps(attempt: _Attempt) -> CaseEnrolled:
            if not attempt.policy.policy.permits_case_number(case_number):
                raise _Refuse("policy", "case-number-malformed", "The case number has not the agency's form.")
            analysis = self._photograph(attempt, "case")
            return CaseEnrolled(case_number, self._enrol(attempt, "cases", case_number, analysis))

        return self._attempt(steps)

    def expunge(self, partition: Partition, reference: str, reason: str) -> int:
        """Remove every template of a reference, stopped or not. Returns how many there were.

        Raises:
            StorageError: rows or ledger cannot be written.
        """
        removed = self._gallery.expunge(partition, reference)
        for row in removed:
            self._notary.record(Expunged(partition=partition, row=row, reason=reason))
        return len(removed)

    def _attempt(self, steps: Callable[[_Attempt], Outcome]) -> Outcome | Refusal:
        attempt_id = self._clocks.new_id()
        begun = False
        try:
            attempt = self._admit(attempt_id)
            begun = True
            return steps(attempt)
        except _Refuse as refused:
            return self._refused(refused.refusal, attempt_id if begun else None)
        except Stopped as stopped:
            return self._stopped(stopped.reason, attempt_id if begun else None)
        except GalleryLocked as locked:
            # A stop took the key between two steps, before the later one asked its permit.
            return self._stopped(locked.reason, attempt_id)
        except StorageError as error:
            return self._unwritable(error)

    def _admit(self, attempt_id: str) -> _Attempt:
        permit = self._gate.permit()
        policy = self._policy()
        if isinstance(policy, PolicyRefusal):
            raise _Refuse("policy", policy.reason, policy.message)
        if self._model_id not in policy.policy.models:
            raise _Refuse("policy", "model-not-permitted", f"The policy does not permit the model {self._model_id}.")
        try:
            self._notary.hand_over()
        except StorageError as error:
            raise _Refuse("outbox", error.reason, f"Leads cannot be sent on: {error}. Call IT.") from error
        self._unlock(permit)
        return _Attempt(attempt_id, permit, policy)

    def _unlock(self, permit: Permit) -> None:
        try:
            self._gallery.unlock(permit.gallery_key())
        except StorageError as error:
            permit.check()  # a key wiped while it was being used is a stop, not a wrong key
            raise _Refuse("gallery", error.reason, f"The gallery cannot be used: {error}. Call IT.") from error
        try:
            permit.check()
        except Stopped:
            self._gallery.lock()  # the stop's own locking may have come before the unlocking was done
            raise

    def _photograph(self, attempt: _Attempt, purpose: Literal["booking", "case"]) -> Analysis:
        try:
            with attempt.stage("capture"):
                frame = self._camera.capture(attempt.permit)
        except CameraError as error:
            raise _Refuse("capture", error.reason, str(error)) from error
        self._notary.record(Captured(attempt_id=attempt.id, frames=1, purpose=purpose), attempt.permit)
        outcome = self._analyzer.analyze(frame, attempt.permit)
        if not isinstance(outcome, Analysis):
            raise _Refuse("vision", outcome.reason, outcome.message)
        timings = outcome.timings
        attempt.stages_ms |= {
            "detect": timings.detect_ms,
            "quality": timings.quality_ms,
            "align": timings.align_ms,
            "embed": timings.embed_ms,
        }
        if outcome.quality.score < attempt.policy.policy.min_quality:
            raise _Refuse("vision", "quality-below-floor", "The picture is not good enough. Take another.")
        return outcome

    def _search(self, attempt: _Attempt, partition: Partition, booking_number: str, analysis: Analysis) -> Lead | None:
        policy = attempt.policy.policy
        size = self._gallery.size(partition)
        threshold = threshold_for(size, policy.max_fpir, self._calibration) if size else None
        if isinstance(threshold, GalleryTooLarge):
            raise _Refuse("search", threshold.reason, threshold.message)
        with attempt.stage("search"):
            own = booking_number if partition == "bookings" else None
            found = self._gallery.search(
                partition, analysis.template, policy.candidate_limit, attempt.permit, excluding=own
            )
        scores = [one.score for one in found.candidates]
        chosen = select(scores, threshold, policy.candidate_limit) if threshold else ()
        self._notary.record(
            Searched(
                attempt_id=attempt.id,
                partition=partition,
                gallery_size=found.gallery_size,
                threshold=threshold.score if threshold else None,
                max_fpir=policy.max_fpir,
                search=found.strategy.method,
                search_recall=found.strategy.recall,
                model_id=self._model_id,
                policy_digest=attempt.policy.digest,
                candidates=len(chosen),
            ),
            attempt.permit,
        )
        if threshold is None or not chosen:
            return None
        draft = LeadDraft(
            attempt_id=attempt.id,
            booking_number=booking_number,
            partition=partition,
            gallery_size=found.gallery_size,
            threshold=threshold.score,
            max_fpir=policy.max_fpir,
            model_id=self._model_id,
            policy_digest=attempt.policy.digest,
            probe_quality=analysis.quality.score,
            candidates=tuple(
                LeadCandidate(
                    rank=rank, reference=one.reference, score=round(one.score, 4), enrolled_at=one.enrolled_at
                )
                for rank, one in enumerate((found.candidates[position] for position in chosen), start=1)
            ),
            search=found.strategy.method,
            search_recall=found.strategy.recall,
        )
        with attempt.stage("sign"):
            return self._notary.submit(draft, attempt.permit)

    def _enrol(self, attempt: _Attempt, partition: Partition, reference: str, analysis: Analysis) -> int:
        with attempt.stage("enrol"):
            row = self._gallery.enrol(
                partition,
                reference,
                analysis.template,
                quality=analysis.quality.score,
                enrolled_at=self._clocks.utc_now(),
                permit=attempt.permit,
            )
            try:
                self._notary.record(Enrolled(attempt_id=attempt.id, partition=partition, row=row), attempt.permit)
            except BaseException:
                self._gallery.withdraw(partition, row)
                raise
        return row

    def _stopped(self, reason: str, attempt_id: str | None) -> Refusal:
        if attempt_id is None:
            return self._refused(
                Refusal("interlock", reason, "Facial recognition is stopped. Nothing was captured."), None
            )
        refusal = Refusal("interlock", reason, "Facial recognition was stopped. This picture was discarded.")
        return self._record_or_halt(Discarded(attempt_id=attempt_id, reason=reason), refusal)

    def _refused(self, refusal: Refusal, attempt_id: str | None) -> Refusal:
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
