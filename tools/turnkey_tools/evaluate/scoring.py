"""What could lower FNMR beyond the raw cosine, and what each way gave on people who were not used to tune it.

Persons are split in two as in `holdout.py`. Whatever a way learns (a mean, a covariance, a cohort), it learns from one
half; its misses are counted on the other, at that half's own threshold for an FMR, beside the raw cosine's. A way pays
where it lowers the misses in both halves and at each FMR: a gain of some against a loss of others is none.

How wide the mirror image is cut is a number that somebody chooses, so the choice is measured as a way too: the width by
which one half of the persons misses least, used on the other half. A half's threshold at the lowest FMR hangs on a few
pairs of pictures, so everybody's misses at one threshold stand beside: what a device would see of a width.

Sources: within-class covariance normalisation (Hatch, Kajarekar & Stolcke, Interspeech 2006); two-covariance PLDA
(Brümmer & de Villiers, Odyssey 2010); adaptive symmetric normalisation (Matějka et al., Interspeech 2017). Covariances
are shrunk towards a multiple of the unit matrix.

Rules kept here:
1. No I/O, no randomness.
2. The ways, their few constants and what a width is chosen by stand here, written down before they are measured; none
   is chosen by its result on the half that is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnkey.vision.embedder import centred, unit
from turnkey_tools.evaluate.calibration import cohort_mean
from turnkey_tools.evaluate.holdout import halves
from turnkey_tools.evaluate.pairs import score_all_pairs

Matrix = NDArray[np.float32]
RATES = (1e-4, 1e-5, 1e-6)
_SHRINK = 0.2
_MOST_PICTURES = 10
"""Of one person, for a covariance: the set's most photographed would else be all of it."""


@dataclass(frozen=True, eq=False)
class Half:
    """One half's pictures.

    Attributes:
        plain: (n, d) unit norm, the face as it is.
        mirrors: (n, d) unit norm each, the mirror image by how many times as wide it is cut; the device's first.
        persons: (n,) rising.
    """

    plain: Matrix
    mirrors: dict[float, Matrix]
    persons: NDArray[np.int64]

    @property
    def room(self) -> float:
        """The device's."""
        return next(iter(self.mirrors))

    def raw(self, room: float) -> Matrix:
        """(n, d) unit norm, the mean of the face and a mirror image, as the device takes it."""
        return unit(self.plain + self.mirrors[room])


@dataclass(frozen=True)
class Choice:
    """What one half asks for.

    Attributes:
        half: the persons who were asked; `all` for everybody, at one threshold.
        room: how many times as wide the mirror image is cut.
        misses: of the half at each of `RATES`, by its own mean and thresholds.
        mean_log_fnmr: over `RATES`; the smaller the better (`choose_room`).
        chosen: it is the smallest.
    """

    half: str
    room: float
    misses: tuple[int, ...]
    mean_log_fnmr: float
    chosen: bool


@dataclass(frozen=True)
class Outcome:
    """What one way gave.

    Attributes:
        way: its name.
        half: which half was measured, by what the other taught; `both` for the sum.
        fmr: the rate that the threshold keeps over the half's impostor pairs.
        mated_pairs, misses: of the half.
        raw_misses: the raw cosine's.
    """

    way: str
    half: str
    fmr: float
    mated_pairs: int
    misses: int
    raw_misses: int

    @property
    def lower_by(self) -> float:
        """Share of the raw cosine's misses that are not made."""
        return 1 - self.misses / self.raw_misses if self.raw_misses else 0.0


def raw_cosine(_taught: Half, seen: Half) -> Matrix:
    """The published network's own score."""
    return seen.plain @ seen.plain.T


def centred_plain(taught: Half, seen: Half) -> Matrix:
    """One view, less the cohort mean."""
    return _cosine(centred(seen.plain, cohort_mean(taught.plain, taught.persons)))


def mirrored(_taught: Half, seen: Half) -> Matrix:
    """Both views averaged, not centred."""
    return _cosine(seen.raw(seen.room))


def shipped(taught: Half, seen: Half) -> Matrix:
    """Both views averaged, less the cohort mean: the device."""
    return _cosine(_taught(taught, seen, seen.room)[1])


def whitened(power: float) -> Callable[[Half, Half], Matrix]:
    """The shipped templates, times the within-person covariance to the power of -`power` (0.5 is WCCN)."""

    def score(taught: Half, seen: Half) -> Matrix:
        return _cosine(_whitened(*_taught(taught, seen, seen.room), taught.persons, power))

    return score


