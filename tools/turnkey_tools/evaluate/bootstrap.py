"""95 % intervals by drawing persons again: FMR, FNMR and their like, for any threshold.

Pictures of one person, and pairs that share a person, are not independent; persons are. So persons are drawn with
replacement, and every pair counts as often as both of its persons were drawn together (Bolle, Ratha & Pankanti, "Error
analysis of pattern recognition systems: the subsets bootstrap", CVIU 2004; for pairs that share a person, Fogliato,
Patil & Perona, IJCV 2024). Where nothing was observed the bootstrap is silent, and where little was, too sure. There
the rule of three speaks: no upper bound is below 3/n for n independent trials, so that one error more never lowers it.

Rules kept here:
1. No I/O. The randomness is a seed, passed in: the same numbers every time.
2. A person drawn twice is not an impostor of themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from turnkey_tools.evaluate.pairs import PairScores

DRAWS = 400
_LOW, _HIGH = 0.025, 0.975


@dataclass(frozen=True)
class Interval:
    """A rate with its two-sided 95 % interval; `high` is at least 3/n, and just that where no error was seen."""

    rate: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Draws:
    """How often each person was drawn: (draws, persons) float32."""

    weights: NDArray[np.float32]

    @classmethod
    def make(cls, persons: int, seed: int, draws: int = DRAWS) -> Draws:
        """Draw `persons` persons with replacement, `draws` times."""
        random = np.random.default_rng(seed)
        counts = random.multinomial(persons, np.full(persons, 1 / persons), size=draws)
        return cls(counts.astype(np.float32))


@dataclass(frozen=True, eq=False)
class ImpostorTail:
    """The impostor picture pairs with the highest scores, with their persons.

    Attributes:
        one, other: (k,) int64 persons.
        scores: (k,) float32, falling.
        pictures: (persons,) pictures of each person.
        floor: every pair at or above it is here.
    """

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    scores: NDArray[np.float32]
    pictures: NDArray[np.int64]
    floor: float


@dataclass(frozen=True, eq=False)
class MatedPairs:
    """Every mated pair: (m,) persons and scores, and how many persons there are in all."""

    persons: NDArray[np.int64]
    scores: NDArray[np.float32]


def impostor_tail(
    templates: NDArray[np.float32], persons: NDArray[np.int64], floor: float, everybody: int
) -> ImpostorTail:
    """Every impostor picture pair at or above `floor`.

    Args:
        templates, persons: as for `score_all_pairs`.
        everybody: how many persons there are, those without a template too.
    """
    ones, others, scores = [], [], []
    for low in range(0, len(templates), 512):
        block = templates[low : low + 512] @ templates[low:].T
        row, column = np.nonzero(block >= np.float32(floor))
        one, other = persons[low + row], persons[low + column]
        kept = one < other
        ones.append(one[kept])
        others.append(other[kept])
        scores.append(block[row[kept], column[kept]])
    joined = np.concatenate(scores)
    order = np.argsort(-joined, kind="stable")
    pictures = np.bincount(persons, minlength=everybody)
    return ImpostorTail(np.concatenate(ones)[order], np.concatenate(others)[order], joined[order], pictures, floor)


def mated_pairs(templates: NDArray[np.float32], persons: NDArray[np.int64]) -> MatedPairs:
    """Every mated pair with its person."""
    edges = np.r_[np.flatnonzero(np.r_[True, np.diff(persons) != 0]), len(persons)]
    whose, scores = [], []
    for low, high in pairwise(edges.tolist()):
        if high - low > 1:
            block = templates[low:high] @ templates[low:high].T
            found = block[np.triu_indices(high - low, 1)]
            scores.append(found)
            whose.append(np.full(len(found), persons[low]))
    if not scores:
        return MatedPairs(np.empty(0, np.int64), np.empty(0, np.float32))
    return MatedPairs(np.concatenate(whose), np.concatenate(scores))


def fmr_intervals(scores: PairScores, tail: ImpostorTail, draws: Draws, thresholds: Sequence[float]) -> list[Interval]:
    """FMR over picture pairs at each threshold, which must be at or above the tail's floor."""
    weights, pictures = draws.weights, tail.pictures.astype(np.float32)
    seen = weights * pictures
    pairs = (seen.sum(axis=1, dtype=np.float64) ** 2 - (seen.astype(np.float64) ** 2).sum(axis=1)) / 2
    rates = np.zeros((len(thresholds), len(weights)))
    for draw, row in enumerate(weights):
        running = np.r_[0.0, np.cumsum(row[tail.one] * row[tail.other], dtype=np.float64)]
        for place, threshold in enumerate(thresholds):
            rates[place, draw] = running[_reaching(tail.scores, threshold)] / max(pairs[draw], 1.0)
    return [
        interval(scores.fmr(threshold), rates[place], len(scores.person_pairs))
        for place, threshold in enumerate(thresholds)
    ]


def fnmr_intervals(mated: MatedPairs, draws: Draws, thresholds: Sequence[float]) -> list[Interval]:
    """FNMR at each threshold; a trial of the rule of three is a person with a mated pair."""
    persons = draws.weights.shape[1]
    trials = np.bincount(mated.persons, minlength=persons).astype(np.float64)
    all_trials = draws.weights @ trials
    found = []
    for threshold in thresholds:
        lost = mated.scores < np.float32(threshold)
        errors = np.bincount(mated.persons[lost], minlength=persons).astype(np.float64)
        rates = (draws.weights @ errors) / np.maximum(all_trials, 1.0)
        found.append(interval(float(lost.mean()) if len(lost) else 0.0, rates, int((trials > 0).sum())))
    return found


def rate_interval(errors: NDArray[np.float64], trials: NDArray[np.float64], draws: Draws) -> Interval:
    """A rate whose errors and trials are counted by person: (persons,) each."""
    rates = drawn_rates(errors, trials, draws)
    return interval(float(errors.sum() / max(trials.sum(), 1.0)), rates, int((trials > 0).sum()))


def drawn_rates(errors: NDArray[np.float64], trials: NDArray[np.float64], draws: Draws) -> NDArray[np.float64]:
    """(draws,) the rate in each draw, of errors and trials counted by person."""
    return np.asarray((draws.weights @ errors) / np.maximum(draws.weights @ trials, 1.0), np.float64)


def interval(rate: float, rates: NDArray[np.float64], trials: int) -> Interval:
    """A rate with the interval that its draws give.

    Args:
        rates: (draws,).
        trials: independent ones, of the rule of three.
    """
    least = min(1.0, 3 / max(trials, 1))
    if rate <= 0:
        return Interval(0.0, 0.0, least)
    low, high = np.quantile(rates, (_LOW, _HIGH))
    return Interval(rate, min(float(low), rate), max(float(high), rate, least))


def _reaching(falling: NDArray[np.float32], threshold: float) -> int:
    """How many of the falling scores are at or above."""
    return int(np.searchsorted(-falling, -np.float32(threshold), side="right"))
