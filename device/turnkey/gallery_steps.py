"""The two steps that every attempt takes at the gallery: search a partition and report, enrol a template.

Rules kept here:
1. A search has the threshold of the partition's size, or is refused; it is on the ledger before a lead is signed.
2. An enrolment whose entry does not get onto the ledger is taken back.
3. Each template leaves the gallery when the policy under which it entered says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from turnkey.attempt import Attempt, Refuse
from turnkey.gallery.gallery import Gallery
from turnkey.leads.decision import GalleryTooLarge, Group, Threshold, select, threshold_for
from turnkey.leads.records import Enrolled, Lead, LeadCandidate, Partition, Searched
from turnkey.notary.notary import Clocks, LeadDraft, Recorder
from turnkey.vision.analyzer import Analysis


@dataclass(frozen=True)
class Origin:
    """Whose probe it is: a booking's or a case's, by its number in the agency's records system."""

    of: Literal["booking", "case"]
    number: str


class GallerySteps:
    """The steps, on parts that are made elsewhere. Arguments as for `turnkey.booth.Booth`."""

    def __init__(
        self, gallery: Gallery, notary: Recorder, calibration: tuple[Group, ...], model_id: str, clocks: Clocks
    ) -> None:
        self._gallery = gallery
        self._notary = notary
        self._calibration = calibration
        self._model_id = model_id
        self._clocks = clocks

    def search(self, attempt: Attempt, partition: Partition, origin: Origin, analysis: Analysis) -> Lead | None:
        """Search a partition with a probe; the lead that was signed and handed to the outbox, if any.

        Raises:
            Refuse: the partition is too large for the evidence.
            Stopped, GalleryLocked, StorageError: as `Gallery.search` and `Recorder.submit`.
        """
        policy = attempt.policy.policy
        size = self._gallery.size(partition)
        threshold = self._threshold(size, policy.max_fpir)
        with attempt.stage("search"):
            own = origin.number if (origin.of, partition) == ("booking", "bookings") else None
            found = self._gallery.search(
                partition, analysis.template, policy.candidate_limit, attempt.permit, excluding=own
            )
        if found.gallery_size != size:  # something was enrolled or expunged in between
            threshold = self._threshold(found.gallery_size, policy.max_fpir)
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
                probe_quality=analysis.quality.score,
            ),
            attempt.permit,
        )
        if threshold is None or not chosen:
            return None
        draft = LeadDraft(
            attempt_id=attempt.id,
            booking_number=origin.number if origin.of == "booking" else None,
            case_number=origin.number if origin.of == "case" else None,
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

    def _threshold(self, size: int, max_fpir: float) -> Threshold | None:
        """The threshold for a partition of `size`; None for an empty one. Raises: Refuse."""
        threshold = threshold_for(size, max_fpir, self._calibration) if size else None
        if isinstance(threshold, GalleryTooLarge):
            raise Refuse("search", threshold.reason, threshold.message)
        return threshold

    def enrol(self, attempt: Attempt, partition: Partition, reference: str, analysis: Analysis) -> int:
        """Keep a probe's template for as long as the policy says. Returns its row.

        Raises:
            Stopped, GalleryLocked, StorageError: nothing was kept.
        """
        enrolled_at = self._clocks.utc_now()
        with attempt.stage("enrol"):
            row = self._gallery.enrol(
                partition,
                reference,
                analysis.template,
                quality=analysis.quality.score,
                enrolled_at=enrolled_at,
                permit=attempt.permit,
                delete_after=attempt.policy.policy.delete_after(partition, enrolled_at),
            )
            try:
                self._notary.record(Enrolled(attempt_id=attempt.id, partition=partition, row=row), attempt.permit)
            except BaseException:
                self._gallery.withdraw(partition, row)
                raise
        return row
