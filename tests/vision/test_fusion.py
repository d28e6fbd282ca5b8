"""Fusion: one direction out of several, by their scores; two persons are not one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vision.portraits import MODELS, OTHER_DAY, OTHER_PERSON, PORTRAIT, frame_of, live_permit, pixels_of

from turnkey.interlock.permit import Permit, Stopped
from turnkey.vision.analyzer import Analysis, Analyzer
from turnkey.vision.embedder import unit
from turnkey.vision.fusion import AGREEMENT_FMR, agreement_threshold, fuse, of_one_person
from turnkey.vision.manifest import read_manifest
from turnkey.vision.refusals import VisionReason, VisionRefusal


@pytest.fixture(scope="module")
def analyzer() -> Analyzer:
    return Analyzer.load(MODELS)


def some_templates(count: int, seed: int = 0) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    middle = draw.normal(size=128)
    return [unit((middle + 0.5 * draw.normal(size=128)).astype(np.float32)) for _ in range(count)]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=10))
def test_a_fused_template_is_of_unit_length_whatever_the_scores(scores: list[int]) -> None:
    fused = fuse(some_templates(len(scores)), scores)
    assert fused.dtype == np.float32
    assert np.linalg.norm(fused) == pytest.approx(1, abs=1e-5)


def test_a_single_frame_is_its_own_template() -> None:
    (template,) = some_templates(1)
    assert fuse([template], [0]) is template


def test_the_better_frame_weighs_more() -> None:
    good, poor = some_templates(2)
    fused = fuse([good, poor], [90, 30])
    assert fused @ good > fused @ poor


def test_the_order_of_frames_does_not_matter() -> None:
    templates = some_templates(4)
    there, back = fuse(templates, [10, 20, 30, 40]), fuse(templates[::-1], [40, 30, 20, 10])
    np.testing.assert_allclose(there, back, atol=1e-6)


def test_one_frame_that_disagrees_with_any_other_is_two_persons() -> None:
    one, other = np.eye(128, dtype=np.float32)[:2]
    between = unit(one + other)
    assert of_one_person([one, between], 0.5)
    assert not of_one_person([one, between, other], 0.5)
    assert of_one_person([one], 0.5)


def test_frames_agree_at_a_bound_of_the_calibration() -> None:
    calibration = read_manifest(MODELS).calibration
    threshold = agreement_threshold(calibration)
    for group in calibration.groups:
        (row,) = [row for row in group.rows if row.threshold == threshold]
        assert row.fmr_upper95 <= AGREEMENT_FMR


def test_a_burst_of_one_person_is_fused_and_keeps_the_best_frames_quality(analyzer: Analyzer) -> None:
    frames = [frame_of(pixels_of(path)) for path in (PORTRAIT, OTHER_DAY)]
    alone = [analyzer.analyze(frame, live_permit()) for frame in frames]
    together = analyzer.analyze_burst(frames, live_permit())
    assert isinstance(together, Analysis)
    assert together.fused == 2
    assert together.quality.score == max(one.quality.score for one in alone if isinstance(one, Analysis))
    assert all(together.template @ one.template > 0.8 for one in alone if isinstance(one, Analysis))


def test_a_burst_of_two_persons_gives_nothing(analyzer: Analyzer) -> None:
    frames = [frame_of(pixels_of(path)) for path in (PORTRAIT, OTHER_PERSON)]
    assert analyzer.analyze_burst(frames, live_permit()) == VisionRefusal.because(VisionReason.PERSONS_DIFFER)


@pytest.mark.parametrize("checks_before_the_stop", [2, 7, 11, 13])
def test_a_permit_that_dies_between_frames_leaves_nothing(analyzer: Analyzer, checks_before_the_stop: int) -> None:
    readings = 0

    def clock() -> int:
        nonlocal readings
        readings += 1
        return 0 if readings <= checks_before_the_stop else 10

    frames = [frame_of(pixels_of(path)) for path in (PORTRAIT, OTHER_DAY)]
    with pytest.raises(Stopped, match="lease-lapsed"):
        analyzer.analyze_burst(frames, Permit(clock, 5))
