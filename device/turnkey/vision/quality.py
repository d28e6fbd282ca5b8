"""Is this face good enough to be searched with? Measured values first, then one decision by limits.

First form of the components of ISO/IEC 29794-5 (face image quality) that a booking-desk officer can act on: size,
sharpness, exposure, pose, and whether the face is whole.

Rules kept here:
1. A measurement is a number with a unit; a limit is a named setting; a refusal names what to do next.
2. Exposure is judged by what the sensor lost (no highlights at all, or clipped ones), never by the mean brightness of
   the face: a well lit photograph of a dark-skinned person is a good photograph.
3. No I/O, no randomness.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from turnkey.vision.detector import Face

# Rec. 601 luma, as JPEG uses it.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# Standard deviations of the two blurs that sharpness compares with, pixels of the aligned picture.
_DETAIL_PX = (2.0, 4.0)
# The face itself in the aligned 112x112 picture: from the brows to the chin, cheek to cheek.
_FACE_ROWS = slice(32, 108)
_FACE_COLUMNS = slice(24, 88)
# How far the nose tip stands out before the plane of eyes and mouth, in inter-eye distances, of an average adult
# face: turns the landmark's sideways shift into an angle. Rough by nature; individual noses differ by a fifth.
_NOSE_PROTRUSION = 0.42


class VisionReason(StrEnum):
    """Why a frame gives no template. The codes go onto the ledger."""

    NO_FACE = "no-face"
    SEVERAL_FACES = "several-faces"
    FACE_TOO_SMALL = "face-too-small"
    FACE_CUT_OFF = "face-cut-off"
    BLURRED = "blurred"
    TOO_DARK = "too-dark"
    TOO_BRIGHT = "too-bright"
    TURNED_AWAY = "turned-away"
    NOT_UPRIGHT = "not-upright"


MESSAGES: dict[VisionReason, str] = {
    VisionReason.NO_FACE: "No face was found. Have the person face the camera, with nothing covering the face.",
    VisionReason.SEVERAL_FACES: "More than one face is in the picture. Only the person being booked may be in view.",
    VisionReason.FACE_TOO_SMALL: "The face is too small. Move the camera closer.",
    VisionReason.FACE_CUT_OFF: "Part of the face is outside the picture. Centre the face.",
    VisionReason.BLURRED: "The face is blurred. Hold still, clean the lens, and take the picture again.",
    VisionReason.TOO_DARK: "The face is too dark. Add light in front of the person.",
    VisionReason.TOO_BRIGHT: "The face is overexposed. Reduce the light on the person.",
    VisionReason.TURNED_AWAY: "The face is turned away. Have the person look straight at the camera.",
    VisionReason.NOT_UPRIGHT: "The picture lies on its side or upside down. Set the camera upright.",
}


@dataclass(frozen=True)
class VisionRefusal:
    """No template from this frame: the code, and what to do next."""

    reason: VisionReason
    message: str

    @classmethod
    def because(cls, reason: VisionReason) -> VisionRefusal:
        """The refusal with its standing message."""
        return cls(reason, MESSAGES[reason])


@dataclass(frozen=True)
class QualityLimits:
    """Where a frame is refused. Each `min_`/`max_` is inclusive: at the limit a frame still passes.

    Attributes:
        second_face_share: another face counts when its area is at least this share of the largest one's. A quarter of
            the area is half the width: somebody at twice the distance is scenery, somebody beside the person is not.
        min_inter_eye_px: distance between eye centres in the frame.
        max_outside_share: share of the face's box that may lie outside the frame.
        min_sharpness: see `Quality.sharpness`.
        min_highlight: 95th percentile of the face's luma, 0..255.
        max_shadow: 5th percentile of the face's luma, 0..255.
        max_clipped_share: share of the face's pixels at luma 250 and more.
        max_yaw_degrees, max_pitch_degrees: of the head, roughly, from landmarks.
        max_roll_degrees: of the head in the picture's plane; alignment undoes it, beyond this the picture is lying on
            its side.
    """

    second_face_share: float = 0.25
    min_inter_eye_px: float = 28.0
    max_outside_share: float = 0.12
    min_sharpness: float = 0.4
    min_highlight: float = 60.0
    max_shadow: float = 185.0
    max_clipped_share: float = 0.25
    max_yaw_degrees: float = 45.0
    max_pitch_degrees: float = 45.0
    max_roll_degrees: float = 50.0


@dataclass(frozen=True)
class Quality:
    """What was measured on one face.

    Attributes:
        inter_eye_px: distance between the eye centres in the frame.
        outside_share: share of the face's box outside the frame, 0..1.
        sharpness: of the detail finer than a Gaussian of 4 px in the aligned face, the share (in standard deviations)
            that is finer than 2 px, 0..1. Neither size nor contrast nor light changes it; blur lowers it: sharp faces
            measure 0.53 to 0.67, blurred by 6 % of the inter-eye distance 0.38 to 0.42.
        highlight: 95th percentile of the face's luma, 0..255.
        shadow: 5th percentile of the face's luma, 0..255.
        clipped_share: share of the face's pixels at luma 250 and more, 0..1.
        yaw_degrees: head turned, positive towards the subject's left; rough.
        pitch_degrees: head raised (positive) or lowered; rough.
        roll_degrees: head tilted in the picture's plane, positive clockwise.
        score: 0..100, the worst component's; 0 at its limit, 100 where more of it helps no further.
    """

    inter_eye_px: float
    outside_share: float
    sharpness: float
    highlight: float
    shadow: float
    clipped_share: float
    yaw_degrees: float
    pitch_degrees: float
    roll_degrees: float
    score: int


def placement_refusal(faces: list[Face], frame_shape: tuple[int, ...], limits: QualityLimits) -> VisionReason | None:
    """What the first pass alone can refuse: none, several, too small to go on, cut off.

    Args:
        faces: every face of the frame.
        frame_shape: (height, width, ...).
    """
    if not faces:
        return VisionReason.NO_FACE
    first = max(faces, key=lambda face: face.box.area)
    counted = [face for face in faces if face.box.area >= limits.second_face_share * first.box.area]
    if len(counted) > 1:
        return VisionReason.SEVERAL_FACES
    if outside_share(first, frame_shape) > limits.max_outside_share:
        return VisionReason.FACE_CUT_OFF
    return None


def outside_share(face: Face, frame_shape: tuple[int, ...]) -> float:
    """Share of the face's box that lies outside the frame, 0..1."""
    height, width = frame_shape[:2]
    box = face.box
    seen_width = min(box.left + box.width, width - 0.5) - max(box.left, -0.5)
    seen_height = min(box.top + box.height, height - 0.5) - max(box.top, -0.5)
    return 1 - max(0.0, seen_width) * max(0.0, seen_height) / max(box.area, 1e-6)


