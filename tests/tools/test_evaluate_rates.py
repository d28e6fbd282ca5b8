"""Intervals, searches, groups, held-out halves: against plain counts, hand-made cases and the definitions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tools_crowd import crowd

from turnkey_tools.evaluate.attributes import Attribute, AttributesError, read_attributes
from turnkey_tools.evaluate.bootstrap import (
    Draws,
    fmr_intervals,
    fnmr_intervals,
    impostor_tail,
    mated_pairs,
    rate_interval,
)
from turnkey_tools.evaluate.differentials import garbe, gini, max_over_geometric_mean, max_over_min, spread
from turnkey_tools.evaluate.groups import MIN_PERSONS, attribute_part
from turnkey_tools.evaluate.holdout import halves, hold_out
from turnkey_tools.evaluate.pairs import score_all_pairs
from turnkey_tools.evaluate.search import CANDIDATES, search_all
from turnkey_tools.evaluate.ways import det_curve


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([0.1, 0.1, 0.1], 0.0),
        ([1.0, 0.0], 1.0),  # one of two bears everything
        ([0.0, 0.0, 0.0, 5.0], 1.0),
        ([1.0, 3.0], 0.5),  # 2/1 * (2*2) / (2*4*2)
        ([1.0, 2.0, 3.0], 1 / 3),  # 3/2 * 8 / (2*9*2)
    ],
)
def test_gini_of_small_cases(rates: list[float], expected: float) -> None:
    assert gini(rates) == pytest.approx(expected)


def test_gini_is_that_of_the_sorted_form() -> None:
    """Independent: G = sum (2i - n - 1) x_i / (n sum x), with n/(n-1)."""
    random = np.random.default_rng(1)
    for n in (2, 5, 40):
        x = np.sort(random.gamma(1, 1, n))
        sorted_form = float(((2 * np.arange(1, n + 1) - n - 1) * x).sum() / (n * x.sum())) * n / (n - 1)
        assert gini(x.tolist()) == pytest.approx(sorted_form)


def test_garbe_weighs_both_errors() -> None:
    assert garbe([1, 3], [1, 1]) == pytest.approx(0.25)
    assert garbe([1, 3], [1, 0], alpha=0.25) == pytest.approx(0.25 * 0.5 + 0.75)
    assert garbe([0, 0], [1, 1]) is None


def test_ratios_of_small_cases_and_what_cannot_be_told() -> None:
    assert max_over_geometric_mean([1, 4]) == pytest.approx(2)
    assert max_over_geometric_mean([8, 1, 1]) == pytest.approx(4)
    assert max_over_min([2, 6, 3]) == 3
    assert spread([0.1, 0.0]).max_over_min is None
    assert spread([0.1]) == spread([]) != spread([0.1, 0.1])


def test_the_tail_and_the_mated_pairs_are_those_of_a_plain_count() -> None:
    templates, ids = crowd(150)
    scores = score_all_pairs(templates, ids)
    floor = scores.threshold_at(0.01)
    tail = impostor_tail(templates, ids, floor, 150)
    assert tail.scores.tolist() == pytest.approx(scores.impostor[scores.impostor >= floor][::-1].tolist(), abs=1e-6)
    assert (tail.one < tail.other).all()
    mated = mated_pairs(templates, ids)
    np.testing.assert_allclose(np.sort(mated.scores), scores.mated, atol=1e-6)


def test_intervals_hold_the_rate_and_the_truth_of_a_large_crowd() -> None:
    """The rate over 3,000 persons lies inside the interval that 200 of them gave, in nearly every world."""
    everybody, ids = crowd(3000, seed=3)
    all_scores = score_all_pairs(everybody, ids)
    threshold = all_scores.threshold_at(0.01)
    inside = 0
    for world in range(20):
        chosen = (ids >= world * 150) & (ids < (world + 1) * 150)
        templates, some = everybody[chosen], ids[chosen] - world * 150
        scores, draws = score_all_pairs(templates, some), Draws.make(150, seed=world)
        tail = impostor_tail(templates, some, threshold, 150)
        (fmr,) = fmr_intervals(scores, tail, draws, [threshold])
        assert fmr.low <= fmr.rate <= fmr.high
        assert fmr.rate == pytest.approx(scores.fmr(threshold))
        inside += fmr.low <= all_scores.fmr(threshold) <= fmr.high
    assert inside >= 16


def test_no_error_seen_is_the_rule_of_three_over_persons() -> None:
    templates, ids = crowd(60)
    draws, mated = Draws.make(60, 1), mated_pairs(templates, ids)
    (fnmr,) = fnmr_intervals(mated, draws, [-1.0])
    assert (fnmr.rate, fnmr.low) == (0, 0)
    assert fnmr.high == pytest.approx(3 / len(np.unique(mated.persons)))


def test_an_error_more_never_lowers_the_bound() -> None:
    """One miss in thousands of pairs of few persons: the bootstrap alone would claim far less than for no miss."""
    trials, draws = np.full(60, 190.0), Draws.make(60, 1)
    bounds = [rate_interval(np.eye(60)[0] * misses, trials, draws).high for misses in (0, 1, 20, 190)]
    assert bounds == sorted(bounds)
    assert bounds[0] == bounds[1] == 3 / 60
    templates, ids = crowd(80)
    part, _, _ = part_for(("a", "b"), np.arange(80) % 2, templates, ids, 0.0005)
    for group in part.groups:
        assert group.fmr.high >= 3 / group.person_pairs


def test_draws_are_the_seeds() -> None:
    np.testing.assert_array_equal(Draws.make(50, 7).weights, Draws.make(50, 7).weights)
    assert (Draws.make(50, 7).weights.sum(axis=1) == 50).all()


def test_the_det_curve_falls_and_ends_where_the_data_end() -> None:
    scores = score_all_pairs(*crowd(200))
    curve = det_curve(scores)
    assert [point.fmr for point in curve] == sorted({point.fmr for point in curve})
    assert [point.fnmr for point in curve] == sorted((point.fnmr for point in curve), reverse=True)
    assert curve[0].fmr >= 1 / len(scores.impostor)
    for point in curve:
        assert point.fmr == pytest.approx(float((scores.impostor >= np.float32(point.threshold)).mean()))
        assert point.fnmr == pytest.approx(float((scores.mated < np.float32(point.threshold)).mean()))


def test_searches_keep_the_fpir_they_claim() -> None:
    templates, ids = crowd(400)
    scores = score_all_pairs(templates, ids)
    results = search_all(templates, ids, scores, Draws.make(400, 1), seed=1, sizes=(50, 200, 5000))
    assert [result.gallery for result in results] == [50, 200]  # 5,000 do not fit
    for result in results:
        assert result.non_mated == result.repeats * (400 - result.gallery)
        for point in result.points:
            assert 0 < point.observed_fpir <= point.fpir
            assert point.fnir.low <= point.fnir.rate <= point.fnir.high
        assert [p.fnir.rate for p in result.points] == sorted((p.fnir.rate for p in result.points), reverse=True)


def test_everybody_is_found_where_all_pictures_of_a_person_are_one() -> None:
    templates = np.eye(120, dtype=np.float32)[np.repeat(np.arange(120), 2)]
    ids = np.repeat(np.arange(120), 2)
    (result,) = search_all(templates, ids, score_all_pairs(templates, ids), Draws.make(120, 1), seed=1, sizes=(50,))
    assert result.rank_one == 1
    assert all(point.fnir.rate == 0 for point in result.points)
    assert CANDIDATES == 5


def part_for(groups: tuple[str, ...], group_of: np.ndarray, templates: np.ndarray, ids: np.ndarray, target: float):  # type: ignore[no-untyped-def]
    scores = score_all_pairs(templates, ids)
    threshold = scores.threshold_at(target)
    everybody = len(group_of)
    return (
        attribute_part(
            Attribute("kind", groups, group_of),
            np.bincount(ids, minlength=everybody),
            impostor_tail(templates, ids, threshold, everybody),
            mated_pairs(templates, ids),
            Draws.make(everybody, 1),
            target_fmr=target,
            threshold=threshold,
        ),
        scores,
        threshold,
    )


def test_rates_by_group_are_those_of_a_plain_count() -> None:
    templates, ids = crowd(300)
    group_of = np.arange(300) % 3 - 1  # a third is not labelled
    part, _, threshold = part_for(("a", "b"), group_of, templates, ids, 0.01)
    assert (part.labelled, part.not_labelled) == (200, 100)
    above = templates @ templates.T >= np.float32(threshold)
    other = np.triu(ids[:, None] != ids, 1)
    for place, group in enumerate(part.groups):
        inside = group_of[ids] == place
        within = np.ix_(inside, inside)
        assert group.fmr.rate == pytest.approx(float((above & other)[within].sum() / other[within].sum()))
        same = np.triu(ids[:, None] == ids, 1)[within]
        assert group.fnmr.rate == pytest.approx(float((~above)[within][same].mean()))
    (pair,) = part.pairs
    crossed = np.ix_(group_of[ids] == 0, group_of[ids] == 1)
    assert pair.fmr == pytest.approx(float(above[crossed].mean()))
    assert pair.impostor_pairs == above[crossed].size
    assert pair.fmr_upper95 >= pair.fmr
    assert part.fmr_spread is not None
    rates = [group.fmr.rate for group in part.groups]
    told = part.fmr_spread.gini
    assert told is not None
    assert told.value == pytest.approx(gini(rates))
    assert told.low <= told.value <= told.high
    assert part.garbe is not None
    missed = [group.fnmr.rate or group.fnmr.high for group in part.groups]
    assert part.garbe.value == pytest.approx(garbe(rates, missed))
    assert part.garbe.low < part.garbe.high


def test_a_group_that_is_too_small_says_so_and_is_not_compared() -> None:
    templates, ids = crowd(120)
    group_of = np.where(np.arange(120) < MIN_PERSONS - 1, 0, 1)
    part, _, _ = part_for(("few", "many"), group_of, templates, ids, 0.01)
    few, many = part.groups
    assert few.says_fmr is not None
    assert f"at least {MIN_PERSONS}" in few.says_fmr
    assert many.says_fmr is None
    assert part.fmr_spread is None
    part, _, _ = part_for(("a", "b"), np.arange(120) % 2, templates, ids, 0.001)
    reason = part.groups[0].says_fmr
    assert reason is not None
    needed = int(reason.split(";")[1].split()[0])
    assert needed * (needed - 1) / 2 * 0.001 >= 3 > (needed - 1) * (needed - 2) / 2 * 0.001


def test_whose_face_was_not_found_counts_against_the_group_and_not_as_a_trial() -> None:
    """Of a second group of the same size the pictures of half of the persons gave no template."""
    templates, ids = crowd(200)
    group_of = np.arange(200) % 2
    found = (group_of[ids] == 0) | (ids % 4 == 1)
    listed = np.bincount(ids)
    threshold = score_all_pairs(templates, ids).threshold_at(0.01)
    part = attribute_part(
        Attribute("kind", ("seen", "lost"), group_of),
        listed,
        impostor_tail(templates[found], ids[found], threshold, 200),
        mated_pairs(templates[found], ids[found]),
        Draws.make(200, 1),
        target_fmr=0.01,
        threshold=threshold,
    )
    seen, lost = part.groups
    assert (seen.persons, lost.persons) == (100, 50)
    assert lost.person_pairs == 50 * 49 // 2
    assert (seen.failure_to_acquire.rate, seen.failure_to_acquire.high) == (0, 0.03)
    expected = listed[np.arange(200) % 4 == 3].sum() / listed[group_of == 1].sum()
    assert lost.failure_to_acquire.rate == pytest.approx(expected)
    assert lost.failure_to_acquire.low < expected < lost.failure_to_acquire.high


def test_a_worse_group_is_seen() -> None:
    """Persons of the second group look like each other: more of their impostor pairs reach any threshold."""
    templates, ids = crowd(300)
    group_of = (np.arange(300) >= 150).astype(np.int64)
    shift = np.zeros(16, np.float32)
    shift[0] = 0.6
    templates = templates + shift * (group_of[ids] == 1)[:, None]
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    part, _, _ = part_for(("plain", "alike"), group_of, templates, ids, 0.01)
    plain, alike = part.groups
    assert alike.fmr.low > plain.fmr.high
    assert part.fmr_spread is not None
    ratio = part.fmr_spread.max_over_min
    assert ratio is not None
    assert ratio.value == pytest.approx(alike.fmr.rate / plain.fmr.rate)
    assert ratio.low > 1, "the difference is beyond chance"


def test_groups_that_fare_alike_are_within_chance() -> None:
    """Labels given by lot: the ratio's bounds reach down to hardly any difference."""
    templates, ids = crowd(300)
    part, _, _ = part_for(("a", "b"), np.random.default_rng(5).integers(0, 2, 300), templates, ids, 0.01)
    assert part.fmr_spread is not None
    ratio = part.fmr_spread.max_over_min
    assert ratio is not None
    assert 1 <= ratio.low < 1.1


