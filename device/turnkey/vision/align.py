"""Five-point alignment: a face turned, scaled and shifted until its landmarks lie where the embedder expects them.

Source: the 112x112 template of ArcFace (Deng et al., CVPR 2019), which SFace was trained with; the least-squares
similarity is Umeyama, "Least-squares estimation of transformation parameters between two point patterns", IEEE TPAMI
1991.

Rules kept here:
1. A similarity, never a reflection: a mirrored set of landmarks gives the best rotation, not a mirrored face.
2. A large face is scaled down by averaging before it is warped: sampling a 600 px face at 112 px would alias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from turnkey.vision.geometry import cut_square

ALIGNED_PX = 112
# Right eye, left eye, nose tip, right mouth corner, left mouth corner: the subject's own right and left, so the right
# eye is on the picture's left. Pixels of the 112x112 picture.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    dtype=np.float32,
)
# Scale the crop so that the warp itself samples at no less than one source pixel and no more than this for each output
# pixel.
_DENSEST_WARP = 1.4


@dataclass(frozen=True)
class Similarity:
    """x' = a x - b y + tx;  y' = b x + a y + ty."""

    a: float
    b: float
    tx: float
    ty: float

    @property
    def scale(self) -> float:
        """Output pixels for each input pixel."""
        return float(np.hypot(self.a, self.b))

    @property
    def roll_degrees(self) -> float:
        """Rotation the transform applies."""
        return float(np.degrees(np.arctan2(self.b, self.a)))

    def apply(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 2) -> (n, 2)."""
        x, y = points[:, 0], points[:, 1]
        mapped = np.stack([self.a * x - self.b * y + self.tx, self.b * x + self.a * y + self.ty], axis=1)
        return np.asarray(mapped, dtype=np.float32)

    def inverse(self) -> Similarity:
        """The transform back."""
        square = self.a**2 + self.b**2
        a, b = self.a / square, -self.b / square
        return Similarity(a, b, -(a * self.tx - b * self.ty), -(b * self.tx + a * self.ty))


def similarity(source: NDArray[np.float32], target: NDArray[np.float32]) -> Similarity:
    """Least-squares similarity from `source` to `target`, both (n, 2), n >= 2 and not all one point.

    In the plane Umeyama's solution without reflection has this closed form.
    """
    from_mean, to_mean = source.mean(axis=0, dtype=np.float64), target.mean(axis=0, dtype=np.float64)
    p, q = source - from_mean, target - to_mean
    spread = float((p**2).sum())
    if spread <= 0:
        raise ValueError("the landmarks are all one point")
    a = float((p * q).sum()) / spread
    b = float((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()) / spread
    tx = float(to_mean[0] - a * from_mean[0] + b * from_mean[1])
    ty = float(to_mean[1] - b * from_mean[0] - a * from_mean[1])
    return Similarity(a, b, tx, ty)


def align(frame: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Cut the aligned face out of a frame.

    Args:
        frame: (height, width, 3) uint8 RGB.
        landmarks: (5, 2) float32 frame pixels, in `TEMPLATE`'s order.

    Returns:
        (112, 112, 3) uint8 RGB, black where the frame ends.
    """
    return cut_aligned(frame, landmarks, TEMPLATE, ALIGNED_PX)


def cut_aligned(
    frame: NDArray[np.uint8], landmarks: NDArray[np.float32], template: NDArray[np.float32], side_px: int
) -> NDArray[np.uint8]:
    """As `align`, to landmarks that lie at `template` in a square of `side_px`."""
    fit = similarity(landmarks, template)
    far = side_px - 0.5
    corners = np.array([[-0.5, -0.5], [far, -0.5], [-0.5, far], [far, far]], dtype=np.float32)
    reach = fit.inverse().apply(corners)
    margin = 2 / fit.scale
    low = reach.min(axis=0) - margin
    extent = float((reach.max(axis=0) + margin - low).max())
    reduction = max(1.0, 1 / fit.scale / _DENSEST_WARP)
    # Whole frame pixels where nothing is reduced, so that the warp alone resamples.
    left, top = (float(np.floor(v)) - 0.5 for v in low)
    side = int(np.ceil((extent + 1) / reduction))
    view = cut_square(frame, left, top, side * reduction, side)
    back = similarity(view_points(landmarks, view.left, view.top, view.scale), template).inverse()
    # Pillow maps output corner coordinates to input corner coordinates: shift by half a pixel on both sides.
    shift_x = back.tx - 0.5 * back.a + 0.5 * back.b + 0.5
    shift_y = back.ty - 0.5 * back.b - 0.5 * back.a + 0.5
    warped = Image.fromarray(view.pixels).transform(
        (side_px, side_px),
        Image.Transform.AFFINE,
        (back.a, -back.b, shift_x, back.b, back.a, shift_y),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(warped)


def view_points(points: NDArray[np.float32], left: float, top: float, scale: float) -> NDArray[np.float32]:
    """(n, 2) frame pixels -> pixels of the cut at (left, top), the inverse of `View.to_frame`."""
    corner = np.array([left, top], dtype=np.float32)
    return np.asarray((points - corner) * np.float32(scale) - 0.5, dtype=np.float32)
