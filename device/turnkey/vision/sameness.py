"""Does a frame of a press show what a frame before it showed? Then it adds nothing, and need not be looked at again.

Two frames that a camera takes within a second of somebody who holds still are one picture twice: their templates lie
closer together than the int8 rounding of one. Where anything changed (the person turned, blinked, moved, or is another)
the pictures differ, and the frame is looked at like the first.

Rules kept here:
1. The same means: the face's square, reduced to 16 x 16 pixels, less its mean and scaled to length one, correlates by
   `SAME` or more. `turnkeyctl bench sameness` measures how far from that two persons stay, even where their
   eyes and mouths are laid upon each other.
2. A frame that is sharper than the one before is not the same: it may be the better one.
3. What is not certain is not the same: another size of frame, a face too small, a square without contrast.
4. No I/O, no randomness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from turnkey.vision.components import luma_of, sharpness
from turnkey.vision.geometry import Box, cut_square

SAME: Final = 0.98
"""Correlation from which two squares are one picture."""
SHARPER: Final = 0.01
"""By so much more sharpness (`components.sharpness`) a frame is worth a look of its own; grain changes it by less."""
_PATTERN_PX: Final = 16
_DETAIL_PX: Final = 128


@dataclass(frozen=True, eq=False)
class Glimpse:
    """One frame at one place.

    Attributes:
        place: the face's box, frame pixels; of the frame that is remembered.
        shape: (height, width, 3) of the frame.
        pattern: (256,) float32, unit norm; all zero where there is no contrast.
        sharpness: of the square.
    """

    place: Box
    shape: tuple[int, ...]
    pattern: NDArray[np.float32]
    sharpness: float


def glimpse(frame: NDArray[np.uint8], place: Box) -> Glimpse:
    """Look at one place of a frame.

    Args:
        frame: (height, width, 3) uint8 RGB.
        place: a face's box, frame pixels.
    """
    extent = max(place.width, place.height)
    x, y = place.centre
    luma = luma_of(cut_square(frame, x - extent / 2, y - extent / 2, extent, _DETAIL_PX).pixels)
    small = Image.fromarray(luma.astype(np.uint8)).reduce(_DETAIL_PX // _PATTERN_PX)
    pattern = np.asarray(small, dtype=np.float32).reshape(-1)
    pattern = pattern - pattern.mean()
    norm = float(np.linalg.norm(pattern))
    certain = norm > 0 and extent >= 2 * _PATTERN_PX
    unit = pattern / norm if certain else np.zeros_like(pattern)
    return Glimpse(place, frame.shape, np.asarray(unit, dtype=np.float32), sharpness(luma))


def shows_the_same(frame: NDArray[np.uint8], remembered: Glimpse) -> bool:
    """Whether a frame shows, at the same place and no sharper, what was remembered of another.

    Args:
        frame: (height, width, 3) uint8 RGB.
    """
    if frame.shape != remembered.shape:
        return False
    now = glimpse(frame, remembered.place)
    alike = float(now.pattern @ remembered.pattern) >= SAME
    return alike and now.sharpness <= remembered.sharpness + SHARPER