def test_halves_are_by_name_and_stay() -> None:
    names = [f"person {number}" for number in range(1000)]
    first = halves(names)
    assert 400 < first.sum() < 600
    np.testing.assert_array_equal(halves(names[::-1]), first[::-1])


def test_held_out_claims_hold_on_a_crowd_of_one_kind() -> None:
    templates, ids = crowd(500)
    found = hold_out(templates, templates, ids, [f"person {number}" for number in range(500)])
    assert found is not None
    assert {gain.half for gain in found.gains} == {"first", "second"}
    assert len(found.broken) <= len(found.claims) // 20
    for pooled in found.pooled:
        folds = [gain for gain in found.gains if gain.fmr == pooled.fmr]
        misses = sum(round(gain.shipped_fnmr * gain.mated_pairs) for gain in folds)
        assert pooled.mated_pairs == sum(gain.mated_pairs for gain in folds)
        assert pooled.shipped_fnmr == pytest.approx(misses / pooled.mated_pairs)
    assert hold_out(templates[:3], templates[:3], np.array([0, 0, 0]), ["one"]) is None
    few = ids < 9  # one half has at most four, who cannot show a table's first row
    assert hold_out(templates[few], templates[few], ids[few], [f"person {number}" for number in range(9)]) is None


def test_the_csv_of_attributes(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("person,sex,skin\nAda,female,IV\nBob,male,\n")
    sex, skin = read_attributes(file, ["Ada", "Bob", "Cy"])
    assert (sex.groups, sex.group_of.tolist(), sex.labelled) == (("female", "male"), [0, 1, -1], 2)
    assert (skin.groups, skin.group_of.tolist()) == (("IV",), [0, -1, -1])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,sex\nAda,f\n", "first line"),
        ("person\nAda\n", "first line"),
        ("person,sex,sex\nAda,f,f\n", "first line"),
        ("person,sex,\nAda,f,\n", "first line"),
        ("person,person,sex\nAda,Bob,f\n", "first line"),
        ("person,sex\nZoe,f\n", "no such folder"),
        ("person,sex\nAda,f\nAda,m\n", "second line"),
        ("person,sex\nAda,f,m\n", "too many"),
        ("person,sex\nAda\n", "too few"),
        ("", "first line"),
    ],
)
def test_a_csv_that_cannot_be_trusted_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(AttributesError, match=says):
        read_attributes(file, ["Ada", "Bob"])


def test_a_csv_of_another_encoding_is_refused_and_a_byte_order_mark_is_not(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes("person,sex\nZoé,f\n".encode("latin-1"))
    with pytest.raises(AttributesError, match="UTF-8"):
        read_attributes(file, ["Zoé"])
    file.write_bytes("person, sex\nZoé,f\n".encode("utf-8-sig"))
    (sex,) = read_attributes(file, ["Zoé"])
    assert (sex.name, sex.labelled) == ("sex", 1)


def test_the_persons_needed_are_told_in_persons() -> None:
    """n (n-1) / 2 pairs at a rate of 1e-4 give three errors at n = 246 (30,135 pairs)."""
    assert math.ceil((1 + math.sqrt(1 + 24 / 1e-4)) / 2) == 246