def measure(face: Face, aligned: NDArray[np.uint8], frame_shape: tuple[int, ...], limits: QualityLimits) -> Quality:
    """Measure one face.

    Args:
        face: refined, frame pixels.
        aligned: (112, 112, 3) uint8 RGB, of the same face.
        frame_shape: (height, width, ...) of the frame.
    """
    luma = aligned[_FACE_ROWS, _FACE_COLUMNS].astype(np.float32) @ _LUMA
    shadow, highlight = (float(v) for v in np.percentile(luma, (5, 95)))
    yaw, pitch, roll = pose_degrees(face.landmarks)
    measured = Quality(
        inter_eye_px=face.inter_eye_px,
        outside_share=outside_share(face, frame_shape),
        sharpness=_sharpness(luma),
        highlight=highlight,
        shadow=shadow,
        clipped_share=float((luma >= 250).mean()),
        yaw_degrees=yaw,
        pitch_degrees=pitch,
        roll_degrees=roll,
        score=0,
    )
    return Quality(**{**vars(measured), "score": _score(measured, limits)})


def quality_refusal(quality: Quality, limits: QualityLimits) -> VisionReason | None:
    """The first limit that the measurements break, in the order in which an officer would mend them."""
    checks = (
        (quality.inter_eye_px < limits.min_inter_eye_px, VisionReason.FACE_TOO_SMALL),
        (quality.outside_share > limits.max_outside_share, VisionReason.FACE_CUT_OFF),
        (quality.highlight < limits.min_highlight, VisionReason.TOO_DARK),
        (quality.shadow > limits.max_shadow, VisionReason.TOO_BRIGHT),
        (quality.clipped_share > limits.max_clipped_share, VisionReason.TOO_BRIGHT),
        (abs(quality.yaw_degrees) > limits.max_yaw_degrees, VisionReason.TURNED_AWAY),
        (abs(quality.pitch_degrees) > limits.max_pitch_degrees, VisionReason.TURNED_AWAY),
        (abs(quality.roll_degrees) > limits.max_roll_degrees, VisionReason.TURNED_AWAY),
        (quality.sharpness < limits.min_sharpness, VisionReason.BLURRED),
    )
    return next((reason for broken, reason in checks if broken), None)


