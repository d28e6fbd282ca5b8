"""Frames of one press that show the same are passed over; whatever differs is looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from vision.portraits import MODELS, OTHER_DAY, OTHER_PERSON, PORTRAIT, every_portrait, frame_of, live_permit, pixels_of

from turnkey.vision.align import align
from turnkey.vision.analyzer import Analysis, Analyzer
from turnkey.vision.detector import Detector, Face
from turnkey.vision.geometry import Box
from turnkey.vision.manifest import read_manifest
from turnkey.vision.refusals import VisionReason, VisionRefusal
from turnkey.vision.sameness import SAME, glimpse, shows_the_same


@pytest.fixture(scope="module")
def analyzer() -> Analyzer:
    return Analyzer.load(MODELS)


@pytest.fixture(scope="module")
def face() -> Face:
    (found,) = Detector.load(MODELS, read_manifest(MODELS).detector).find(pixels_of(PORTRAIT))
    return found


def taken_again(pixels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """The same scene once more: some pixels further, a little lighter or darker, with its own grain."""
    draw = np.random.default_rng(seed)
    moved = np.roll(pixels, draw.integers(-2, 3, 2), axis=(0, 1)).astype(np.float32)
    grained = moved * draw.uniform(0.97, 1.03) + draw.normal(0, 3, pixels.shape)
    return np.clip(np.rint(grained), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_a_scene_that_holds_still_shows_the_same(face: Face, seed: int) -> None:
    pixels = pixels_of(PORTRAIT)
    assert shows_the_same(taken_again(pixels, seed), glimpse(pixels, face.box))


@pytest.mark.parametrize("other", [OTHER_DAY, OTHER_PERSON], ids=["another day", "another person"])
def test_another_picture_in_the_same_place_does_not(face: Face, other: Path) -> None:
    pixels = pixels_of(PORTRAIT)
    swapped = Image.fromarray(pixels_of(other))
    size = (pixels.shape[1], pixels.shape[0])
    assert not shows_the_same(np.asarray(swapped.resize(size)), glimpse(pixels, face.box))


def test_no_two_portraits_are_the_same_even_with_their_eyes_upon_each_other() -> None:
    """The best that a swap of persons could hope for: every portrait aligned, as the embedder sees it."""
    detector = Detector.load(MODELS, read_manifest(MODELS).detector)
    patterns = []
    for path in every_portrait():
        pixels = pixels_of(path)
        found = max(detector.find(pixels), key=lambda one: one.box.area)
        aligned = align(pixels, detector.refine(pixels, found).landmarks)
        patterns.append(glimpse(aligned, Box(13.5, 13.5, 84, 96)).pattern)
    alike = np.stack(patterns) @ np.stack(patterns).T
    np.fill_diagonal(alike, 0)
    assert alike.max() < SAME


def test_a_sharper_frame_is_not_the_same(face: Face) -> None:
    pixels = pixels_of(PORTRAIT)
    blurred = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(6)))
    assert not shows_the_same(pixels, glimpse(blurred, face.box))
    assert shows_the_same(blurred, glimpse(pixels, face.box))


def test_what_is_not_certain_is_not_the_same(face: Face) -> None:
    pixels = pixels_of(PORTRAIT)
    assert not shows_the_same(pixels[:-1], glimpse(pixels, face.box))
    assert not shows_the_same(pixels, glimpse(pixels, Box(*face.box.centre, 20, 20)))
    grey = np.full_like(pixels, 128)
    assert not shows_the_same(grey, glimpse(grey, face.box))


def test_frames_that_show_the_same_are_passed_over_and_counted(analyzer: Analyzer) -> None:
    frames = [frame_of(taken_again(pixels_of(PORTRAIT), seed)) for seed in range(4)]
    told: list[int] = []
    outcome = analyzer.analyze_burst(iter(frames), live_permit(), seen=told.append)
    assert isinstance(outcome, Analysis)
    assert outcome.fused == 1
    assert told == [4]


def test_a_frame_that_differs_is_looked_at_and_fused(analyzer: Analyzer) -> None:
    same = [frame_of(taken_again(pixels_of(PORTRAIT), seed)) for seed in range(2)]
    outcome = analyzer.analyze_burst([*same, frame_of(pixels_of(OTHER_DAY))], live_permit())
    assert isinstance(outcome, Analysis)
    assert outcome.fused == 2


def test_a_bad_frame_is_not_remembered(analyzer: Analyzer) -> None:
    blurred = Image.fromarray(pixels_of(PORTRAIT)).filter(ImageFilter.GaussianBlur(16))
    outcome = analyzer.analyze_burst([frame_of(np.asarray(blurred)), frame_of(pixels_of(PORTRAIT))], live_permit())
    assert isinstance(outcome, Analysis)
    assert outcome.fused == 1


def test_two_persons_are_refused_however_late_the_second_comes(analyzer: Analyzer) -> None:
    same = [frame_of(taken_again(pixels_of(PORTRAIT), seed)) for seed in range(2)]
    outcome = analyzer.analyze_burst([*same, frame_of(pixels_of(OTHER_PERSON))], live_permit())
    assert outcome == VisionRefusal.because(VisionReason.PERSONS_DIFFER)
