"""The demographic part: FMR and FNMR of each group and of each pair of groups, at thresholds set over everybody.

Terms as in ISO/IEC 19795-10: the threshold is one for all (that is how a device works), the rates are by group. FMR of
a pair of groups is over impostor pairs with one person of each.

Rules kept here:
1. A group that is too small to say anything says so, with what it would take: its rate is given only as a bound, and it
   does not enter the summary measures.
2. A zero in a ratio would make it infinite or nothing: where a group had no error, its 95 % upper bound (rule of three)
   takes the rate's place in the ratios, and the summary says that it did.
3. A summary measure has bounds too: it is computed anew for each draw of persons. Chance alone makes groups differ, so
   over groups that fare alike the measures lie above their best value, and so do their bounds.
4. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from turnkey_tools.evaluate.attributes import Attribute
from turnkey_tools.evaluate.bootstrap import (
    Draws,
    ImpostorTail,
    Interval,
    MatedPairs,
    drawn_rates,
    interval,
    rate_interval,
)
from turnkey_tools.evaluate.differentials import garbe, spread
from turnkey_tools.evaluate.pairs import upper_bound

MIN_PERSONS = 30
"""Under it no interval over persons is worth its name (the bootstrap's usual floor)."""


@dataclass(frozen=True)
class GroupRates:
    """One group, at one threshold.

    Attributes:
        group: its name.
        persons: in it with a template; `mated_persons` of them with two or more.
        failure_to_acquire: share of its pictures that gave no template, with its interval by person.
        person_pairs: pairs of two persons of the group: the independent trials that the FMR's bound counts.
        fmr, fnmr: with intervals by person.
        says_fmr, says_fnmr: None where the data suffice, else why the group says nothing.
    """

    group: str
    persons: int
    mated_persons: int
    person_pairs: int
    failure_to_acquire: Interval
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
class Bounded:
    """A summary measure, and 95 % of what it was over the draws of persons."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class BoundedSpread:
    """See `differentials.Spread`, with bounds."""

    max_over_geometric_mean: Bounded | None
    max_over_min: Bounded | None
    gini: Bounded | None


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
    fmr_spread: BoundedSpread | None
    fnmr_spread: BoundedSpread | None
    garbe: Bounded | None
    bounds_used: tuple[str, ...]


@dataclass(frozen=True)
class _Spreads:
    fmr: BoundedSpread | None
    fnmr: BoundedSpread | None
    garbe: Bounded | None
    bounds_used: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Group:
    """A group's rates, and what they were in each draw: (draws,) each; no zeros in what a ratio is made of."""

    rates: GroupRates
    drawn_fmr: NDArray[np.float64]
    drawn_fnmr: NDArray[np.float64]


def attribute_part(
    attribute: Attribute,
    listed: NDArray[np.int64],
    tail: ImpostorTail,
    mated: MatedPairs,
    draws: Draws,
    *,
    target_fmr: float,
    threshold: float,
) -> AttributePart:
    """Rates by group at a threshold at or above the tail's floor.

    Args:
        listed: (persons,) pictures of each, those without a template too.
    """
    reached = tail.scores >= np.float32(threshold)
    groups = tuple(
        _group(attribute, place, listed, tail, reached, mated, draws, target_fmr, threshold)
        for place in range(len(attribute.groups))
    )
    spreads = _spreads(groups)
    rates = tuple(group.rates for group in groups)
    return AttributePart(
        attribute=attribute.name,
        target_fmr=target_fmr,
        threshold=threshold,
        labelled=attribute.labelled,
        not_labelled=len(attribute.group_of) - attribute.labelled,
        groups=rates,
        pairs=_crossed(attribute, tail, reached),
        fmr_spread=spreads.fmr,
        fnmr_spread=spreads.fnmr,
        garbe=spreads.garbe,
        bounds_used=spreads.bounds_used,
    )


def _group(
    attribute: Attribute,
    place: int,
    listed: NDArray[np.int64],
    tail: ImpostorTail,
    reached: NDArray[np.bool_],
    mated: MatedPairs,
    draws: Draws,
    target_fmr: float,
    threshold: float,
) -> _Group:
    members = attribute.group_of == place
    inside = members & (tail.pictures > 0)  # who gave no template is compared with nobody
    persons = int(inside.sum())
    pairs = persons * (persons - 1) // 2
    within = reached & inside[tail.one] & inside[tail.other]
    drawn_fmr = _drawn_fmr(tail, within, inside, draws)
    ours = inside[mated.persons]
    everybody = len(attribute.group_of)
    trials = np.bincount(mated.persons[ours], minlength=everybody).astype(np.float64)
    lost = ours & (mated.scores < np.float32(threshold))
    misses = np.bincount(mated.persons[lost], minlength=everybody).astype(np.float64)
    mated_persons = int((trials > 0).sum())
    without = np.where(members, listed - tail.pictures, 0).astype(np.float64)
    rates = GroupRates(
        group=attribute.groups[place],
        persons=persons,
        mated_persons=mated_persons,
        person_pairs=pairs,
        failure_to_acquire=rate_interval(without, np.where(members, listed, 0).astype(np.float64), draws),
        fmr=_fmr_within(tail, within, inside, drawn_fmr, pairs),
        fnmr=rate_interval(misses, trials, draws),
        says_fmr=_too_small(persons, pairs, target_fmr),
        says_fnmr=None
        if mated_persons >= MIN_PERSONS
        else f"{mated_persons} persons with two pictures; at least {MIN_PERSONS} are needed",
    )
    drawn_fnmr = drawn_rates(misses, trials, draws)
    return _Group(
        rates,
        np.where(drawn_fmr > 0, drawn_fmr, min(1.0, 3 / max(pairs, 1))),
        np.where(drawn_fnmr > 0, drawn_fnmr, min(1.0, 3 / max(mated_persons, 1))),
    )


def _too_small(persons: int, pairs: int, target_fmr: float) -> str | None:
    if persons < MIN_PERSONS:
        return f"{persons} persons; at least {MIN_PERSONS} are needed"
    if pairs * target_fmr < 3:
        needed = int(np.ceil((1 + np.sqrt(1 + 24 / target_fmr)) / 2))
        return f"{pairs:,} person pairs cannot show an FMR of {target_fmr:.0e}; {needed:,} persons would"
    return None


def _drawn_fmr(
    tail: ImpostorTail, within: NDArray[np.bool_], inside: NDArray[np.bool_], draws: Draws
) -> NDArray[np.float64]:
    """(draws,) FMR over the picture pairs inside a group, in each draw."""
    one, other = tail.one[within], tail.other[within]
    seen = draws.weights.astype(np.float64) * np.where(inside, tail.pictures, 0)
    trials = (seen.sum(axis=1) ** 2 - (seen**2).sum(axis=1)) / 2
    errors = np.array([float((row[one] * row[other]).sum()) for row in draws.weights])
    return np.asarray(errors / np.maximum(trials, 1.0), np.float64)


def _fmr_within(
    tail: ImpostorTail, within: NDArray[np.bool_], inside: NDArray[np.bool_], drawn: NDArray[np.float64], pairs: int
) -> Interval:
    pictures = np.where(inside, tail.pictures, 0).astype(np.float64)
    trials = (pictures.sum() ** 2 - (pictures**2).sum()) / 2
    if not trials:
        return Interval(0.0, 0.0, 1.0)
    return interval(float(int(within.sum()) / trials), drawn, pairs)


def _crossed(attribute: Attribute, tail: ImpostorTail, reached: NDArray[np.bool_]) -> tuple[CrossRate, ...]:
    one, other = tail.one[reached], tail.other[reached]
    of_one, of_other = attribute.group_of[one], attribute.group_of[other]
    inside = [(attribute.group_of == place) & (tail.pictures > 0) for place in range(len(attribute.groups))]
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


def _spreads(groups: tuple[_Group, ...]) -> _Spreads:
    for_fmr = [group for group in groups if group.rates.says_fmr is None]
    for_fnmr = [group for group in groups if group.rates.says_fnmr is None]
    both = [group for group in for_fmr if group.rates.says_fnmr is None]
    bounded = {g.rates.group for g in for_fmr if g.rates.fmr.rate <= 0}
    bounded |= {g.rates.group for g in for_fnmr if g.rates.fnmr.rate <= 0}
    weighed = [garbe(fmrs, fnmrs) for fmrs, fnmrs in zip(_fmrs(both), _fnmrs(both), strict=True)]
    return _Spreads(
        fmr=_bounded_spread(_fmrs(for_fmr)),
        fnmr=_bounded_spread(_fnmrs(for_fnmr)),
        garbe=_bounded(weighed),
        bounds_used=tuple(sorted(bounded)),
    )


def _fmrs(groups: list[_Group]) -> list[list[float]]:
    """A list of all groups' rates as they are, then one for each draw."""
    return _as_is_then_drawn([_or_bound(one.rates.fmr) for one in groups], [one.drawn_fmr for one in groups])


def _fnmrs(groups: list[_Group]) -> list[list[float]]:
    return _as_is_then_drawn([_or_bound(one.rates.fnmr) for one in groups], [one.drawn_fnmr for one in groups])


def _as_is_then_drawn(rates: list[float], drawn: list[NDArray[np.float64]]) -> list[list[float]]:
    return [rates, *(np.stack(drawn, axis=1).tolist() if drawn else [])]


def _bounded_spread(rates: list[list[float]]) -> BoundedSpread | None:
    if len(rates[0]) < 2:
        return None
    found = [spread(row) for row in rates]
    return BoundedSpread(
        _bounded([one.max_over_geometric_mean for one in found]),
        _bounded([one.max_over_min for one in found]),
        _bounded([one.gini for one in found]),
    )


def _bounded(values: list[float | None]) -> Bounded | None:
    """The first value, bounded by the others."""
    value, told = values[0], [one for one in values[1:] if one is not None]
    if value is None or not told:
        return None
    low, high = np.quantile(told, (0.025, 0.975))
    return Bounded(value, min(float(low), value), max(float(high), value))


def _or_bound(interval: Interval) -> float:
    return interval.rate if interval.rate > 0 else interval.high
