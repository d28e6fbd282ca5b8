"""The demographic part: FMR and FNMR of each group and of each pair of groups, at thresholds set over everybody.

Terms as in ISO/IEC 19795-10: the threshold is one for all (that is how a device works), the rates are by group. FMR of
a pair of groups is over impostor pairs with one person of each.

Rules kept here:
1. A group that is too small to say anything says so, with what it would take: its rate is given only as a bound, and it
   does not enter the summary measures.
2. A zero in a ratio would make it infinite or nothing: where a group had no error, its 95 % upper bound (rule of three)
   takes the rate's place in the ratios, and the summary says that it did.
3. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from turnkey_tools.evaluate.attributes import Attribute
from turnkey_tools.evaluate.bootstrap import Draws, ImpostorTail, Interval, MatedPairs, rate_interval
from turnkey_tools.evaluate.differentials import Spread, garbe, spread
from turnkey_tools.evaluate.pairs import upper_bound

MIN_PERSONS = 30
"""Under it no interval over persons is worth its name (the bootstrap's usual floor)."""


@dataclass(frozen=True)
class GroupRates:
    """One group, at one threshold.

    Attributes:
        group: its name.
        persons: in it; `mated_persons` of them with two pictures or more.
        person_pairs: pairs of two persons of the group: the independent trials that the FMR's bound counts.
        fmr, fnmr: with intervals by person.
        says_fmr, says_fnmr: None where the data suffice, else why the group says nothing.
    """

    group: str
    persons: int
    mated_persons: int
    person_pairs: int
    fmr: Interval
    fnmr: Interval
    says_fmr: str | None
    says_fnmr: str | None


@dataclass(frozen=True)
class CrossRate:
    """FMR over impostor pairs with one person of each of two groups."""

    one: str
    other: str
    impostor_pairs: int
    fmr: float
    fmr_upper95: float


@dataclass(frozen=True)
class AttributePart:
    """One attribute at one threshold.

    Attributes:
        attribute: its name.
        target_fmr, threshold: set over everybody.
        labelled, not_labelled: persons.
        groups, pairs: the rates.
        fmr_spread, fnmr_spread: over the groups that can say something; None where fewer than two can.
        garbe: over the same; None likewise.
        bounds_used: groups whose bound stood in for a rate of zero in the ratios.
    """

    attribute: str
    target_fmr: float
    threshold: float
    labelled: int
    not_labelled: int
    groups: tuple[GroupRates, ...]
    pairs: tuple[CrossRate, ...]
    fmr_spread: Spread | None
    fnmr_spread: Spread | None
    garbe: float | None
    bounds_used: tuple[str, ...]


@dataclass(frozen=True)
class _Spreads:
    fmr: Spread | None
    fnmr: Spread | None
    garbe: float | None
    bounds_used: tuple[str, ...]


def attribute_part(
    attribute: Attribute, tail: ImpostorTail, mated: MatedPairs, draws: Draws, *, target_fmr: float, threshold: float
) -> AttributePart:
    """Rates by group at a threshold at or above the tail's floor."""
    reached = tail.scores >= np.float32(threshold)
    groups = tuple(
        _group(attribute, place, tail, reached, mated, draws, target_fmr, threshold)
        for place in range(len(attribute.groups))
    )
    spreads = _spreads(groups)
    return AttributePart(
        attribute=attribute.name,
        target_fmr=target_fmr,
        threshold=threshold,
        labelled=attribute.labelled,
        not_labelled=len(attribute.group_of) - attribute.labelled,
        groups=groups,
        pairs=_crossed(attribute, tail, reached),
        fmr_spread=spreads.fmr,
        fnmr_spread=spreads.fnmr,
        garbe=spreads.garbe,
        bounds_used=spreads.bounds_used,
    )


def _group(
    attribute: Attribute,
    place: int,
    tail: ImpostorTail,
    reached: NDArray[np.bool_],
    mated: MatedPairs,
    draws: Draws,
    target_fmr: float,
    threshold: float,
) -> GroupRates:
    inside = attribute.group_of == place
    persons = int(inside.sum())
    pairs = persons * (persons - 1) // 2
    within = reached & inside[tail.one] & inside[tail.other]
    fmr = _fmr_within(tail, within, inside, draws, pairs)
    ours = inside[mated.persons]
    everybody = len(attribute.group_of)
    trials = np.bincount(mated.persons[ours], minlength=everybody).astype(np.float64)
    lost = ours & (mated.scores < np.float32(threshold))
    misses = np.bincount(mated.persons[lost], minlength=everybody).astype(np.float64)
    mated_persons = int((trials > 0).sum())
    return GroupRates(
        group=attribute.groups[place],
        persons=persons,
        mated_persons=mated_persons,
        person_pairs=pairs,
        fmr=fmr,
        fnmr=rate_interval(misses, trials, draws),
        says_fmr=_too_small(persons, pairs, target_fmr),
        says_fnmr=None
        if mated_persons >= MIN_PERSONS
        else f"{mated_persons} persons with two pictures; at least {MIN_PERSONS} are needed",
    )


def _too_small(persons: int, pairs: int, target_fmr: float) -> str | None:
    if persons < MIN_PERSONS:
        return f"{persons} persons; at least {MIN_PERSONS} are needed"
    if pairs * target_fmr < 3:
        needed = int(np.ceil((1 + np.sqrt(1 + 24 / target_fmr)) / 2))
        return f"{pairs:,} person pairs cannot show an FMR of {target_fmr:.0e}; {needed:,} persons would"
    return None


def _fmr_within(
    tail: ImpostorTail, within: NDArray[np.bool_], inside: NDArray[np.bool_], draws: Draws, pairs: int
) -> Interval:
    pictures = np.where(inside, tail.pictures, 0).astype(np.float64)
    trials = (pictures.sum() ** 2 - (pictures**2).sum()) / 2
    if not trials:
        return Interval(0.0, 0.0, 1.0)
    if not within.any():
        return Interval(0.0, 0.0, min(1.0, 3 / max(pairs, 1)))
    one, other = tail.one[within], tail.other[within]
    seen = draws.weights.astype(np.float64) * pictures
    drawn = (seen.sum(axis=1) ** 2 - (seen**2).sum(axis=1)) / 2
    errors = np.array([float((row[one] * row[other]).sum()) for row in draws.weights])
    rate = int(within.sum()) / trials
    low, high = np.quantile(errors / np.maximum(drawn, 1.0), (0.025, 0.975))
    return Interval(float(rate), min(float(low), float(rate)), max(float(high), float(rate)))


def _crossed(attribute: Attribute, tail: ImpostorTail, reached: NDArray[np.bool_]) -> tuple[CrossRate, ...]:
    one, other = tail.one[reached], tail.other[reached]
    of_one, of_other = attribute.group_of[one], attribute.group_of[other]
    inside = [attribute.group_of == place for place in range(len(attribute.groups))]
    found = []
    for first, second in combinations(range(len(inside)), 2):
        crossed = ((of_one == first) & (of_other == second)) | ((of_one == second) & (of_other == first))
        trials = int(tail.pictures[inside[first]].sum()) * int(tail.pictures[inside[second]].sum())
        person_pairs = int(inside[first].sum()) * int(inside[second].sum())
        erring = len(np.unique(one[crossed] * len(attribute.group_of) + other[crossed]))
        rate = int(crossed.sum()) / max(trials, 1)
        bound = upper_bound(erring, max(person_pairs, 1))
        found.append(CrossRate(attribute.groups[first], attribute.groups[second], trials, rate, max(bound, rate)))
    return tuple(found)


def _spreads(groups: tuple[GroupRates, ...]) -> _Spreads:
    for_fmr = [group for group in groups if group.says_fmr is None]
    for_fnmr = [group for group in groups if group.says_fnmr is None]
    fmrs, fnmrs = [_or_bound(g.fmr) for g in for_fmr], [_or_bound(g.fnmr) for g in for_fnmr]
    bounded = {g.group for g in for_fmr if g.fmr.rate <= 0} | {g.group for g in for_fnmr if g.fnmr.rate <= 0}
    both = [group for group in for_fmr if group.says_fnmr is None]
    return _Spreads(
        fmr=spread(fmrs) if len(fmrs) > 1 else None,
        fnmr=spread(fnmrs) if len(fnmrs) > 1 else None,
        garbe=garbe([_or_bound(g.fmr) for g in both], [_or_bound(g.fnmr) for g in both]),
        bounds_used=tuple(sorted(bounded)),
    )


def _or_bound(interval: Interval) -> float:
    return interval.rate if interval.rate > 0 else interval.high