def pose_degrees(landmarks: NDArray[np.float32]) -> tuple[float, float, float]:
    """Yaw, pitch and roll from five landmarks, degrees.

    The nose tip stands before the plane of eyes and mouth; where it falls between them shows how that plane is turned.
    Good to some ten degrees: enough to refuse a profile, not to measure one.

    Args:
        landmarks: (5, 2) in the detector's order.
    """
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    across = landmarks[1] - landmarks[0]
    down = mouth - eyes
    roll = float(np.degrees(np.arctan2(across[1], across[0])))
    # The face's height hardly changes when it turns, its width hardly when it nods: the longer of the two is the
    # measure.
    unit_px = max(float(np.linalg.norm(across)), float(np.linalg.norm(down)) / 1.1, 1e-6)
    axis = down / max(float(np.linalg.norm(down)), 1e-6)
    nose = landmarks[2] - eyes
    sideways = float(nose[0] * axis[1] - nose[1] * axis[0])
    # In a frontal face the nose tip lies 0.55 of the way from the eyes to the mouth.
    along = float(nose @ axis) - 0.55 * float(np.linalg.norm(down))
    yaw = float(np.degrees(np.arctan2(sideways / unit_px, _NOSE_PROTRUSION)))
    pitch = -float(np.degrees(np.arctan2(along / unit_px, _NOSE_PROTRUSION)))
    return yaw, pitch, roll


def _sharpness(luma: NDArray[np.float32]) -> float:
    picture = Image.fromarray(np.clip(np.rint(luma), 0, 255).astype(np.uint8))
    fine, all_detail = (float((luma - _blurred(picture, sigma)).std()) for sigma in _DETAIL_PX)
    return fine / max(all_detail, 1e-6)


def _blurred(picture: Image.Image, sigma_px: float) -> NDArray[np.float32]:
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(sigma_px)), dtype=np.float32)


def _score(quality: Quality, limits: QualityLimits) -> int:
    """The worst component on 0 (its limit) to 100 (ample)."""
    parts = (
        _between(quality.inter_eye_px, limits.min_inter_eye_px, 90.0),
        _between(quality.sharpness, limits.min_sharpness, 0.53),
        _between(quality.highlight, limits.min_highlight, 120.0),
        _between(quality.shadow, limits.max_shadow, 120.0),
        _between(quality.clipped_share, limits.max_clipped_share, 0.02),
        _between(abs(quality.yaw_degrees), limits.max_yaw_degrees, 10.0),
        _between(abs(quality.pitch_degrees), limits.max_pitch_degrees, 15.0),
        _between(quality.outside_share, limits.max_outside_share, 0.0),
    )
    return round(100 * float(min(parts)))


def _between(value: float, limit: float, ample: float) -> float:
    """0 at `limit`, 1 at `ample`, straight between them."""
    return float(np.clip((value - limit) / (ample - limit), 0.0, 1.0))
