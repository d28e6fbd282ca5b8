"""Quality: what an officer can mend is named; a good photograph of anybody passes."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
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

from turnkey.vision.analyzer import Analysis, Analyzer
from turnkey.vision.limits import QualityLimits
from turnkey.vision.quality import COMPONENTS, Component, Components, quality_refusal, unified_score
from turnkey.vision.refusals import MESSAGES, VisionReason, VisionRefusal


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
    assert len(analyzer._inspector._detector.find(pixels)) == 2
    assert reason(analyzer, pixels) is None


def test_a_distant_face_is_too_small(analyzer: Analyzer) -> None:
    portrait = Image.fromarray(pixels_of(PORTRAIT))
    assert reason(analyzer, np.asarray(portrait.resize((180, 225)))) is VisionReason.FACE_TOO_SMALL


def test_half_a_face_is_cut_off(analyzer: Analyzer) -> None:
    pixels = pixels_of(PORTRAIT)
    face = max(analyzer._inspector._detector.find(pixels), key=lambda found: found.box.area)
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
        ({"black_share": 0.9}, VisionReason.TOO_DARK),
        ({"eyes_open": 0.01}, VisionReason.EYES_CLOSED),
        ({"mouth_open": 0.5}, VisionReason.MOUTH_OPEN),
    ],
)
def test_each_limit_refuses_by_its_name(analyzer: Analyzer, change: dict[str, float], expected: VisionReason) -> None:
    outcome = analyzer.analyze(frame_of(pixels_of(PORTRAIT)), live_permit())
    assert isinstance(outcome, Analysis)
    components = outcome.quality.components
    assert quality_refusal(components, QualityLimits()) is None
    assert quality_refusal(replace(components, **change), QualityLimits()) is expected


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda row: row.limit)
def test_a_policy_can_hold_a_frame_to_any_component(analyzer: Analyzer, component: Component) -> None:
    """The limit set just beyond what was measured refuses by its name, and the rating falls to 0."""
    outcome = analyzer.analyze(frame_of(pixels_of(PORTRAIT)), live_permit())
    assert isinstance(outcome, Analysis)
    measured = abs(getattr(outcome.quality.components, component.name))
    beyond = measured + 1e-6 if component.limit.startswith("min_") else measured - 1e-6
    limits = replace(QualityLimits(), **{component.limit: beyond})
    refused = analyzer.analyze(frame_of(pixels_of(PORTRAIT)), live_permit(), limits)
    assert isinstance(refused, VisionRefusal)
    assert refused.reason is component.reason
    assert component.rating(outcome.quality.components, limits) == 0


def test_every_component_is_in_the_table_and_has_a_limit() -> None:
    assert {row.name for row in COMPONENTS} == {one.name for one in fields(Components)}
    assert {row.limit for row in COMPONENTS} | {"second_face_share", "min_score"} == {
        one.name for one in fields(QualityLimits)
    }


def test_a_score_below_the_floor_gives_no_template(analyzer: Analyzer) -> None:
    outcome = analyzer.analyze(frame_of(pixels_of(PORTRAIT)), live_permit())
    assert isinstance(outcome, Analysis)
    limits = replace(QualityLimits(), min_score=outcome.quality.score + 1)
    refused = analyzer.analyze(frame_of(pixels_of(PORTRAIT)), live_permit(), limits)
    assert refused == VisionRefusal.because(VisionReason.BELOW_FLOOR)


@pytest.mark.parametrize("radius", [4, 8])
def test_what_hides_the_person_lowers_the_score(analyzer: Analyzer, radius: int) -> None:
    lenient = replace(QualityLimits(), min_sharpness=0.0)
    sharp, blurred = (
        analyzer.analyze(frame_of(np.asarray(picture)), live_permit(), lenient)
        for picture in (
            Image.fromarray(pixels_of(PORTRAIT)),
            Image.fromarray(pixels_of(PORTRAIT)).filter(ImageFilter.GaussianBlur(radius)),
        )
    )
    assert isinstance(sharp, Analysis)
    assert isinstance(blurred, Analysis)
    assert blurred.quality.score < sharp.quality.score
    assert blurred.quality.components.sharpness < sharp.quality.components.sharpness


def test_the_score_rises_with_the_length_and_stays_between_0_and_100() -> None:
    scores = [unified_score(length) for length in np.linspace(0, 30, 200)]
    assert scores == sorted(scores)
    assert (scores[0], scores[-1]) == (0, 100)
