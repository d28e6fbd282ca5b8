"""Whether a camera still sees: a sensor that hangs, or a driver that hands out one buffer again and again, shows as
frames that do not change. Pure: frames' times and digests in, a verdict out.
"""

from __future__ import annotations

import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

_EVERY_PX: Final = 7
"""Each seventh pixel of each seventh row: a sensor's noise shows anywhere, and 2 % of a picture is read in no time."""


def digest_of(pixels: NDArray[np.uint8]) -> int:
    """A number that two pictures of a living sensor do not share.

    Args:
        pixels: (height, width, ...) uint8.
    """
    return zlib.crc32(pixels[::_EVERY_PX, ::_EVERY_PX].tobytes())


class FrozenFrames:
    """Counts frames that are the same as the one before, also across a camera that is opened anew: a living sensor's
    noise never repeats, so one same frame more says that opening did not help.

    Args:
        after: so many same frames in a row are a frozen camera; None: a still is played on purpose, and nothing counts.
    """

    def __init__(self, after: int | None) -> None:
        self._after = after
        self._last: int | None = None
        self._same = 0

    def frozen(self, digest: int) -> bool:
        """Whether the camera is frozen, this frame included."""
        self._same = self._same + 1 if digest == self._last else 0
        self._last = digest
        return self._after is not None and self._same >= self._after
