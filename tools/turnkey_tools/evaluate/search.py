"""1:N: how many mates a search misses (FNIR) at how many false alarms (FPIR), for galleries of several sizes.

Terms (ISO/IEC 19795-1): a mated search has a mate in the gallery, a non-mated one has none. FPIR is the share of
non-mated searches with a candidate at or above the threshold; FNIR the share of mated searches whose mate is not among
the first `CANDIDATES` at or above it. Rank-1 is the share of mated searches whose mate comes first, whatever its score.

Rules kept here:
1. One template a person is enrolled; probes are other pictures. A person who is not enrolled is searched for with one
   picture, so that no face counts more than another among the non-mated.
2. Persons with one picture only fill the gallery and the non-mated searches.
3. Several draws of who is enrolled, out of a seed; rates are pooled, their intervals are over persons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnkey.leads.decision import fpir as predicted_fpir
from turnkey_tools.evaluate.bootstrap import Draws, Interval, rate_interval
from turnkey_tools.evaluate.pairs import PairScores

FPIRS = (0.003, 0.01, 0.1)
SIZES = (100, 300, 1000, 2000)
CANDIDATES = 5
_REPEATS = 10
# A mated probe a person and draw: more would let the persons with hundreds of pictures speak for all.
_PROBES_A_PERSON = 3


@dataclass(frozen=True)
class SearchPoint:
    """At this FPIR over the non-mated searches.

    Attributes:
        fpir: asked for.
        threshold: the lowest whose observed FPIR is at most that.
        observed_fpir: there.
        fnir: with its interval by person.
        predicted_fpir: 1-(1-FMR)^N with the FMR over all pairs at that threshold: what the device's rule expects.
    """

    fpir: float
    threshold: float
    observed_fpir: float
    fnir: Interval
    predicted_fpir: float


@dataclass(frozen=True)
class SearchResult:
    """One size of gallery.

    Attributes:
        gallery: templates enrolled, one a person.
        repeats: draws of who is enrolled.
        mated, non_mated: searches over all draws.
        rank_one: share of mated searches whose mate came first.
        points: by rising FPIR; an FPIR that the non-mated searches cannot show is left out.
    """

    gallery: int
    repeats: int
    mated: int
    non_mated: int
    rank_one: float
    points: tuple[SearchPoint, ...]


@dataclass(frozen=True, eq=False)
class _Searches:
    """Pooled over the draws: best score of each non-mated search; person, score and rank (0 first) of each mate."""

    alarms: NDArray[np.float32]
    mates: NDArray[np.int64]
    mate_scores: NDArray[np.float32]
    ranks: NDArray[np.int64]


def search_all(
    templates: NDArray[np.float32],
    persons: NDArray[np.int64],
    scores: PairScores,
    draws: Draws,
    *,
    seed: int,
    sizes: Sequence[int] = SIZES,
) -> tuple[SearchResult, ...]:
    """Search galleries of each size that leaves at least half as many persons to search for in vain.

    Args:
        templates, persons: as for `score_all_pairs`; persons counted from 0 without a gap.
        scores: of all pairs, for the prediction.
        draws: of persons, for intervals.
        seed: of who is enrolled.
    """
    everybody = int(persons[-1]) + 1
    usable = [size for size in sizes if size * 1.5 <= everybody]
    return tuple(_summary(size, _search(templates, persons, size, seed), scores, draws) for size in usable)


def _search(templates: NDArray[np.float32], persons: NDArray[np.int64], size: int, seed: int) -> _Searches:
    counts = np.bincount(persons)
    first = np.r_[0, np.cumsum(counts)[:-1]]
    alarms, mates, mate_scores, ranks = [], [], [], []
    for repeat in range(_REPEATS):
        random = np.random.default_rng((seed, size, repeat))
        order = random.permutation(len(counts))
        enrolled, strangers = order[:size], order[size:]
        chosen = first[enrolled] + random.integers(0, counts[enrolled])
        gallery = templates[chosen]
        stray = first[strangers] + random.integers(0, counts[strangers])
        alarms.append((templates[stray] @ gallery.T).max(axis=1))
        rows, places = _mated_probes(enrolled, chosen, first, counts, random)
        found = templates[rows] @ gallery.T
        own = found[np.arange(len(rows)), places]
        mates.append(enrolled[places])
        mate_scores.append(own)
        ranks.append((found > own[:, np.newaxis]).sum(axis=1))
    return _Searches(*(np.concatenate(parts) for parts in (alarms, mates, mate_scores, ranks)))


def _mated_probes(
    enrolled: NDArray[np.int64],
    chosen: NDArray[np.int64],
    first: NDArray[np.int64],
    counts: NDArray[np.int64],
    random: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of mated probes, and each one's place in the gallery."""
    rows, places = [], []
    for place in np.flatnonzero(counts[enrolled] > 1):
        person = enrolled[place]
        others = np.setdiff1d(np.arange(first[person], first[person] + counts[person]), chosen[place])
        probes = random.permutation(others)[:_PROBES_A_PERSON]
        rows.append(probes)
        places.append(np.full(len(probes), place))
    if not rows:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(rows), np.concatenate(places)


def _summary(size: int, searches: _Searches, scores: PairScores, draws: Draws) -> SearchResult:
    falling = np.sort(searches.alarms)[::-1]
    everybody = draws.weights.shape[1]
    trials = np.bincount(searches.mates, minlength=everybody).astype(np.float64)
    points = []
    for rate in FPIRS:
        allowed = int(rate * len(falling))
        if allowed < 1:
            continue
        threshold = float(np.nextafter(falling[allowed], np.float32(2)))
        missed = (searches.mate_scores < np.float32(threshold)) | (searches.ranks >= CANDIDATES)
        errors = np.bincount(searches.mates[missed], minlength=everybody).astype(np.float64)
        points.append(
            SearchPoint(
                fpir=rate,
                threshold=threshold,
                observed_fpir=float((falling >= np.float32(threshold)).mean()),
                fnir=rate_interval(errors, trials, draws),
                predicted_fpir=predicted_fpir(scores.fmr(threshold), size),
            )
        )
    return SearchResult(
        gallery=size,
        repeats=_REPEATS,
        mated=len(searches.mates),
        non_mated=len(falling),
        rank_one=float((searches.ranks == 0).mean()) if len(searches.ranks) else 0.0,
        points=tuple(points),
    )
