"""From the scores of all pairs to the calibration table that travels with the embedder.

Rules kept here:
1. Thresholds stand on a grid of 0.0001, rounded up: the table says the same on every processor.
2. The table ends where the data end: its last row is the first threshold that no person pair reaches, and carries 3/n.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from turnkey.vision.manifest import CalibrationRow, GroupCalibration
from turnkey_tools.evaluate.pairs import PairScores

_ROWS_PER_DECADE = 8
_LARGEST_FMR = 0.1
_GRID = 10_000


def calibrate_group(name: str, scores: PairScores) -> GroupCalibration:
    """The table of one group of persons."""
    rows: list[CalibrationRow] = []
    beyond = _grid_above(float(scores.person_pairs[-1]))
    target = _LARGEST_FMR
    while target * len(scores.impostor) >= 1:
        threshold = min(_grid_above(scores.threshold_at(target)), beyond)
        if threshold < beyond and (not rows or threshold > rows[-1].threshold):
            rows.append(_row(scores, threshold))
        target /= 10 ** (1 / _ROWS_PER_DECADE)
    rows.append(_row(scores, beyond))
    pairs = len(scores.person_pairs)
    return GroupCalibration(
        group=name,
        persons=scores.persons,
        pictures=scores.pictures,
        impostor_pairs=len(scores.impostor),
        person_pairs=pairs,
        smallest_fmr=_significant(3 / pairs),
        rows=tuple(rows),
    )


def cohort_mean(raw: NDArray[np.float32], persons: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean embedding with every person weighing the same, however many pictures there are; rounded to six decimals.

    Args:
        raw: (n, d) float32 unit norm.
        persons: (n,) rising.
    """
    starts = np.flatnonzero(np.r_[True, np.diff(persons) != 0])
    sums = np.add.reduceat(raw.astype(np.float64), starts, axis=0)
    counts = np.diff(np.r_[starts, len(raw)])
    return np.asarray(np.round((sums / counts[:, np.newaxis]).mean(axis=0), 6), dtype=np.float32)


def _row(scores: PairScores, threshold: float) -> CalibrationRow:
    return CalibrationRow(
        threshold=threshold,
        fmr=_significant(scores.fmr(threshold)),
        fmr_upper95=_significant(scores.fmr_upper95(threshold)),
    )


def _grid_above(score: float) -> float:
    return (math.floor(score * _GRID) + 1) / _GRID


def _significant(rate: float) -> float:
    """Four significant digits, rounded up: a bound must not shrink in print."""
    if rate <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(rate)) - 3)
    return float(f"{math.ceil(rate / unit - 1e-9) * unit:.4g}")
