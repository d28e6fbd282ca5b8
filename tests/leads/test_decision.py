"""The decision: thresholds that know the gallery's size, and refuse beyond the evidence."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkey.leads.decision import (
    GalleryTooLarge,
    Group,
    OperatingPoint,
    Threshold,
    fpir,
    largest_supported,
    select,
    threshold_for,
)


def group(name: str, *points: tuple[float, float], person_pairs: int = 10**12) -> Group:
    return Group(name, tuple(OperatingPoint(*point) for point in points), person_pairs)


ALL = group("all", (0.2, 1e-2), (0.3, 1e-3), (0.4, 1e-4), (0.5, 1e-5), (0.6, 1e-6))


def test_fpir_of_one_template_is_the_fmr_and_of_many_is_the_binomial() -> None:
    assert fpir(1e-3, 1) == pytest.approx(1e-3)
    assert fpir(1e-4, 1000) == pytest.approx(1 - (1 - 1e-4) ** 1000)
    assert fpir(0.0, 10**9) == 0.0
    assert fpir(1.0, 3) == 1.0


@pytest.mark.parametrize(("size", "score"), [(1, 0.2), (9, 0.3), (100, 0.4), (1_000, 0.5), (10_000, 0.6)])
def test_the_threshold_rises_with_the_gallery(size: int, score: float) -> None:
    chosen = threshold_for(size, 0.01, [ALL])
    assert isinstance(chosen, Threshold)
    assert chosen.score == score


def test_the_worst_group_decides() -> None:
    worse = group("harder", (0.3, 1e-2), (0.5, 1e-4), (0.7, 1e-6))
    chosen = threshold_for(100, 0.01, [ALL, worse])
    assert chosen == Threshold(0.5, 1e-4, "harder")


def test_beyond_the_evidence_the_search_is_refused_with_the_largest_gallery() -> None:
    refused = threshold_for(10_051, 0.01, [ALL])
    assert refused == GalleryTooLarge(10_051, 10_050)
    assert isinstance(threshold_for(10_050, 0.01, [ALL]), Threshold)
    assert "10050" in refused.message


def test_a_group_without_evidence_stops_every_search() -> None:
    assert threshold_for(1, 0.01, [ALL, group("unmeasured", (0.9, 1.0))]) == GalleryTooLarge(1, 0)


def test_no_table_claims_more_than_its_pairs_can_show() -> None:
    """Rule of three: with n pairs and no error among them, the bound is 3/n, whatever the table says."""
    bold = group("bold", (0.4, 1e-4), (0.6, 1e-9), person_pairs=3_000_000)
    chosen = threshold_for(1_000, 0.01, [bold])
    assert chosen == Threshold(0.6, 1e-6, "bold")
    assert threshold_for(10_051, 0.01, [bold]) == GalleryTooLarge(10_051, 10_050)
    few = group("few", (0.9, 1e-9), person_pairs=30)
    assert threshold_for(1, 0.01, [ALL, few]) == GalleryTooLarge(1, 0), "a group too small to say anything"


@pytest.mark.parametrize(
    ("size", "rate", "groups"),
    [
        (0, 0.01, [ALL]),
        (5, 0.0, [ALL]),
        (5, 1.0, [ALL]),
        (5, 0.1, []),
        (5, 0.1, [group("none", (0.5, 0.1), person_pairs=0)]),
    ],
)
def test_a_callers_fault_is_not_a_decision(size: int, rate: float, groups: list[Group]) -> None:
    with pytest.raises(ValueError, match="needed"):
        threshold_for(size, rate, groups)


@given(
    size=st.integers(1, 5_000_000),
    rate=st.floats(1e-4, 0.5),
    bounds=st.lists(st.floats(1e-9, 0.9), min_size=1, max_size=12),
)
def test_what_is_promised_holds_and_no_lower_threshold_would_do(size: int, rate: float, bounds: list[float]) -> None:
    ordered = sorted(bounds, reverse=True)
    points = [(round(0.1 + 0.05 * place, 2), bound) for place, bound in enumerate(ordered)]
    chosen = threshold_for(size, rate, [group("all", *points)])
    if isinstance(chosen, Threshold):
        assert 1 - (1 - chosen.fmr_upper) ** size <= rate + 1e-9
        assert all(fpir(bound, size) > rate for score, bound in points if score < chosen.score)
    else:
        assert chosen.largest_supported < size
        assert fpir(min(bounds), chosen.largest_supported + 1) > rate
        assert chosen.largest_supported == largest_supported(rate, [group("all", *points)])


def test_candidates_below_the_threshold_are_not_reported_and_the_list_is_short() -> None:
    threshold = Threshold(0.5, 1e-5, "all")
    assert select([0.49, 0.5, 0.9, 0.7, 0.7], threshold, 3) == (2, 3, 4)
    assert select([0.4999999, math.nan], threshold, 3) == ()


def test_fused_probes_are_held_to_more_than_single_pictures() -> None:
    """At a gallery for which a single picture's bound just suffices, a fused probe needs the next threshold."""
    points = (OperatingPoint(0.4, 1e-4), OperatingPoint(0.5, 5e-5))
    single = threshold_for(100, 0.01, [Group("all", points, 10**6)])
    fused = threshold_for(100, 0.01, [Group("all", points, 10**6, probe_factor=1.5)])
    assert isinstance(single, Threshold)
    assert isinstance(fused, Threshold)
    assert (single.score, fused.score) == (0.4, 0.5)
    assert fused.fmr_upper == pytest.approx(1.5 * 5e-5)
    with pytest.raises(ValueError, match="calibration"):
        threshold_for(100, 0.01, [Group("all", points, 10**6, probe_factor=0.5)])