def likelihood_ratio(taught: Half, seen: Half) -> Matrix:
    """Two-covariance PLDA: is one person likelier than two?"""
    known, templates = _taught(taught, seen, seen.room)
    within, between = (_shrunk(part) for part in _covariances(known, taught.persons))
    total = between + within
    inverse = np.linalg.inv(total)
    schur = np.linalg.inv(total - between @ inverse @ between)
    wide = templates.astype(np.float64)
    own = np.einsum("ij,jk,ik->i", wide, inverse - schur, wide)
    return np.asarray(0.5 * (own[:, None] + own[None]) + wide @ (inverse @ between @ schur) @ wide.T, np.float32)


def normalised(best: int | None, share: float) -> Callable[[Half, Half], Matrix]:
    """The shipped score, each template's cohort scores taken into account (persons of the other half are the cohort).

    Args:
        best: how many of the cohort, the most alike; None for all.
        share: how much of their mean is taken away, without dividing by their spread; 0 for the full normalisation.
    """

    def score(taught: Half, seen: Half) -> Matrix:
        known, templates = _taught(taught, seen, seen.room)
        cohort = templates @ unit(_person_means(known, taught.persons)).T
        if best is not None:
            cohort = -np.partition(-cohort, min(best, cohort.shape[1]) - 1, axis=1)[:, :best]
        mean, spread = cohort.mean(axis=1), cohort.std(axis=1)
        scores = _cosine(templates)
        if share:
            return np.asarray(scores - share * (mean[:, None] + mean[None]) / 2, np.float32)
        one, other = (scores - mean[:, None]) / spread[:, None], (scores - mean[None]) / spread[None]
        return np.asarray((one + other) / 2, np.float32)

    return score


def by_agreement(taught: Half, seen: Half) -> Matrix:
    """The shipped score, and a little for faces whose two views agree: a bad picture's do not."""
    centre = cohort_mean(taught.raw(taught.room), taught.persons)
    agreement = (centred(seen.plain, centre) * centred(seen.mirrors[seen.room], centre)).sum(axis=1)
    return np.asarray(shipped(taught, seen) + 0.1 * (agreement[:, None] + agreement[None]), np.float32)


def with_room(room: float) -> Callable[[Half, Half], Matrix]:
    """As the device, but with the mirror image cut so many times as wide."""

    def score(taught: Half, seen: Half) -> Matrix:
        return _cosine(_taught(taught, seen, room)[1])

    return score


def with_room_asked_for(taught: Half, seen: Half) -> Matrix:
    """As the device, but with the mirror image cut as the taught half asks."""
    return with_room(choose_room(taught, "taught")[0])(taught, seen)


def choose_room(half: Half, name: str) -> tuple[float, tuple[Choice, ...]]:
    """The width by which a half misses least: the smallest mean, over `RATES`, of log((misses + 1/2) / mated pairs).

    A logarithm, so that each rate counts alike though the misses at the lowest are many times those at the highest.

    Args:
        name: of the half.
    """
    asked: list[tuple[float, float, list[int]]] = []
    for room in half.mirrors:
        raw = half.raw(room)
        scores = score_all_pairs(centred(raw, cohort_mean(raw, half.persons)), half.persons)
        pairs = len(scores.mated)
        misses = [round((1 - scores.tar(scores.threshold_at(rate))) * pairs) for rate in RATES]
        asked.append((float(np.mean(np.log((np.array(misses) + 0.5) / pairs))), room, misses))
    best = min(asked)[1]
    return best, tuple(Choice(name, room, tuple(misses), score, room == best) for score, room, misses in asked)


WAYS: dict[str, Callable[[Half, Half], Matrix]] = {
    "raw cosine, one view": raw_cosine,
    "one view, centred": centred_plain,
    "mirror averaged": mirrored,
    "mirror averaged, centred: shipped": shipped,
    "shipped, whitened within persons by a quarter power": whitened(0.25),
    "shipped, whitened within persons (WCCN)": whitened(0.5),
    "shipped, likelihood ratio (PLDA)": likelihood_ratio,
    "shipped, less half the mean of the 50 nearest of a cohort": normalised(50, 0.5),
    "shipped, normalised by the whole cohort (s-norm)": normalised(None, 0.0),
    "shipped, normalised by the 200 nearest (adaptive s-norm)": normalised(200, 0.0),
    "shipped, and how far both views agree": by_agreement,
}
"""Each way by name; the first is what the others are compared with."""
ASKED_FOR = "mirror image cut as wide as the other half asks for"


def ways_for(rooms: Sequence[float]) -> dict[str, Callable[[Half, Half], Matrix]]:
    """The ways, with one for each width but the device's (the first), and the choice among them all."""
    if len(rooms) == 1:
        return WAYS
    others = {f"mirror image cut {room:g} times as wide": with_room(room) for room in rooms[1:]}
    return WAYS | others | {ASKED_FOR: with_room_asked_for}


