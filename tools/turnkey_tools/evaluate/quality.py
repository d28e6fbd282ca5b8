"""Is the score of a picture's quality worth anything? Error-versus-discard, rate by tenth, each component by itself.

Terms: an error-versus-discard curve (Grother and Tabassi, IEEE TPAMI 2007; ISO/IEC 29794-1) leaves out the worst
pictures by a score and asks what FNMR the rest has, at the threshold of the whole. A pair is left out with either of
its pictures.

Rules kept here:
1. Persons are split in two halves by a hash of their names. What is fitted (nothing but the two lengths between which
   the score runs) is looked at on one half, and the curve is given for each half by itself.
2. Thresholds are those of all impostor pairs of the pictures measured.
3. No I/O, no randomness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnkey_tools.evaluate.holdout import halves
from turnkey_tools.evaluate.pairs import PairScores
from turnkey_tools.evaluate.quality_faces import COMPONENT_NAMES, Faces

DISCARDED = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)
FMRS = (1e-4, 1e-5)
TENTHS = 10


@dataclass(frozen=True)
class Curve:
    """One error-versus-discard curve.

    Attributes:
        half: of the persons: `first`, `second`, or `all`.
        fmr, threshold: where the errors are counted.
        mated_pairs, errors: with nothing discarded.
        discarded: shares of the pictures left out.
        fnmr: of the rest, one for each share.
    """

    half: str
    fmr: float
    threshold: float
    mated_pairs: int
    errors: int
    discarded: tuple[float, ...]
    fnmr: tuple[float, ...]

    def lower_by(self, share: float) -> float:
        """How much lower FNMR is with this share discarded, of what is there: 0.4 is 40 % lower."""
        first, then = self.fnmr[0], self.fnmr[self.discarded.index(share)]
        return 1 - then / first if first else 0.0


@dataclass(frozen=True)
class Tenth:
    """A tenth of the mated pairs, by the lower score of the two pictures."""

    lowest_score: float
    highest_score: float
    pairs: int
    fnmr: float


@dataclass(frozen=True)
class ComponentValue:
    """One component: where it lies on these faces, and what discarding the worst tenth by it alone would do.

    Attributes:
        name: field of `vision.quality.Components`.
        percentiles: 1st, 50th and 99th.
        lower_by: FNMR at FMR 1e-4, share of what is there; negative where it rises.
    """

    name: str
    percentiles: tuple[float, float, float]
    lower_by: float


@dataclass(frozen=True, eq=False)
class MatedPairs:
    """Pairs of pictures of one person: (m,) places of both, and their scores."""

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    scores: NDArray[np.float32]

    def lower(self, goodness: NDArray[np.float64]) -> NDArray[np.float64]:
        """(m,) goodness of the worse picture of each pair."""
        return np.asarray(np.minimum(goodness[self.one], goodness[self.other]))


def mated_pairs(faces: Faces, kept: NDArray[np.bool_]) -> MatedPairs:
    """Every pair of pictures of one person among those kept."""
    ones, others = [], []
    places = np.flatnonzero(kept)
    for chosen in np.split(places, np.flatnonzero(np.diff(faces.persons[places])) + 1):
        i, j = np.triu_indices(len(chosen), 1)
        ones.append(chosen[i])
        others.append(chosen[j])
    one, other = np.concatenate(ones), np.concatenate(others)
    scores = np.einsum("nd,nd->n", faces.templates[one], faces.templates[other])
    return MatedPairs(one, other, np.asarray(scores, dtype=np.float32))


def curves(faces: Faces, names: Sequence[str], scores: PairScores) -> list[Curve]:
    """The unified score's curves: each half, and all.

    Args:
        names: of the persons, for the halves.
        scores: of all pairs of these faces, for the thresholds.
    """
    first = halves(names)[faces.persons]
    parts = {"first": first, "second": ~first, "all": np.ones(len(first), bool)}
    return [
        _curve(half, faces, kept, faces.lengths, fmr, scores.threshold_at(fmr))
        for half, kept in parts.items()
        if kept.any()
        for fmr in FMRS
    ]


def tenths(faces: Faces, score: NDArray[np.float64], threshold: float) -> list[Tenth]:
    """FNMR of each tenth of all mated pairs, the worst first.

    Args:
        score: (n,) unified score of each picture, not rounded.
    """
    pairs = mated_pairs(faces, np.ones(len(faces.persons), bool))
    lower = pairs.lower(score)
    edges = np.quantile(lower, np.linspace(0, 1, TENTHS + 1))
    place = np.clip(np.searchsorted(edges, lower, side="right") - 1, 0, TENTHS - 1)
    found = []
    for tenth in range(TENTHS):
        chosen = pairs.scores[place == tenth]
        found.append(Tenth(float(edges[tenth]), float(edges[tenth + 1]), len(chosen), _below(chosen, threshold)))
    return found


def component_values(faces: Faces, threshold: float) -> list[ComponentValue]:
    """Each component by itself; for signed angles and what should be small, less is better."""
    everybody = np.ones(len(faces.persons), bool)
    found = []
    for name in COMPONENT_NAMES:
        values = np.abs(faces.component(name))
        good = values if name in _MORE_IS_BETTER else -values
        curve = _curve("all", faces, everybody, good, FMRS[0], threshold)
        low, middle, high = np.percentile(faces.component(name), (1, 50, 99))
        found.append(ComponentValue(name, (float(low), float(middle), float(high)), curve.lower_by(0.1)))
    return found


_MORE_IS_BETTER = frozenset({"inter_eye_px", "head_share", "highlight", "light_evenness", "eyes_open", "sharpness"})


def _curve(
    half: str,
    faces: Faces,
    kept: NDArray[np.bool_],
    goodness: NDArray[np.float64],
    fmr: float,
    threshold: float,
) -> Curve:
    pairs = mated_pairs(faces, kept)
    lower = pairs.lower(goodness)
    floors = np.quantile(goodness[kept], DISCARDED)
    return Curve(
        half=half,
        fmr=fmr,
        threshold=threshold,
        mated_pairs=len(pairs.scores),
        errors=int((pairs.scores < np.float32(threshold)).sum()),
        discarded=DISCARDED,
        fnmr=tuple(_below(pairs.scores[lower >= floor], threshold) for floor in floors),
    )


def _below(scores: NDArray[np.float32], threshold: float) -> float:
    return float((scores < np.float32(threshold)).mean()) if len(scores) else 0.0
