"""Is this face good enough to be searched with? Measured components first, then one decision by limits, and one score.

After ISO/IEC 29794-5 (face image quality): each component is measured by itself and told apart, so that an officer
knows what to mend; and one unified score says how far the template is to be trusted.

Rules kept here:
1. A measurement is a number with a unit; a limit is a named setting; a refusal names what to do next. One table,
   `COMPONENTS`, holds all three together.
2. The unified score is the embedder's own answer (`Embedding.length`), not a sum of opinions about pictures: it falls
   with whatever hides the person from the network, and the error-versus-discard curve of
   `turnkeyctl evaluate quality` is its evidence. The components refuse; they do not vote.
3. No I/O, no randomness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from turnkey.vision import components as parts
from turnkey.vision.detector import Face
from turnkey.vision.limits import QualityLimits
from turnkey.vision.mesh import Mesh
from turnkey.vision.pose import pose_of
from turnkey.vision.refusals import VisionReason

# Length of an embedding at which the score is 0 and 100; straight between them. No face of LFW-dev is shorter than the
# first, not one in a hundred longer than the second. The order of pictures, which is all that the error-versus-discard
# curve depends on, is the length's own: nothing here was fitted to errors.
SCORE_LENGTHS: Final = (7.0, 15.0)


@dataclass(frozen=True)
class Components:
    """What was measured on one face.

    Attributes:
        inter_eye_px: distance between the eye centres in the frame.
        outside_share: share of the face's box outside the frame, 0..1.
        head_share: height of the face's box over the frame's height.
        off_centre: of the face's centre from the frame's, as a share of the frame's width or height.
        highlight: 95th percentile of the face's luma, 0..255.
        shadow: 5th percentile of the face's luma, 0..255.
        black_share: share of the face's pixels at luma 25 and less, 0..1.
        clipped_share: share of the face's pixels at luma 250 and more, 0..1.
        light_evenness: what the luma histograms of both cheeks share, 0..1.
        background_unrest: mean luma step between neighbours around the head, grey levels.
        yaw_degrees: head turned, positive towards the subject's left.
        pitch_degrees: head raised (positive) or lowered.
        roll_degrees: head tilted in the picture's plane, positive clockwise.
        eyes_open: gap between the lids of the less open eye, over the distance from eyes to chin.
        mouth_open: gap between the lips, over the distance from eyes to chin.
        covered_share: share of the face's skin points that have not the skin's colour, 0..1.
        sharpness: of the detail finer than a Gaussian of 4 px in the aligned face, the share (in standard deviations)
            that is finer than 2 px, 0..1. Neither size nor contrast nor light changes it; blur lowers it: sharp faces
            measure 0.53 to 0.67, blurred by 6 % of the inter-eye distance 0.38 to 0.42.
    """

    inter_eye_px: float
    outside_share: float
    head_share: float
    off_centre: float
    highlight: float
    shadow: float
    black_share: float
    clipped_share: float
    light_evenness: float
    background_unrest: float
    yaw_degrees: float
    pitch_degrees: float
    roll_degrees: float
    eyes_open: float
    mouth_open: float
    covered_share: float
    sharpness: float


@dataclass(frozen=True)
class Quality:
    """Of one face, or of a probe fused from several.

    Attributes:
        components: as measured; of the best frame where several were fused.
        score: unified, 0..100.
    """

    components: Components
    score: int


@dataclass(frozen=True)
class Component:
    """One row of the table.

    Attributes:
        name: of the measurement, a field of `Components`.
        limit: of the field of `QualityLimits` that it is held to.
        unit: in words.
        ample: where more of it helps no further.
        reason: what a frame beyond the limit is refused for.
    """

    name: str
    limit: str
    unit: str
    ample: float
    reason: VisionReason

    def passes(self, components: Components, limits: QualityLimits) -> bool:
        """Whether the measurement keeps its limit; which side is good is in the limit's name."""
        value, limit = abs(float(getattr(components, self.name))), float(getattr(limits, self.limit))
        return value >= limit if self.limit.startswith("min_") else value <= limit

    def rating(self, components: Components, limits: QualityLimits) -> int:
        """0 (beyond the limit, or at it) to 100 (ample), straight between them."""
        if not self.passes(components, limits):
            return 0
        value, limit = abs(float(getattr(components, self.name))), float(getattr(limits, self.limit))
        span = self.ample - limit
        if span == 0 or (span > 0) != self.limit.startswith("min_"):
            return 100  # a limit beyond what is ample: whatever passes is ample
        return round(100 * float(np.clip((value - limit) / span, 0.0, 1.0)))


