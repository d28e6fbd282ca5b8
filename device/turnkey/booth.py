"""One booking, start to end: the only place where the steps meet.

    admitted (`turnkey.attempt`) -> shutter -> face -> quality -> search -> lead -> enrolment (`turnkey.gallery_steps`)

Rules kept here, in the order in which they are enforced:
1. No permit, no step. The permit is checked by each step, and last inside each transaction that stores anything.
2. Each step is on the ledger before the next begins. Where a stop comes in between, the work in flight is discarded, an
   enrolment is taken back, and the discarding is on the ledger. Frames are looked at as they are taken, which is one
   step; no template is computed before the capture is on the ledger.
3. Frames and templates live in this function's variables only, one frame at a time, and a frame's pixels are
   overwritten as soon as it was looked at, whatever came of it: with zeros, or with the next frame of the press.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from turnkey.attempt import Attempt, Attempts, Gate, Refuse
from turnkey.attempt import Refusal as Refusal
from turnkey.capture.camera import Camera, CameraError, Frame
from turnkey.capture.overwriting import overwritten
from turnkey.gallery.gallery import Gallery
from turnkey.gallery_steps import GallerySteps, Origin
from turnkey.leads.decision import Group
from turnkey.leads.policy import PolicyRefusal, SignedPolicy
from turnkey.leads.records import Captured, Lead, reference_digest
from turnkey.notary.notary import Clocks, Recorder
from turnkey.vision.analyzer import Analysis, Analyzer


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


class Booth:
    """The booking room's work, on parts that are made elsewhere.

    Args:
        gate: the interlock.
        policy: the policy in force, or why there is none; asked anew for each booking.
        calibration: FMR bounds of the embedder in use.
        model_id: the embedder in use, as the policy names it.
        burst: frames asked for at one press of the shutter, at most.
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
        burst: int,
        halt: Callable[[str], None],
    ) -> None:
        self._camera = camera
        self._analyzer = analyzer
        self._burst = burst
        self._gallery = gallery
        self._notary = notary
        self.attempts = Attempts(
            gate=gate, gallery=gallery, notary=notary, policy=policy, model_id=model_id, clocks=clocks, halt=halt
        )
        self.steps = GallerySteps(gallery, notary, calibration, model_id, clocks)

    def book(self, booking_number: str) -> Recorded | Refusal:
        """Photograph, search what policy allows, report, enrol."""

        def steps(attempt: Attempt) -> Recorded:
            policy = attempt.policy.policy
            if not policy.permits_booking_number(booking_number):
                raise Refuse("policy", "booking-number-malformed", "The booking number has not the agency's form.")
            analysis = self._photograph(attempt, "booking", booking_number)
            origin = Origin("booking", booking_number)
            leads = tuple(
                lead
                for partition in policy.search_on_booking
                if (lead := self.steps.search(attempt, partition, origin, analysis)) is not None
            )
            if policy.enrol_bookings:
                self.steps.enrol(attempt, "bookings", booking_number, analysis)
            attempt.permit.check()
            return Recorded(booking_number, leads, attempt.stages_ms)

        return self.attempts.run(steps)

    def enrol_case(self, case_number: str) -> CaseEnrolled | Refusal:
        """Enrol the probe of an open case from the camera. Nothing is searched."""

        def steps(attempt: Attempt) -> CaseEnrolled:
            if not attempt.policy.policy.permits_case_number(case_number):
                raise Refuse("policy", "case-number-malformed", "The case number has not the agency's form.")
            if not attempt.policy.policy.cases_without_packets:
                raise Refuse("policy", "case-packet-needed", "The policy takes a case's probe from a case packet only.")
            analysis = self._photograph(attempt, "case", case_number)
            return CaseEnrolled(case_number, self.steps.enrol(attempt, "cases", case_number, analysis))

        return self.attempts.run(steps)

    def _photograph(self, attempt: Attempt, purpose: Literal["booking", "case"], reference: str) -> Analysis:
        def record(frames: int) -> None:
            digest = reference_digest(attempt.id, reference)
            captured = Captured(attempt_id=attempt.id, frames=frames, purpose=purpose, reference_digest=digest)
            self._notary.record(captured, attempt.permit)

        limits = attempt.policy.policy.quality_limits(self._analyzer.limits)
        try:
            with closing(self._frames(attempt)) as taken, closing(overwritten(taken)) as frames:
                outcome = self._analyzer.analyze_burst(frames, attempt.permit, limits, seen=record)
        except CameraError as error:
            raise Refuse("capture", error.reason, str(error)) from error
        if not isinstance(outcome, Analysis):
            raise Refuse("vision", outcome.reason, outcome.message)
        timings = outcome.timings
        attempt.stages_ms |= {
            "detect": timings.detect_ms,
            "quality": timings.quality_ms,
            "align": timings.align_ms,
            "embed": timings.embed_ms,
        }
        return outcome

    def _frames(self, attempt: Attempt) -> Generator[Frame]:
        """The frames of one press, timed."""
        with closing(self._camera.burst(attempt.permit, self._burst)) as burst:
            while True:
                with attempt.stage("capture"):
                    frame = next(burst, None)
                if frame is None:
                    return
                yield frame
                del frame  # before the next is taken: one frame's memory at a time
