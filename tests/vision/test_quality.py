"""Quality: what an officer can mend is named; a good photograph of anybody passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from vision.portraits import (
    MODELS,
    OTHER_PERSON,
    PORTRAIT,
    every_portrait,
    frame_of,
    live_permit,
    pixels_of,
)

from turnkey.vision.align import TEMPLATE
from turnkey.vision.analyzer import Analysis, Analyzer
from turnkey.vision.quality import MESSAGES, QualityLimits, VisionReason, VisionRefusal, pose_degrees, quality_refusal


@pytest.fixture(scope="module")
def analyzer() -> Analyzer:
    return Analyzer.load(MODELS)


def reason(analyzer: Analyzer, pixels: np.ndarray) -> VisionReason | None:
    outcome = analyzer.analyze(frame_of(pixels), live_permit())
    return outcome.reason if isinstance(outcome, VisionRefusal) else None


@pytest.mark.parametrize("path", every_portrait(), ids=lambda path: path.stem)
def test_every_portrait_passes(analyzer: Analyzer, path) -> None:
    assert reason(analyzer, pixels_of(path)) is None


def test_every_reason_says_what_to_do() -> None:
    assert set(MESSAGES) == set(VisionReason)
    assert all(message.count(".") >= 2 for message in MESSAGES.values())


def test_an_empty_room_is_refused(analyzer: Analyzer) -> None:
    assert reason(analyzer, np.full((600, 800, 3), 140, np.uint8)) is VisionReason.NO_FACE


def test_two_people_side_by_side_are_refused(analyzer: Analyzer) -> None:
    pair = [np.asarray(Image.fromarray(pixels_of(p)).resize((450, 560))) for p in (PORTRAIT, OTHER_PERSON)]
    assert reason(analyzer, np.concatenate(pair, axis=1)) is VisionReason.SEVERAL_FACES


def test_a_face_far_in_the_background_is_scenery(analyzer: Analyzer) -> None:
    scene = Image.new("RGB", (1400, 1137), (120, 125, 130))
    scene.paste(Image.fromarray(pixels_of(PORTRAIT)), (0, 0))
    scene.paste(Image.fromarray(pixels_of(OTHER_PERSON)).resize((215, 270)), (1100, 100))
    pixels = np.asarray(scene)
    assert len(analyzer._detector.find(pixels)) == 2
    assert reason(analyzer, pixels) is None


def test_a_distant_face_is_too_small(analyzer: Analyzer) -> None:
    portrait = Image.fromarray(pixels_of(PORTRAIT))
    assert reason(analyzer, np.asarray(portrait.resize((180, 225)))) is VisionReason.FACE_TOO_SMALL


def test_half_a_face_is_cut_off(analyzer: Analyzer) -> None:
    pixels = pixels_of(PORTRAIT)
    face = max(analyzer._detector.find(pixels), key=lambda found: found.box.area)
    middle = round(face.box.left + 0.45 * face.box.width)
    assert reason(analyzer, np.ascontiguousarray(pixels[:, middle:])) is VisionReason.FACE_CUT_OFF


def test_a_shaken_camera_is_blurred(analyzer: Analyzer) -> None:
    blurred = Image.fromarray(pixels_of(PORTRAIT)).filter(ImageFilter.GaussianBlur(14))
    assert reason(analyzer, np.asarray(blurred)) is VisionReason.BLURRED


def test_an_underexposed_face_is_too_dark(analyzer: Analyzer) -> None:
    dark = (pixels_of(PORTRAIT).astype(np.float32) * 0.2).astype(np.uint8)
    assert reason(analyzer, dark) is VisionReason.TOO_DARK


def test_an_overexposed_face_is_too_bright(analyzer: Analyzer) -> None:
    bright = np.clip(pixels_of(PORTRAIT).astype(np.float32) * 2.5, 0, 255).astype(np.uint8)
    assert reason(analyzer, bright) is VisionReason.TOO_BRIGHT


def test_haze_with_nothing_clipped_is_too_bright(analyzer: Analyzer) -> None:
    hazy = (pixels_of(PORTRAIT).astype(np.float32) * 0.2 + 195).astype(np.uint8)
    assert reason(analyzer, hazy) is VisionReason.TOO_BRIGHT


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_a_dark_face_with_light_on_it_passes(analyzer: Analyzer, share: float) -> None:
    """The mean says nothing: this face is darker and keeps its highlights."""
    assert reason(analyzer, (pixels_of(PORTRAIT).astype(np.float32) * share).astype(np.uint8)) is None


def test_a_frontal_face_is_frontal_and_the_tilt_is_measured() -> None:
    yaw, pitch, roll = pose_degrees(TEMPLATE)
    assert abs(yaw) < 5
    assert abs(pitch) < 10
    assert abs(roll) < 1


@given(degrees=st.floats(-60, 60))
def test_turning_the_picture_changes_roll_alone(degrees: float) -> None:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)
    still, turned = pose_degrees(TEMPLATE), pose_degrees((TEMPLATE - 56) @ turn + 56)
    assert turned[0] == pytest.approx(still[0], abs=0.5)
    assert turned[1] == pytest.approx(still[1], abs=0.5)
    assert turned[2] - still[2] == pytest.approx(degrees, abs=0.5)


@given(degrees=st.floats(5, 70), side=st.sampled_from([-1, 1]))
def test_a_turned_head_is_measured_turned_that_way(degrees: float, side: int) -> None:
    """A rigid head of five points, the nose 0.42 inter-eye distances before the rest, turned."""
    centre = TEMPLATE[[0, 1, 3, 4]].mean(axis=0)
    depth = np.array([0, 0, 0.42 * 35.2, 0, 0])
    angle = np.radians(side * degrees)
    across = (TEMPLATE[:, 0] - centre[0]) * np.cos(angle) + depth * np.sin(angle)
    seen = np.stack([across + centre[0], TEMPLATE[:, 1]], axis=1).astype(np.float32)
    yaw = pose_degrees(seen)[0]
    assert np.sign(yaw) == side
    assert abs(yaw) >= 0.5 * degrees - 5


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"inter_eye_px": 10.0}, VisionReason.FACE_TOO_SMALL),
        ({"outside_share": 0.5}, VisionReason.FACE_CUT_OFF),
        ({"highlight": 20.0}, VisionReason.TOO_DARK),
        ({"shadow": 240.0}, VisionReason.TOO_BRIGHT),
        ({"clipped_share": 0.9}, VisionReason.TOO_BRIGHT),
        ({"yaw_degrees": -70.0}, VisionReason.TURNED_AWAY),
        ({"pitch_degrees": 70.0}, VisionReason.TURNED_AWAY),
        ({"roll_degrees": 80.0}, VisionReason.TURNED_AWAY),
        ({"sharpness": 0.001}, VisionReason.BLURRED),
    ],
)
def test_each_limit_refuses_by_its_name(analyzer: Analyzer, change: dict[str, float], expected: VisionReason) -> None:
    outcome = analyzer.analyze(frame_of(pixels_of(PORTRAIT)), live_permit())
    assert isinstance(outcome, Analysis)
    assert quality_refusal(outcome.quality, QualityLimits()) is None
    assert quality_refusal(replace(outcome.quality, **change), QualityLimits()) is expected
