"""Why a frame gives no template, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class VisionReason(StrEnum):
    """Why a frame gives no template. The codes go onto the ledger."""

    NO_FACE = "no-face"
    SEVERAL_FACES = "several-faces"
    FACE_TOO_SMALL = "face-too-small"
    FACE_TOO_LARGE = "face-too-large"
    FACE_CUT_OFF = "face-cut-off"
    OFF_CENTRE = "off-centre"
    BLURRED = "blurred"
    TOO_DARK = "too-dark"
    TOO_BRIGHT = "too-bright"
    UNEVEN_LIGHT = "uneven-light"
    BUSY_BACKGROUND = "busy-background"
    TURNED_AWAY = "turned-away"
    NOT_UPRIGHT = "not-upright"
    EYES_CLOSED = "eyes-closed"
    MOUTH_OPEN = "mouth-open"
    FACE_COVERED = "face-covered"
    BELOW_FLOOR = "quality-below-floor"
    PERSONS_DIFFER = "persons-differ"


MESSAGES: dict[VisionReason, str] = {
    VisionReason.NO_FACE: "No face was found. Have the person face the camera, with nothing covering the face.",
    VisionReason.SEVERAL_FACES: "More than one face is in the picture. Only the person being booked may be in view.",
    VisionReason.FACE_TOO_SMALL: "The face is too small. Move the camera closer.",
    VisionReason.FACE_TOO_LARGE: "The face is too large. Move the camera back.",
    VisionReason.FACE_CUT_OFF: "Part of the face is outside the picture. Centre the face.",
    VisionReason.OFF_CENTRE: "The face is at the picture's edge. Centre the face.",
    VisionReason.BLURRED: "The face is blurred. Hold still, clean the lens, and take the picture again.",
    VisionReason.TOO_DARK: "The face is too dark. Add light in front of the person.",
    VisionReason.TOO_BRIGHT: "The face is overexposed. Reduce the light on the person.",
    VisionReason.UNEVEN_LIGHT: "One side of the face is in shadow. Light the person from the front.",
    VisionReason.BUSY_BACKGROUND: "The background is busy. Have the person stand before a plain wall.",
    VisionReason.TURNED_AWAY: "The face is turned away. Have the person look straight at the camera.",
    VisionReason.NOT_UPRIGHT: "The picture lies on its side or upside down. Set the camera upright.",
    VisionReason.EYES_CLOSED: "The eyes are closed. Take the picture again.",
    VisionReason.MOUTH_OPEN: "The mouth is open. Have the person close it, and take the picture again.",
    VisionReason.FACE_COVERED: "Something covers the face. Have it taken off, and take the picture again.",
    VisionReason.BELOW_FLOOR: "The picture is not good enough. Take another.",
    VisionReason.PERSONS_DIFFER: "The pictures of one press show different persons. Only one may be at the desk.",
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