def compare_ways(
    views: NDArray[np.float32],
    rooms: Sequence[float],
    persons: NDArray[np.int64],
    names: list[str],
    tick: Callable[[int, int], None] = lambda _done, _of: None,
) -> tuple[tuple[Outcome, ...], tuple[Choice, ...]]:
    """Measure every way on both halves.

    Args:
        views: (n, 1 + rooms, d) unit norm, the face and its mirror images.
        rooms: how many times as wide each mirror image is cut; the device's first.
        persons: (n,) rising, places in `names`.
        tick: (done, of).

    Returns:
        By way, FMR and half, then the sum of both halves; and which width each half asks for.
    """
    first = halves(names)[persons]
    ways = ways_for(rooms)
    whole = {
        name: Half(
            np.ascontiguousarray(views[chosen, 0]),
            {room: np.ascontiguousarray(views[chosen, 1 + place]) for place, room in enumerate(rooms)},
            persons[chosen],
        )
        for name, chosen in (("first", first), ("second", ~first))
    }
    counted: dict[tuple[str, str], tuple[int, list[int]]] = {}
    steps = [(way, half) for half in whole for way in ways]
    for done, (way, half) in enumerate(steps):
        tick(done, len(steps))
        taught, seen = whole["second" if half == "first" else "first"], whole[half]
        counted[way, half] = count_misses(ways[way](taught, seen), seen.persons)
    tick(len(steps), len(steps))
    baseline = next(iter(ways))
    found: list[Outcome] = []
    for way in ways:
        for place, rate in enumerate(RATES):
            folds = [
                Outcome(way, half, rate, pairs, misses[place], counted[baseline, half][1][place])
                for half in whole
                for pairs, misses in (counted[way, half],)
            ]
            pairs, misses, raw = (
                sum(getattr(fold, what) for fold in folds) for what in ("mated_pairs", "misses", "raw_misses")
            )
            found += [*folds, Outcome(way, "both", rate, pairs, misses, raw)]
    choices = [choose_room(half, name)[1] for name, half in whole.items()]
    everybody = Half(views[:, 0], {room: views[:, 1 + place] for place, room in enumerate(rooms)}, persons)
    choices.append(choose_room(everybody, "all")[1])
    return tuple(found), tuple(choice for asked in choices for choice in asked)


def count_misses(scores: Matrix, persons: NDArray[np.int64]) -> tuple[int, list[int]]:
    """Mated pairs, and how many of them miss the lowest threshold that keeps each of `RATES`.

    Args:
        scores: (n, n) symmetric.
    """
    row, column = np.triu_indices(len(persons), 1)
    upper = scores[row, column]
    same = persons[row] == persons[column]
    mated, impostor = upper[same], upper[~same]
    misses = []
    for rate in RATES:
        allowed = int(rate * len(impostor))
        place = len(impostor) - allowed - 1
        highest = np.partition(impostor, place)[place]
        misses.append(int((mated <= highest).sum()))
    return len(mated), misses


def _cosine(templates: Matrix) -> Matrix:
    return np.asarray(templates @ templates.T, np.float32)


def _taught(taught: Half, seen: Half, room: float) -> tuple[Matrix, Matrix]:
    """Both halves' templates as the device makes them, by the mean of the taught one."""
    known, raw = taught.raw(room), seen.raw(room)
    mean = cohort_mean(known, taught.persons)
    return centred(known, mean), centred(raw, mean)


def _whitened(known: Matrix, templates: Matrix, persons: NDArray[np.int64], power: float) -> Matrix:
    """Templates times the covariance within the known persons to the power of -`power`, unit norm."""
    within, _ = _covariances(known, persons)
    values, vectors = np.linalg.eigh(_shrunk(within))
    return unit((templates @ (vectors * values**-power @ vectors.T)).astype(np.float32))


def _person_means(templates: Matrix, persons: NDArray[np.int64]) -> Matrix:
    _, starts, counts = np.unique(persons, return_index=True, return_counts=True)
    return np.asarray(np.add.reduceat(templates, starts, axis=0) / counts[:, None], np.float32)


def _covariances(templates: Matrix, persons: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Within persons and between them, of at most `_MOST_PICTURES` of each: (d, d) both."""
    _, starts, counts = np.unique(persons, return_index=True, return_counts=True)
    place = np.arange(len(persons)) - np.repeat(starts, counts)
    few, whose = templates[place < _MOST_PICTURES].astype(np.float64), persons[place < _MOST_PICTURES]
    _, starts, counts = np.unique(whose, return_index=True, return_counts=True)
    means = np.add.reduceat(few, starts, axis=0) / counts[:, None]
    away = few - np.repeat(means, counts, axis=0)
    within = away.T @ away / max(int((counts - 1).sum()), 1)
    return within, np.cov(means.T) - within * float((1 / counts).mean())


def _shrunk(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    side = len(covariance)
    return np.asarray((1 - _SHRINK) * covariance + _SHRINK * np.eye(side) * np.trace(covariance) / side)
