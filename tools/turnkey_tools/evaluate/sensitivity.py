"""What worse pictures cost: mates missed as a picture gets smaller, blurred, dark or compressed, or the head turned.

Rules kept here:
1. One picture of a person is made worse, another is left as it is: a booking's bad picture against a good enrolment.
2. Pose is not made but found: mated pairs are sorted by the larger yaw of the two, as the landmarks have it.
3. The threshold is the one for FMR 1e-4 over everybody: it does not follow the pictures, as on a device.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from turnkey.vision.embedder import centred, unit
from turnkey.vision.pose import pose_degrees
from turnkey_tools.evaluate.conditions import CONDITIONS, Condition
from turnkey_tools.evaluate.embeddings import Embeddings, Task
from turnkey_tools.evaluate.faces import Picture
from turnkey_tools.evaluate.pairs import upper_bound
from turnkey_tools.evaluate.pipeline import Seen

AT_FMR = 1e-4
_YAW_EDGES = (0.0, 10.0, 20.0, 30.0, 90.0)


@dataclass(frozen=True)
class SensitivityRow:
    """One condition.

    Attributes:
        kind, amount: what was done (`conditions.Condition`), or `none`.
        pictures: made worse, one a person.
        inter_eye_px: median distance of the eyes in the changed pictures, pixels.
        without_face: of these no template came.
        median_score: of the others with another picture of the same person.
        fnmr: share below the threshold; pictures without a face count as missed.
        fnmr_upper95: one-sided.
    """

    kind: str
    amount: float
    pictures: int
    inter_eye_px: float
    without_face: int
    median_score: float
    fnmr: float
    fnmr_upper95: float


@dataclass(frozen=True)
class PoseRow:
    """Mated pairs whose more turned face has a yaw from `low` to `high` degrees."""

    low: float
    high: float
    pairs: int
    persons: int
    fnmr: float


def chosen_pairs(embeddings: Embeddings, count: int) -> list[tuple[int, int]]:
    """(probe, reference) rows of the embeddings: one pair each for `count` persons, evenly spread."""
    starts = np.flatnonzero(np.r_[True, np.diff(embeddings.persons) != 0])
    counts = np.diff(np.r_[starts, len(embeddings.persons)])
    several = starts[counts > 1]
    step = max(1, len(several) // max(1, count))
    return [(int(start), int(start) + 1) for start in several[::step][:count]]


def tasks_for(
    pictures: list[Picture], embeddings: Embeddings, pairs: list[tuple[int, int]]
) -> list[tuple[Condition | None, list[Task]]]:
    """The probes as they are, and made worse by each condition."""
    probes = [pictures[int(embeddings.rows[probe])] for probe, _ in pairs]
    return [(condition, [Task(probe, condition) for probe in probes]) for condition in (None, *CONDITIONS)]


def sensitivity_row(
    condition: Condition | None,
    seen: list[Seen | None],
    references: NDArray[np.float32],
    centre: NDArray[np.float32],
    threshold: float,
) -> SensitivityRow:
    """Score what one condition gave.

    Args:
        seen: of the probes, in order.
        references: (n, d) centred templates of the other pictures, in the same order.
    """
    scores, distances, missed = [], [], 0
    for one, reference in zip(seen, references, strict=True):
        if one is None:
            missed += 1
            continue
        template = centred(unit(one.views.sum(axis=0)), centre)
        scores.append(float(template @ reference))
        distances.append(float(np.linalg.norm(one.landmarks[0] - one.landmarks[1])))
    errors = missed + sum(score < threshold for score in scores)
    return SensitivityRow(
        kind="none" if condition is None else condition.kind,
        amount=0.0 if condition is None else condition.amount,
        pictures=len(seen),
        inter_eye_px=float(np.median(distances)) if distances else 0.0,
        without_face=missed,
        median_score=float(np.median(scores)) if scores else 0.0,
        fnmr=errors / max(1, len(seen)),
        fnmr_upper95=upper_bound(errors, len(seen)) if seen else 1.0,
    )


def pose_rows(
    templates: NDArray[np.float32], persons: NDArray[np.int64], landmarks: NDArray[np.float32], threshold: float
) -> tuple[PoseRow, ...]:
    """FNMR by the larger yaw of each mated pair; at most 200 pictures a person are paired."""
    yaws = np.array([abs(pose_degrees(points)[0]) for points in landmarks])
    edges = np.flatnonzero(np.r_[True, np.diff(persons) != 0, True])
    turned, lost, whose = [], [], []
    for low, high in pairwise(edges.tolist()):
        end = min(high, low + 200)
        one, other = np.triu_indices(end - low, 1)
        if len(one):
            block = templates[low:end] @ templates[low:end].T
            turned.append(np.maximum(yaws[low + one], yaws[low + other]))
            lost.append(block[one, other] < np.float32(threshold))
            whose.append(np.full(len(one), persons[low]))
    if not turned:
        return ()
    yaw, missed, person = np.concatenate(turned), np.concatenate(lost), np.concatenate(whose)
    rows = []
    for bottom, top in pairwise(_YAW_EDGES):
        inside = (yaw >= bottom) & (yaw < top)
        if inside.any():
            counts = int(inside.sum())
            rows.append(PoseRow(bottom, top, counts, len(np.unique(person[inside])), float(missed[inside].mean())))
    return tuple(rows)
