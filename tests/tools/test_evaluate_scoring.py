"""Ways of scoring: counted as a plain count counts, and taught by nobody whom they are measured on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tools_crowd import crowd

from turnkey.vision.embedder import unit
from turnkey_tools.evaluate.holdout import halves, hold_out
from turnkey_tools.evaluate.pairs import score_all_pairs
from turnkey_tools.evaluate.scoring import (
    ASKED_FOR,
    RATES,
    WAYS,
    Half,
    choose_room,
    compare_ways,
    count_misses,
    shipped,
    ways_for,
    whitened,
    with_room,
)

PERSONS = 240


def views(noisy: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2, 16) two views of each picture, and the persons; `noisy`: how far pictures vary along one direction."""
    templates, ids = crowd(PERSONS)
    random = np.random.default_rng(4)
    shaken = [templates + 0.1 * random.standard_normal(templates.shape) for _ in range(2)]
    both = np.stack(shaken, axis=1)
    both[:, :, 0] += noisy * random.standard_normal(len(ids))[:, None]
    return unit(both.astype(np.float32)), ids


def half(both: np.ndarray, ids: np.ndarray) -> Half:
    return Half(both[:, 0], {1.0: both[:, 1]}, ids)


def test_misses_are_those_of_a_plain_count() -> None:
    templates, ids = crowd(PERSONS)
    pairs, misses = count_misses(templates @ templates.T, ids)
    scores = score_all_pairs(templates, ids)
    assert pairs == len(scores.mated)
    plain = [round((1 - scores.tar(scores.threshold_at(rate))) * pairs) for rate in RATES]
    assert misses == plain


@pytest.mark.parametrize("way", WAYS)
def test_no_way_learns_from_those_it_is_measured_on(way: str) -> None:
    """Who the measured pictures show makes no difference to their scores, only to the count."""
    both, ids = views()
    taught, seen = half(both[ids < 120], ids[ids < 120]), half(both[ids >= 120], ids[ids >= 120] - 120)
    scores = WAYS[way](taught, seen)
    other = WAYS[way](taught, replace(seen, persons=np.arange(len(seen.persons))))
    np.testing.assert_array_equal(scores, other)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores, scores.T, atol=1e-4)


def test_whitening_pays_where_pictures_of_a_person_vary_in_one_direction() -> None:
    both, ids = views(noisy=1.0)
    taught, seen = half(both[ids < 120], ids[ids < 120]), half(both[ids >= 120], ids[ids >= 120] - 120)
    (_, plain), (_, less) = (count_misses(way(taught, seen), seen.persons) for way in (shipped, whitened(0.5)))
    assert less[0] < plain[0]


def test_both_halves_are_measured_and_summed() -> None:
    both, ids = views()
    names = [f"person {number}" for number in range(PERSONS)]
    outcomes, _ = compare_ways(both, (1.0,), ids, names)
    assert {one.way for one in outcomes} == set(WAYS)
    for way in WAYS:
        for rate in RATES:
            first, second, summed = (one for one in outcomes if (one.way, one.fmr) == (way, rate))
            assert (first.half, second.half, summed.half) == ("first", "second", "both")
            assert summed.misses == first.misses + second.misses
            assert summed.raw_misses == first.raw_misses + second.raw_misses
    assert all(one.misses == one.raw_misses for one in outcomes if one.way == next(iter(WAYS)))


def widths(noise: dict[float, tuple[float, float]]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(n, 1 + widths, 16) views, persons, names; `noise` of each width's mirror image in the first and second half."""
    templates, ids = crowd(PERSONS)
    names = [f"person {number}" for number in range(PERSONS)]
    first = halves(names)[ids]
    random = np.random.default_rng(5)
    spread = [np.where(first, *pair)[:, np.newaxis] for pair in ((0.1, 0.1), *noise.values())]
    shaken = [templates + one * random.standard_normal(templates.shape) for one in spread]
    return unit(np.stack(shaken, axis=1).astype(np.float32)), ids, names


def test_the_width_that_one_half_asks_for_is_measured_on_the_other() -> None:
    """Each half does best by another width: so each is measured by the one that does it no good."""
    both, ids, names = widths({1.0: (0.3, 0.3), 1.05: (0.05, 0.6), 1.1: (0.6, 0.05)})
    outcomes, choices = compare_ways(both, (1.0, 1.05, 1.1), ids, names)
    assert [(one.half, one.room) for one in choices if one.chosen][:2] == [("first", 1.05), ("second", 1.1)]
    assert [one.room for one in choices if one.half == "all"] == [1.0, 1.05, 1.1]

    def misses(way: str, half: str) -> list[int]:
        return [one.misses for one in outcomes if (one.way, one.half) == (way, half)]

    assert misses(ASKED_FOR, "first") == misses("mirror image cut 1.1 times as wide", "first")
    assert misses(ASKED_FOR, "second") == misses("mirror image cut 1.05 times as wide", "second")
    assert misses(ASKED_FOR, "first")[0] > misses("mirror image cut 1.05 times as wide", "first")[0]


def test_a_width_is_chosen_without_a_look_at_the_other_half() -> None:
    both, ids, _ = widths({1.0: (0.3, 0.3), 1.1: (0.2, 0.2)})
    taught, seen = (
        Half(both[part, 0], {1.0: both[part, 1], 1.1: both[part, 2]}, ids[part] - ids[part].min())
        for part in (ids < 120, ids >= 120)
    )
    room, choices = choose_room(taught, "taught")
    best = min(choices, key=lambda one: one.mean_log_fnmr)
    assert (best.room, [one.room for one in choices if one.chosen]) == (room, [room])
    other = replace(seen, persons=np.arange(len(seen.persons)))
    scores = ways_for((1.0, 1.1))[ASKED_FOR](taught, other)
    np.testing.assert_array_equal(scores, with_room(room)(taught, seen))


def test_the_shipped_way_is_the_evaluations() -> None:
    both, ids = views()
    names = [f"person {number}" for number in range(PERSONS)]
    told = hold_out(both[:, 0], unit(both.sum(axis=1)), ids, names)
    outcomes, _ = compare_ways(both, (1.0,), ids, names)
    assert told is not None
    found = {(one.half, one.fmr): one for one in outcomes if one.way.endswith("shipped")}
    for gain in told.gains:
        one = found[gain.half, gain.fmr]
        assert one.misses == round(gain.shipped_fnmr * gain.mated_pairs)
        assert one.raw_misses == round(gain.raw_fnmr * gain.mated_pairs)
