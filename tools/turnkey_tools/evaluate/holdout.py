"""Does what was learned from some people hold for others? Persons are split in two; each half is tuned on the other.

What is learned from faces: the cohort mean and the calibration table. So on each half: FNMR of the raw cosine and of
the shipped scoring with the other half's cohort mean, both at their own thresholds for an FMR; and whether the other
half's table keeps its promise: the FMR observed at each claimed threshold against the claimed bound.

Rules kept here:
1. The split is by the hash of the person's name: nobody chose it, and it stays.
2. No picture of a person is on both sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnkey.vision.embedder import centred
from turnkey.vision.manifest import GroupCalibration
from turnkey_tools.evaluate.calibration import calibrate_group, cohort_mean
from turnkey_tools.evaluate.faces import MIN_PERSONS
from turnkey_tools.evaluate.pairs import PairScores, score_all_pairs

RATES = (1e-4, 1e-5)


@dataclass(frozen=True)
class Gain:
    """FNMR at one FMR on one half, raw and shipped."""

    half: str
    fmr: float
    persons: int
    mated_pairs: int
    raw_fnmr: float
    shipped_fnmr: float

    @property
    def lower_by(self) -> float:
        """Share of the raw cosine's misses that the shipped scoring does not make."""
        return 1 - self.shipped_fnmr / self.raw_fnmr if self.raw_fnmr > 0 else 0.0


@dataclass(frozen=True)
class Claim:
    """A row of one half's table, and what was observed on the other half."""

    half: str
    threshold: float
    claimed_fmr: float
    claimed_upper95: float
    observed_fmr: float

    @property
    def holds(self) -> bool:
        """The observed rate is inside the claimed bound."""
        return self.observed_fmr <= self.claimed_upper95


@dataclass(frozen=True)
class Holdout:
    """Both halves."""

    gains: tuple[Gain, ...]
    claims: tuple[Claim, ...]

    @property
    def pooled(self) -> tuple[Gain, ...]:
        """Two-fold cross-validation: the misses of both halves, each scored by the other's tuning, over all pairs."""
        found = []
        for rate in sorted({gain.fmr for gain in self.gains}, reverse=True):
            folds = [gain for gain in self.gains if gain.fmr == rate]
            pairs = sum(gain.mated_pairs for gain in folds)
            raw = sum(gain.raw_fnmr * gain.mated_pairs for gain in folds) / pairs
            shipped = sum(gain.shipped_fnmr * gain.mated_pairs for gain in folds) / pairs
            found.append(Gain("both", rate, sum(gain.persons for gain in folds), pairs, raw, shipped))
        return tuple(found)

    @property
    def broken(self) -> tuple[Claim, ...]:
        """Claims that did not hold."""
        return tuple(claim for claim in self.claims if not claim.holds)


def halves(names: Sequence[str]) -> NDArray[np.bool_]:
    """(persons,) whether each person is in the first half."""
    return np.array([hashlib.sha256(name.encode()).digest()[0] % 2 == 0 for name in names])


def hold_out(
    plain: NDArray[np.float32], raw: NDArray[np.float32], persons: NDArray[np.int64], names: Sequence[str]
) -> Holdout | None:
    """Measure both halves on each other; None where a half has fewer than `faces.MIN_PERSONS`.

    Args:
        plain: (n, d) raw cosine's embeddings: one view, not centred.
        raw: (n, d) the shipped embeddings before centring.
        persons: (n,) rising, places in `names`.
    """
    first = halves(names)[persons]
    if min(len(np.unique(persons[first])), len(np.unique(persons[~first]))) < MIN_PERSONS:
        return None
    gains: list[Gain] = []
    claims: list[Claim] = []
    for half, tuned, seen in (("first", ~first, first), ("second", first, ~first)):
        mean = cohort_mean(raw[tuned], persons[tuned])
        table = calibrate_group("all", score_all_pairs(centred(raw[tuned], mean), persons[tuned]))
        shipped = score_all_pairs(centred(raw[seen], mean), persons[seen])
        gains += _gains(half, score_all_pairs(plain[seen], persons[seen]), shipped)
        claims += _claims(half, table, shipped)
    return Holdout(tuple(gains), tuple(claims))


def _gains(half: str, raw: PairScores, shipped: PairScores) -> list[Gain]:
    return [
        Gain(
            half=half,
            fmr=rate,
            persons=shipped.persons,
            mated_pairs=len(shipped.mated),
            raw_fnmr=1 - raw.tar(raw.threshold_at(rate)),
            shipped_fnmr=1 - shipped.tar(shipped.threshold_at(rate)),
        )
        for rate in RATES
        if rate * len(shipped.impostor) >= 1 and len(shipped.mated)
    ]


def _claims(half: str, table: GroupCalibration, shipped: PairScores) -> list[Claim]:
    return [Claim(half, row.threshold, row.fmr, row.fmr_upper95, shipped.fmr(row.threshold)) for row in table.rows]
