"""Where a frame is refused: one limit for each component of quality. The device's own; a policy may set any of them.

Each `min_` and `max_` is inclusive: at the limit a frame still passes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class QualityLimits:
    """The limits; what is measured is described in `quality.Components`.

    The defaults refuse what the embedder cannot use, and next to no press photograph. Mugshot guidance (ANSI/NIST-ITL
    1-2011, annex E: frontal, mouth closed, eyes open, plain background) is stricter, and for a policy to ask for; for
    the components that recognition does not suffer from, the default never refuses. Nor does it for what covers the
    face: a grey beard has not the skin's colour either, and nobody is to be sent away for a beard.

    Attributes:
        second_face_share: another face counts when its area is at least this share of the largest one's. A quarter of
            the area is half the width: somebody at twice the distance is scenery, somebody beside the person is not.
        min_inter_eye_px: distance between eye centres in the frame, pixels.
        max_outside_share: share of the face's box that may lie outside the frame.
        min_head_share, max_head_share: height of the face's box over the frame's height.
        max_off_centre: of the face's centre from the frame's, as a share of the frame's width or height, whichever is
            more; 0.5 is the edge.
        min_highlight: 95th percentile of the face's luma, 0..255.
        max_shadow: 5th percentile of the face's luma, 0..255.
        max_black_share: share of the face's pixels at luma 25 and less.
        max_clipped_share: share of the face's pixels at luma 250 and more.
        min_light_evenness: what the luma histograms of both cheeks share, 0..1.
        max_background_unrest: mean luma step between neighbours around the head, grey levels.
        max_yaw_degrees, max_pitch_degrees: of the head, either way.
        max_roll_degrees: of the head in the picture's plane; alignment undoes it, beyond this the picture is lying on
            its side.
        min_eyes_open: gap between the lids of the less open eye, over the distance from eyes to chin.
        max_mouth_open: gap between the lips, over the distance from eyes to chin.
        max_covered_share: share of the face's skin points that have not the skin's colour.
        min_sharpness: share of fine detail, 0..1.
        min_score: unified score, 0..100.
    """

    second_face_share: float = 0.25
    min_inter_eye_px: float = 28.0
    max_outside_share: float = 0.12
    min_head_share: float = 0.0
    max_head_share: float = 1.0
    max_off_centre: float = 0.5
    min_highlight: float = 60.0
    max_shadow: float = 185.0
    max_black_share: float = 0.6
    max_clipped_share: float = 0.25
    min_light_evenness: float = 0.0
    max_background_unrest: float = 255.0
    max_yaw_degrees: float = 45.0
    max_pitch_degrees: float = 40.0
    max_roll_degrees: float = 50.0
    min_eyes_open: float = 0.03
    max_mouth_open: float = 0.35
    max_covered_share: float = 1.0
    min_sharpness: float = 0.4
    min_score: float = 0.0
