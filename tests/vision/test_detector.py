"""Detection on real portraits: found, at any size and a tilt; none and two are counted; decoding keeps its rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from vision.portraits import MODELS, OTHER_PERSON, PORTRAIT, every_portrait, pixels_of

from turnkey.vision.detector import Detector, DetectorLimits, Face, decode, gather
from turnkey.vision.manifest import read_manifest


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load(MODELS, read_manifest(MODELS).detector)


def only_face(detector: Detector, pixels: np.ndarray) -> Face:
    (face,) = detector.find(pixels)
    return detector.refine(pixels, face)


@pytest.mark.parametrize("path", every_portrait(), ids=lambda path: path.stem)
def test_every_portrait_has_its_face(detector: Detector, path) -> None:
    face = only_face(detector, pixels_of(path))
    right_eye, left_eye, nose, right_mouth, left_mouth = face.landmarks
    assert right_eye[0] < nose[0] < left_eye[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])
    assert right_mouth[0] < left_mouth[0]


@pytest.mark.parametrize("width", [200, 300, 600, 1500, 3000])
def test_landmarks_scale_with_the_picture(detector: Detector, width: int) -> None:
    portrait = Image.fromarray(pixels_of(PORTRAIT))
    reference = only_face(detector, np.asarray(portrait))
    factor = width / portrait.width
    scaled = portrait.resize((width, round(portrait.height * factor)), Image.Resampling.BICUBIC)
    face = only_face(detector, np.asarray(scaled))
    distance = np.linalg.norm((face.landmarks + 0.5) / factor - 0.5 - reference.landmarks, axis=1).mean()
    assert distance / reference.inter_eye_px < 0.03


@pytest.mark.parametrize("degrees", [-25, -10, 10, 25])
def test_a_tilted_head_is_found_with_its_tilt(detector: Detector, degrees: int) -> None:
    portrait = Image.fromarray(pixels_of(PORTRAIT))
    upright = only_face(detector, np.asarray(portrait))
    face = only_face(detector, np.asarray(portrait.rotate(degrees, Image.Resampling.BICUBIC)))

    def tilt(landmarks: np.ndarray) -> float:
        across = landmarks[1] - landmarks[0]
        return float(np.degrees(np.arctan2(across[1], across[0])))

    # YuNet underrates a tilt; a refinement at too small a size (which this test once caught) does not see it at all.
    seen = tilt(upright.landmarks) - tilt(face.landmarks)
    assert np.sign(seen) == np.sign(degrees)
    assert 0.5 * abs(degrees) - 2 <= abs(seen) <= abs(degrees) + 5


def test_a_wall_has_no_face(detector: Detector) -> None:
    assert detector.find(np.full((480, 640, 3), 128, np.uint8)) == []


def test_noise_has_no_face(detector: Detector) -> None:
    assert detector.find(np.random.default_rng(5).integers(0, 256, (480, 640, 3)).astype(np.uint8)) == []


def test_two_people_are_two_faces(detector: Detector) -> None:
    pair = [Image.fromarray(pixels_of(path)).resize((450, 560)) for path in (PORTRAIT, OTHER_PERSON)]
    together = np.concatenate([np.asarray(picture) for picture in pair], axis=1)
    left, right = sorted(detector.find(together), key=lambda face: face.box.centre[0])
    assert left.box.centre[0] < 450 < right.box.centre[0]


def test_a_small_face_in_a_large_frame_is_found(detector: Detector) -> None:
    portrait = Image.fromarray(pixels_of(PORTRAIT)).resize((400, 500))
    scene = Image.new("RGB", (2400, 1800), (120, 130, 140))
    scene.paste(portrait, (1500, 900))
    face = only_face(detector, np.asarray(scene))
    assert 1500 < face.box.centre[0] < 1900
    assert 900 < face.box.centre[1] < 1400


def test_box_over_the_edge_is_not_clamped(detector: Detector) -> None:
    portrait = pixels_of(PORTRAIT)
    whole = only_face(detector, portrait)
    cut = round(whole.box.left + 0.15 * whole.box.width)
    face = only_face(detector, np.ascontiguousarray(portrait[:, cut:]))
    assert face.box.left < -0.5


def empty_outputs(side: int) -> dict[str, np.ndarray]:
    outputs = {}
    for stride in (8, 16, 32):
        level = np.zeros((side // stride, side // stride, 16), np.float32)
        level[..., :2] = -20
        outputs[f"level_{stride}"] = level
    return outputs


@settings(max_examples=50, deadline=None)
@given(
    stride=st.sampled_from([8, 16, 32]),
    row=st.integers(0, 9),
    column=st.integers(0, 9),
    dx=st.floats(-1, 1),
    dy=st.floats(-1, 1),
    log_width=st.floats(-1, 2),
)
def test_one_anchor_decodes_to_its_box(
    stride: int, row: int, column: int, dx: float, dy: float, log_width: float
) -> None:
    outputs = empty_outputs(320)
    anchor = outputs[f"level_{stride}"][row, column]
    anchor[:6] = (5, 5, dx, dy, log_width, log_width)
    anchor[6:] = 0.5
    anchors = decode(outputs, 320, 0.6)
    ((score, edges, landmarks),) = gather(anchors, DetectorLimits())
    assert score == pytest.approx(1 / (1 + np.exp(-5)), abs=1e-4)
    assert (edges[0] + edges[2]) / 2 == pytest.approx((column + dx) * stride, abs=0.01)
    assert edges[3] - edges[1] == pytest.approx(np.exp(log_width) * stride, rel=1e-3)
    np.testing.assert_allclose(landmarks, [[(column + 0.5) * stride, (row + 0.5) * stride]] * 5, atol=0.01)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_survivors_do_not_overlap_more_than_allowed_and_come_surest_first(seed: int) -> None:
    random = np.random.default_rng(seed)
    outputs = {name: random.normal(0, 2, level.shape).astype(np.float32) for name, level in empty_outputs(320).items()}
    anchors = decode(outputs, 320, 0.6)
    faces = gather(anchors, DetectorLimits())
    scores = [score for score, _, _ in faces]
    assert scores == sorted(scores, reverse=True)
    assert all(score >= 0.6 for score in scores)
    assert len(faces) <= len(anchors.scores)


def test_an_absurd_box_does_not_overflow() -> None:
    outputs = empty_outputs(320)
    outputs["level_32"][3, 3] = 1e4
    anchors = decode(outputs, 320, 0.6)
    assert np.isfinite(anchors.edges).all()