# In the order in which an officer would mend them.
COMPONENTS: Final = (
    Component("inter_eye_px", "min_inter_eye_px", "px", 90.0, VisionReason.FACE_TOO_SMALL),
    Component("head_share", "min_head_share", "of the frame's height", 0.3, VisionReason.FACE_TOO_SMALL),
    Component("head_share", "max_head_share", "of the frame's height", 0.6, VisionReason.FACE_TOO_LARGE),
    Component("outside_share", "max_outside_share", "of the face's box", 0.0, VisionReason.FACE_CUT_OFF),
    Component("off_centre", "max_off_centre", "of the frame", 0.1, VisionReason.OFF_CENTRE),
    Component("highlight", "min_highlight", "luma", 120.0, VisionReason.TOO_DARK),
    Component("black_share", "max_black_share", "of the face", 0.05, VisionReason.TOO_DARK),
    Component("shadow", "max_shadow", "luma", 120.0, VisionReason.TOO_BRIGHT),
    Component("clipped_share", "max_clipped_share", "of the face", 0.02, VisionReason.TOO_BRIGHT),
    Component("light_evenness", "min_light_evenness", "0 to 1", 0.6, VisionReason.UNEVEN_LIGHT),
    Component("yaw_degrees", "max_yaw_degrees", "degrees", 10.0, VisionReason.TURNED_AWAY),
    Component("pitch_degrees", "max_pitch_degrees", "degrees", 15.0, VisionReason.TURNED_AWAY),
    Component("roll_degrees", "max_roll_degrees", "degrees", 10.0, VisionReason.TURNED_AWAY),
    Component("covered_share", "max_covered_share", "of the skin", 0.1, VisionReason.FACE_COVERED),
    Component("eyes_open", "min_eyes_open", "of the face's height", 0.07, VisionReason.EYES_CLOSED),
    Component("mouth_open", "max_mouth_open", "of the face's height", 0.03, VisionReason.MOUTH_OPEN),
    Component("sharpness", "min_sharpness", "0 to 1", 0.53, VisionReason.BLURRED),
    Component("background_unrest", "max_background_unrest", "grey levels", 4.0, VisionReason.BUSY_BACKGROUND),
)


def placement_refusal(faces: list[Face], frame_shape: tuple[int, ...], limits: QualityLimits) -> VisionReason | None:
    """What the first pass alone can refuse: none, several, cut off.

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


def measure(face: Face, aligned: NDArray[np.uint8], mesh: Mesh, frame: NDArray[np.uint8]) -> Components:
    """Measure one face.

    Args:
        face: refined, frame pixels.
        aligned: (112, 112, 3) uint8 RGB, of the same face.
        mesh: of the same face.
        frame: (height, width, 3) uint8 RGB, that it is in.
    """
    height, width = frame.shape[:2]
    luma = parts.face_luma(aligned)
    shadow, highlight = (float(v) for v in np.percentile(luma, (5, 95)))
    x, y = face.box.centre
    pose = pose_of(mesh)
    return Components(
        inter_eye_px=face.inter_eye_px,
        outside_share=outside_share(face, frame.shape),
        head_share=face.box.height / height,
        off_centre=max(abs((x + 0.5) / width - 0.5), abs((y + 0.5) / height - 0.5)),
        highlight=highlight,
        shadow=shadow,
        black_share=parts.black_share(mesh),
        clipped_share=float((luma >= 250).mean()),
        light_evenness=parts.light_evenness(mesh),
        background_unrest=parts.background_unrest(frame, face.box),
        yaw_degrees=pose.yaw_degrees,
        pitch_degrees=pose.pitch_degrees,
        roll_degrees=pose.roll_degrees,
        eyes_open=parts.eyes_open(mesh),
        mouth_open=parts.mouth_open(mesh),
        covered_share=parts.covered_share(mesh),
        sharpness=parts.sharpness(luma),
    )


def quality_refusal(components: Components, limits: QualityLimits) -> VisionReason | None:
    """The first limit that the measurements break, in the order in which an officer would mend them."""
    return next((row.reason for row in COMPONENTS if not row.passes(components, limits)), None)


def unified_score(length: float) -> int:
    """0..100 from the length of an embedding (`Embedding.length`)."""
    low, high = SCORE_LENGTHS
    return round(100 * float(np.clip((length - low) / (high - low), 0.0, 1.0)))
