"""Ways of scoring side by side: the raw cosine, and what centring and the mirror image add to it; and the DET curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from turnkey.vision.embedder import centred
from turnkey_tools.evaluate.bootstrap import ImpostorTail, MatedPairs, impostor_tail, mated_pairs
from turnkey_tools.evaluate.calibration import cohort_mean
from turnkey_tools.evaluate.embeddings import Embeddings
from turnkey_tools.evaluate.pairs import PairScores
from turnkey_tools.evaluate.report import DetPoint, PipelineResult, Point

FALSE_MATCH_RATES = (1e-3, 1e-4, 1e-5, 1e-6)
TAIL_FMR = 2e-3
"""Impostor pairs above the threshold for this are looked at one by one."""
_DET_POINTS = 160


def ways_of_scoring(name: str, embeddings: Embeddings, mean: NDArray[np.float32]) -> list[PipelineResult]:
    """All four ways; the plain one is centred by its own mean, the mirrored one by `mean`."""
    plain_mean = cohort_mean(embeddings.plain, embeddings.persons)
    ways = [
        (False, False, embeddings.plain),
        (False, True, centred(embeddings.plain, plain_mean)),
        (True, False, embeddings.raw),
        (True, True, centred(embeddings.raw, mean)),
    ]
    counts = np.bincount(embeddings.persons).astype(np.int64)
    impostors = int((counts.sum() ** 2 - (counts**2).sum()) // 2)
    found = []
    for mirrored, is_centred, templates in ways:
        floor = _floor(templates, embeddings.persons)
        tail = impostor_tail(templates, embeddings.persons, floor, len(counts))
        mated = mated_pairs(templates, embeddings.persons)
        found.append(PipelineResult(name, mirrored, is_centred, points_of(tail, mated, impostors)))
    return found


def _floor(templates: NDArray[np.float32], persons: NDArray[np.int64]) -> float:
    """A score that some five times `TAIL_FMR` of the impostor pairs reach, from every n-th picture."""
    few = slice(None, None, max(1, len(templates) // 1500))
    chosen = templates[few]
    scores = chosen @ chosen.T
    return float(np.quantile(scores[persons[few][:, np.newaxis] < persons[few][np.newaxis]], 1 - 5 * TAIL_FMR))


def points_of(tail: ImpostorTail, mated: MatedPairs, impostor_pairs: int) -> tuple[Point, ...]:
    """TAR at each of `FALSE_MATCH_RATES` that the impostor pairs can show and the tail holds."""
    found = []
    for rate in FALSE_MATCH_RATES:
        allowed = int(rate * impostor_pairs)
        if 1 <= allowed < len(tail.scores):
            threshold = float(np.nextafter(tail.scores[allowed], np.float32(2)))
            found.append(Point(rate, threshold, float((mated.scores >= np.float32(threshold)).mean())))
    return tuple(found)


def det_curve(scores: PairScores) -> tuple[DetPoint, ...]:
    """FMR and FNMR at thresholds evenly spread over the decades of FMR that the pairs can show."""
    lowest = 1 / len(scores.impostor)
    points: list[DetPoint] = []
    for rate in np.geomspace(lowest, 0.5, _DET_POINTS):
        threshold = scores.threshold_at(float(rate))
        fmr = scores.fmr(threshold)
        if fmr > 0 and (not points or fmr > points[-1].fmr):
            points.append(DetPoint(fmr, 1 - scores.tar(threshold), threshold))
    return tuple(points)
