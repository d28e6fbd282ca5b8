"""What to tell the officer while the picture is being framed: a function of where the faces are, and nothing else.

Rules kept here:
1. Sizes and places are fractions of the frame, so that a small preview and the full picture get the same advice.
2. One advice at a time, the first that applies, in the order in which an officer would act on them: somebody in the
   picture, only one, far or near, in the middle.
3. A guide guides: it never refuses a picture. Refusing is for the analysis of the picture that was taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from turnkey.vision.geometry import Box


class Advice(StrEnum):
    """A code; the console has the words."""

    NO_FACE = "no-face"
    SEVERAL_FACES = "several-faces"
    MOVE_CLOSER = "move-closer"
    MOVE_BACK = "move-back"
    CENTRE = "centre"
    GOOD = "good"


@dataclass(frozen=True)
class FaceBox:
    """A face in a preview frame.

    Attributes:
        box: brow to chin, pixels of that frame; it may reach over the edge.
        score: the detector's own, 0 to 1; not comparable between detectors.
    """

    box: Box
    score: float


@dataclass(frozen=True)
class FramingLimits:
    """Where one advice turns into the next.

    Attributes:
        min_width: face width over the frame's shorter side. At 0.20 the eyes of a 1080-line picture are some 90 px
            apart, the least ISO/IEC 19794-5:2011 wants of a full frontal picture.
        max_width: face width over the frame's shorter side; above it hair, ears and chin begin to leave the frame.
        max_offset: how far the face's centre may be from the frame's, as a fraction of the frame's width and height.
        bystander_area: another face counts from this fraction of the largest face's area; a poster or somebody at the
            back of the room is not the person at the desk.
    """

    min_width: float = 0.20
    max_width: float = 0.60
    max_offset: float = 0.18
    bystander_area: float = 0.25


DEFAULT_FRAMING: Final = FramingLimits()


def advise(
    faces: Sequence[FaceBox], frame_width: int, frame_height: int, limits: FramingLimits = DEFAULT_FRAMING
) -> Advice:
    """One advice for one preview frame.

    Args:
        faces: what a guide saw, in any order.
        frame_width, frame_height: of that frame, pixels.
        limits: where one advice turns into the next.
    """
    if not faces:
        return Advice.NO_FACE
    first, *others = sorted((face.box for face in faces), key=lambda box: box.area, reverse=True)
    if any(box.area >= limits.bystander_area * first.area for box in others):
        return Advice.SEVERAL_FACES
    width = first.width / min(frame_width, frame_height)
    if width > limits.max_width:
        return Advice.MOVE_BACK
    if width < limits.min_width:
        return Advice.MOVE_CLOSER
    x, y = first.centre
    offset = max(abs(x - frame_width / 2) / frame_width, abs(y - frame_height / 2) / frame_height)
    whole = Box(0, 0, frame_width, frame_height)
    if offset > limits.max_offset or first.overlap(whole) < first.area:
        return Advice.CENTRE
    return Advice.GOOD
