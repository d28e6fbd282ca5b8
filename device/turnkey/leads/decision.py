"""The decision: which candidates are reported, for a gallery of this size.

For a gallery of N templates the threshold is the smallest t with

    1 - (1 - FMR(t)) ** N  <=  max_fpir

where FMR(t) is the **worst group's** upper confidence bound in the model's calibration: a search of N templates is N
comparisons, and a person who is not enrolled must not come up in more than `max_fpir` of the searches (FPIR,
ISO/IEC 19795-1; the binomial model is the usual one that relates FMR and FPIR). No threshold is read off beyond the
data: where the FMR needed is below what the calibration's pairs of persons can support (rule of three: 3/n for none
observed in n, `Group.bound`), the search is refused as "gallery too large for the evidence", with the largest N that
can be supported.

This room does no I/O, has no clock and no randomness.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class OperatingPoint:
    """One row of a calibration: at this score the FMR is at most `fmr_upper` (one-sided 95 % bound)."""

    threshold: float
    fmr_upper: float


@dataclass(frozen=True)
class Group:
    """The calibration of one demographic group (`all` where the calibration faces carry no labels).

    Attributes:
        name: of the group.
        points: thresholds with their bounds, in any order.
        person_pairs: pairs of different persons that the bounds rest on, one or more.
        probe_factor: how many times the FMR of the probes that are searched may be that of the single pictures that
            were calibrated, one or more: a probe out of several frames lies closer to everybody.
    """

    name: str
    points: tuple[OperatingPoint, ...]
    person_pairs: int
    probe_factor: float = 1.0

    def bound(self, point: OperatingPoint) -> float:
        """The FMR that may be claimed at a point: its bound, but never less than what so many pairs can show.

        Where none of n independent pairs is let through, the one-sided 95 % bound is 3/n (the rule of three): a table
        that claims less is not believed. Both are taken times `probe_factor`.
        """
        return min(1.0, self.probe_factor * max(point.fmr_upper, 3.0 / self.person_pairs))


@dataclass(frozen=True)
class Threshold:
    """The score that a candidate must reach, and what it rests on.

    Attributes:
        score: cosine similarity.
        fmr_upper: the worst group's upper bound of the FMR there.
        group: that group.
    """

    score: float
    fmr_upper: float
    group: str


@dataclass(frozen=True)
class GalleryTooLarge:
    """The evidence does not reach as far as this gallery: the search is refused."""

    gallery_size: int
    largest_supported: int

    reason = "gallery-too-large-for-the-evidence"

    @property
    def message(self) -> str:
        return (
            f"the gallery holds {self.gallery_size} templates; the model's evidence supports at most "
            f"{self.largest_supported} at the policy's FPIR limit: calibrate on more faces, or search less"
        )


def fpir(fmr: float, gallery_size: int) -> float:
    """FPIR of a search of `gallery_size` templates at `fmr`, comparisons taken as independent: 1-(1-FMR)^N."""
    if fmr >= 1.0:
        return 1.0 if gallery_size else 0.0
    return -math.expm1(gallery_size * math.log1p(-fmr))


def threshold_for(gallery_size: int, max_fpir: float, calibration: Sequence[Group]) -> Threshold | GalleryTooLarge:
    """The threshold for a gallery of `gallery_size` templates.

    Each group's threshold is the smallest of its points whose bound is low enough; the highest of these is returned, so
    that the promise holds in the worst group.

    Args:
        gallery_size: templates searched, one or more.
        max_fpir: between 0 and 1.
        calibration: one or more groups; their points in any order.

    Raises:
        ValueError: an empty calibration, or arguments out of range: faults of the caller.
    """
    if (
        gallery_size < 1
        or not 0.0 < max_fpir < 1.0
        or not calibration
        or not all(group.points and group.person_pairs > 0 and group.probe_factor >= 1.0 for group in calibration)
    ):
        raise ValueError("a gallery of at least one, an FPIR between 0 and 1, and a calibration with points are needed")
    chosen: list[Threshold] = []
    for group in calibration:
        good = [point for point in group.points if fpir(group.bound(point), gallery_size) <= max_fpir]
        if not good:
            return GalleryTooLarge(gallery_size, largest_supported(max_fpir, calibration))
        lowest = min(good, key=lambda point: point.threshold)
        chosen.append(Threshold(lowest.threshold, group.bound(lowest), group.name))
    return max(chosen, key=lambda threshold: threshold.score)


def largest_supported(max_fpir: float, calibration: Sequence[Group]) -> int:
    """The largest gallery for which every group has a point: the largest N with 1-(1-FMR)^N <= max_fpir."""
    worst = max(min(group.bound(point) for point in group.points) for group in calibration)
    if worst >= 1.0:
        return 0
    size = math.floor(math.log1p(-max_fpir) / math.log1p(-worst))
    while fpir(worst, size) > max_fpir:
        size -= 1
    return size


def select(scores: Sequence[float], threshold: Threshold, candidate_limit: int) -> tuple[int, ...]:
    """Positions in `scores` of the candidates to report: those that reach the threshold, best first, at most the limit.

    Equal scores keep their order, so that the same search gives the same list.
    """
    reached = [position for position, score in enumerate(scores) if score >= threshold.score]
    return tuple(sorted(reached, key=lambda position: -scores[position])[:candidate_limit])
