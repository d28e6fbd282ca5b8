"""One probe out of several frames of one press of the shutter.

Rules kept here:
1. A template is a direction and its quality says how far it is to be trusted: frames are summed by their scores, and
   the sum is scaled to length one.
2. Frames that disagree about the person are not fused: two people may have changed places, and a probe made of both
   would lead to neither or to both. Every pair of frames must agree.
3. No I/O, no randomness.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from turnkey.vision.embedder import unit
from turnkey.vision.manifest import Calibration

AGREEMENT_FMR = 1e-5
"""Frames agree at the threshold where the calibration bounds the false match rate by this. Frames of one press lie far
above it; what a persons' swap would have to pass is one in a hundred thousand."""

FUSED_FMR_FACTOR = 1.5
"""A fused probe's FMR over a single picture's at the same threshold, at most: `turnkeyctl evaluate quality` measured
1.36 for three pictures of a person and 1.40 for bursts. A mean of templates, scaled to length one, lies closer to
everybody. The calibration is of single pictures, so the decision takes its bounds times this."""


def agreement_threshold(calibration: Calibration) -> float:
    """The score that each two frames of a press must reach: the strictest group's.

    A calibration too small to support `AGREEMENT_FMR` gives its last threshold.
    """
    return max(
        next((row.threshold for row in group.rows if row.fmr_upper95 <= AGREEMENT_FMR), group.rows[-1].threshold)
        for group in calibration.groups
    )


def of_one_person(templates: Sequence[NDArray[np.float32]], threshold: float) -> bool:
    """Whether each two of (128,) unit-norm templates reach the threshold; one template agrees with itself."""
    stacked = np.stack(templates)
    return bool((stacked @ stacked.T >= threshold)[np.triu_indices(len(stacked), 1)].all())


def fuse(templates: Sequence[NDArray[np.float32]], scores: Sequence[int]) -> NDArray[np.float32]:
    """One template.

    Args:
        templates: (128,) float32, centred, unit norm, at least one.
        scores: unified quality of each, 0..100; where all are 0 the frames weigh the same.

    Returns:
        (128,) float32, unit norm; a single template comes back as it is.
    """
    if len(templates) == 1:
        return templates[0]
    weights = np.asarray(scores, dtype=np.float32)
    if not weights.any():
        weights = np.ones_like(weights)
    return unit(np.asarray((np.stack(templates) * weights[:, np.newaxis]).sum(axis=0), dtype=np.float32))
