"""The policy's table `quality`: what a probe must be like, component by component.

Each threshold has the name and the unit of the device's own limit (`vision.limits.QualityLimits`), and stands in for it
where it is set. A policy may ask for more or for less than the device would by itself.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from turnkey.leads.fields import Record, Share

Luma = Annotated[float, Field(ge=0, le=255)]
Degrees = Annotated[float, Field(gt=0, le=90)]


class QualityThresholds(Record):
    """All optional: what is left out stays as the device has it. `vision.limits` says what each of them means."""

    second_face_share: Share | None = None
    min_inter_eye_px: Annotated[float, Field(ge=1, le=1000)] | None = None
    max_outside_share: Share | None = None
    min_head_share: Share | None = None
    max_head_share: Share | None = None
    max_off_centre: Annotated[float, Field(gt=0, le=0.5)] | None = None
    min_highlight: Luma | None = None
    max_shadow: Luma | None = None
    max_black_share: Share | None = None
    max_clipped_share: Share | None = None
    min_light_evenness: Share | None = None
    max_background_unrest: Luma | None = None
    max_yaw_degrees: Degrees | None = None
    max_pitch_degrees: Degrees | None = None
    max_roll_degrees: Degrees | None = None
    min_eyes_open: Share | None = None
    max_mouth_open: Share | None = None
    max_covered_share: Share | None = None
    min_sharpness: Share | None = None
