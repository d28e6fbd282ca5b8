"""Ways of scoring: counted as a plain count counts, and taught by nobody whom they are measured on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tools_crowd import crowd

from turnkey.vision.embedder import unit
from turnkey_tools.evaluate.holdout import hold_out
from turnkey_tools.evaluate.pairs import score_all_pairs
from turnkey_tools.evaluate.scoring import RATES, ROOMY, WAYS, Half, compare_ways, count_misses, shipped, whitened

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
    return Half(both[:, 0], both[:, 1], unit(both.sum(axis=1)), ids)


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
    outcomes = compare_ways(both, ids, names)
    assert {one.way for one in outcomes} == set(WAYS)
    for way in WAYS:
        for rate in RATES:
            first, second, summed = (one for one in outcomes if (one.way, one.fmr) == (way, rate))
            assert (first.half, second.half, summed.half) == ("first", "second", "both")
            assert summed.misses == first.misses + second.misses
            assert summed.raw_misses == first.raw_misses + second.raw_misses
    assert all(one.misses == one.raw_misses for one in outcomes if one.way == next(iter(WAYS)))


def test_more_room_around_the_mirror_image_is_measured_where_it_was_cut() -> None:
    both, ids = views()
    names = [f"person {number}" for number in range(PERSONS)]
    outcomes = compare_ways(both, ids, names, roomy=both)
    counted = {way: [one.misses for one in outcomes if one.way == way] for way in WAYS | ROOMY}
    centred, whitened_too = ROOMY
    assert counted[centred] == counted["mirror averaged, centred: shipped"]
    assert counted[whitened_too] == counted["shipped, whitened within persons by a quarter power"]


def test_the_shipped_way_is_the_evaluations() -> None:
    both, ids = views()
    names = [f"person {number}" for number in range(PERSONS)]
    told = hold_out(both[:, 0], unit(both.sum(axis=1)), ids, names)
    assert told is not None
    found = {(one.half, one.fmr): one for one in compare_ways(both, ids, names) if one.way.endswith("shipped")}
    for gain in told.gains:
        one = found[gain.half, gain.fmr]
        assert one.misses == round(gain.shipped_fnmr * gain.mated_pairs)
        assert one.raw_misses == round(gain.raw_fnmr * gain.mated_pairs)
