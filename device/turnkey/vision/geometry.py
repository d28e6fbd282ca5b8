"""Taking a region of a photograph at another scale, and getting coordinates back.

Coordinates are pixels of the upright frame with whole numbers at pixel centres (OpenCV's convention, which both
networks were trained with): the pixel (0, 0) covers -0.5 to 0.5.

Rules kept here:
1. Nothing is clamped before it is mapped: what lies outside the photograph is black (as is an output pixel that the
   photograph covers in part), and coordinates stay exact to half an output pixel at the far edge, better
   elsewhere.
2. A 12 MP frame is never resampled whole: rows and columns are skipped first, down to no less than two samples for
   each output pixel, and only those are averaged, by weight. (In whole squares first it would cost a millisecond less
   for each cut of such a frame, and move the golden face's landmarks by a hundredth of the inter-eye distance.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SAMPLES_PER_PIXEL = 2


@dataclass(frozen=True)
class Box:
    """An axis-aligned rectangle, frame pixels."""

    left: float
    top: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """Square pixels."""
        return max(0.0, self.width) * max(0.0, self.height)

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y)."""
        return self.left + self.width / 2, self.top + self.height / 2

    def overlap(self, other: Box) -> float:
        """Area in both, square pixels."""
        width = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        height = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


@dataclass(frozen=True, eq=False)
class View:
    """A square cut of a photograph at some scale.

    Attributes:
        pixels: (side, side, 3) uint8 RGB.
        left, top: frame coordinates of the cut's outer corner.
        scale: cut pixels for each frame pixel.
    """

    pixels: NDArray[np.uint8]
    left: float
    top: float
    scale: float

    def to_frame(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 2) points of the cut, whole numbers at pixel centres -> frame pixels."""
        corner = np.array([self.left, self.top], dtype=np.float32)
        return np.asarray((points + 0.5) / np.float32(self.scale) + corner, dtype=np.float32)


def cut_square(frame: NDArray[np.uint8], left: float, top: float, extent: float, side: int) -> View:
    """Cut the square at (left, top), `extent` frame pixels wide, scaled to `side` pixels; black outside the frame.

    Args:
        frame: (height, width, 3) uint8.
        left, top: outer corner in frame coordinates (-0.5 is the frame's own edge).
        extent: of the square, frame pixels, more than 0.
        side: of the result, pixels.
    """
    height, width = frame.shape[:2]
    scale = side / extent
    # The part of the cut that the frame covers, in whole output pixels.
    x0, x1 = _covered(left, width, scale, side)
    y0, y1 = _covered(top, height, scale, side)
    if x1 <= x0 or y1 <= y0:
        return View(np.zeros((side, side, 3), np.uint8), left, top, scale)
    # Edges in corner coordinates: the frame spans 0 to width.
    across = _thinning(left + 0.5 + x0 / scale, left + 0.5 + x1 / scale, width, scale)
    down = _thinning(top + 0.5 + y0 / scale, top + 0.5 + y1 / scale, height, scale)
    thinned = _thinned(frame, down.samples, across.samples)
    box = (
        max(across.low, 0.0),
        max(down.low, 0.0),
        min(across.high, thinned.width),
        min(down.high, thinned.height),
    )
    part = thinned.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR, box=box)
    if part.size == (side, side):
        return View(np.asarray(part), left, top, scale)
    result = Image.new("RGB", (side, side))
    result.paste(part, (x0, y0))
    return View(np.asarray(result), left, top, scale)


@dataclass(frozen=True)
class _Thinning:
    """Which rows or columns are read, and where the wanted part lies among them, in corner coordinates."""

    samples: slice
    low: float
    high: float


def _thinning(low: float, high: float, length: int, scale: float) -> _Thinning:
    step = max(1, int(1 / scale / _SAMPLES_PER_PIXEL))
    # The middle sample of each step stands for it; where a step has no middle, `lag` makes up for the half pixel.
    middle = (step - 1) // 2
    lag = middle + 0.5 - step / 2
    first = min(max(int(low), 0), length - 1)
    last = min(length, int(np.ceil(high)) + step)
    start = min(first + middle, length - 1)
    return _Thinning(slice(start, last, step), (low - first - lag) / step, (high - first - lag) / step)


def _thinned(frame: NDArray[np.uint8], rows: slice, columns: slice) -> Image.Image:
    """Some rows and columns. A pixel is moved as one item of four bytes, the last of them its neighbour's, which Pillow
    leaves out: a third of the time of three bytes."""
    stride, step = frame.strides[0], 3 * columns.step
    shape = (len(range(*rows.indices(frame.shape[0]))), len(range(*columns.indices(frame.shape[1]))))
    first = rows.start * stride + columns.start * 3
    last = first + (shape[0] - 1) * rows.step * stride + (shape[1] - 1) * step
    if not frame.flags.c_contiguous or last + 4 > frame.nbytes:  # behind the frame's last pixel there is no neighbour
        return Image.fromarray(np.ascontiguousarray(frame[rows, columns]))
    pixels = np.ndarray(shape, np.uint32, frame.data, first, (rows.step * stride, step))
    return Image.frombytes("RGB", shape[::-1], np.ascontiguousarray(pixels).data, "raw", "RGBX")


def _covered(start: float, length: int, scale: float, side: int) -> tuple[int, int]:
    """First and one past last output pixel that lies wholly on the frame along one axis."""
    first = int(np.clip(np.ceil((-0.5 - start) * scale - 1e-6), 0, side))
    last = int(np.clip(np.floor((length - 0.5 - start) * scale + 1e-6), 0, side))
    return first, last
