"""All pairs of pictures: false match rate, true accept rate, and the bound on person pairs.

Terms (ISO/IEC 19795-1): FMR is the share of impostor pairs at or above a threshold, TAR (1 - FNMR) the share of mated
pairs. No picture is left out for its quality; pictures without a template are counted as failures to acquire, beside
the rates.

Rules kept here:
1. Exhaustive: every pair is scored, once.
2. No I/O, no randomness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE = 512
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class PairScores:
    """Scores of all pairs, sorted rising.

    Attributes:
        impostor: (i,) float32, pairs of pictures of two persons.
        mated: (m,) float32, pairs of pictures of one person.
        person_pairs: (p,) float32, for each pair of persons the highest score of any of its picture pairs.
        persons, pictures: how many there were.
    """

    impostor: NDArray[np.float32]
    mated: NDArray[np.float32]
    person_pairs: NDArray[np.float32]
    persons: int
    pictures: int

    def threshold_at(self, fmr: float) -> float:
        """The lowest threshold whose false match rate over picture pairs is at most `fmr`."""
        allowed = int(fmr * len(self.impostor))
        return float(np.nextafter(self.impostor[len(self.impostor) - allowed - 1], np.float32(2)))

    def fmr(self, threshold: float) -> float:
        """Share of impostor picture pairs at or above."""
        return _at_or_above(self.impostor, threshold) / len(self.impostor)

    def tar(self, threshold: float) -> float:
        """Share of mated picture pairs at or above."""
        return _at_or_above(self.mated, threshold) / len(self.mated)

    def fmr_upper95(self, threshold: float) -> float:
        """One-sided 95 % upper bound of the false match rate, over person pairs."""
        return upper_bound(_at_or_above(self.person_pairs, threshold), len(self.person_pairs))


def score_all_pairs(templates: NDArray[np.float32], persons: NDArray[np.int64]) -> PairScores:
    """Score every pair.

    Args:
        templates: (n, d) float32 unit norm, pictures of a person next to each other.
        persons: (n,) person of each template, rising.
    """
    starts = np.flatnonzero(np.r_[True, np.diff(persons) != 0])
    impostor, mated, person_best = [], [], []
    for low in range(0, len(starts), _ROWS_AT_ONCE):
        first = starts[low]
        chosen = starts[low : low + _ROWS_AT_ONCE]
        end = starts[low + _ROWS_AT_ONCE] if low + _ROWS_AT_ONCE < len(starts) else len(templates)
        scores = templates[first:end] @ templates[first:].T
        row, column = persons[first:end, np.newaxis], persons[np.newaxis, first:]
        impostor.append(scores[row < column])
        later = np.arange(end - first)[:, np.newaxis] < np.arange(len(templates) - first)[np.newaxis]
        mated.append(scores[(row == column) & later])
        best = np.maximum.reduceat(np.maximum.reduceat(scores, chosen - first, axis=0), starts[low:] - first, axis=1)
        others = np.arange(best.shape[0])[:, np.newaxis] < np.arange(best.shape[1])[np.newaxis]
        person_best.append(best[others])
    return PairScores(
        np.sort(np.concatenate(impostor)),
        np.sort(np.concatenate(mated)),
        np.sort(np.concatenate(person_best)),
        len(starts),
        len(templates),
    )


def upper_bound(errors: int, trials: int) -> float:
    """Clopper-Pearson one-sided 95 % upper bound of a proportion; 3/n (rule of three, rounded up) where none erred.

    The p for which `errors` or fewer of `trials` have probability 5 %.
    """
    if errors >= trials:
        return 1.0
    if errors == 0:
        return min(1.0, 3.0 / trials)
    low, high = errors / trials, 1.0
    for _ in range(80):
        middle = (low + high) / 2
        if _log_binomial_cdf(errors, trials, middle) > math.log(1 - CONFIDENCE):
            low = middle
        else:
            high = middle
    return high


def _log_binomial_cdf(k: int, n: int, p: float) -> float:
    """log P(X <= k), X binomial(n, p), for p at or above k/n: the terms fall away below k."""
    span = min(k, int(40 * math.sqrt(k)) + 60)
    j = np.arange(k, k - span, -1, dtype=np.float64)
    ratios = np.log(j) + math.log1p(-p) - np.log(n - j + 1) - math.log(p)
    terms = np.concatenate([[0.0], np.cumsum(ratios)])
    top = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
    return top + float(np.log(np.exp(terms).sum()))


def _at_or_above(scores: NDArray[np.float32], threshold: float) -> int:
    return len(scores) - int(np.searchsorted(scores, np.float32(threshold), side="left"))
