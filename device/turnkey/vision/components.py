"""What is measured on one face, each a number with a unit: components of ISO/IEC 29794-5 that pixels and points tell.

Rules kept here:
1. Measured on the cuts that the embedder and the face mesh see, so that a face of 60 px and one of 2,000 px give the
   same numbers for the same picture.
2. Light is judged by what the sensor lost and by how evenly it falls, never by how bright the skin is: a well lit
   photograph of a dark-skinned person is a good photograph.
3. No I/O, no randomness.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from turnkey.vision.geometry import Box, cut_square
from turnkey.vision.mesh import MESH_PX, OUTLINE, Mesh

# Standard deviations of the two blurs that sharpness compares with, pixels of the aligned picture.
_DETAIL_PX: Final = (2.0, 4.0)
# The face itself in the aligned 112x112 picture: from the brows to the chin, cheek to cheek.
_FACE_ROWS: Final = slice(32, 108)
_FACE_COLUMNS: Final = slice(24, 88)

# Points of the mesh. Lids: (upper, lower) pairs of the right and of the left eye; lips: inner edges, and their corners.
_RIGHT_LIDS: Final = np.array([[159, 145], [158, 153], [160, 144]])
_LEFT_LIDS: Final = np.array([[386, 374], [385, 380], [387, 373]])
_INNER_LIPS: Final = np.array([[13, 14], [82, 87], [312, 317]])
_EYE_CORNERS: Final = np.array([33, 133, 362, 263])
_CHIN: Final = 152
# Side of what is looked at around the head, in face heights, and in pixels.
_SURROUNDINGS: Final = 3.0
_SURROUNDINGS_PX: Final = 96
# Middles of the cheeks: where ISO/IEC 29794-5 compares the light of the two sides.
_RIGHT_CHEEK: Final = np.array([50, 101, 205])
_LEFT_CHEEK: Final = np.array([280, 330, 425])
# Skin is looked at in patches of so many pixels of the cut; chroma per luma that is another colour; light that is gone.
_SKIN_PATCH_PX: Final = 4
_OTHER_CHROMA: Final = 0.12
_SHADED: Final = 0.35
# Skin in a face that nothing covers: forehead, round the eyes, nose, cheeks, upper lip, chin.
_SKIN: Final = np.array([
    10, 151, 9, 8, 108, 337, 69, 299, 67, 297, 104, 333, 168, 6, 197, 195, 5, 4, 45, 275, 50, 280, 101, 330,
    205, 425, 117, 346, 118, 347, 119, 348, 36, 266, 123, 352, 187, 411, 207, 427, 216, 436, 164, 167, 393,
    18, 200, 199, 175, 32, 262, 171, 396, 230, 450, 229, 449, 228, 448, 111, 340, 35, 265, 143, 372,
])  # fmt: skip


def luma_of(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(height, width, 3) uint8 RGB -> (height, width) float32, 0..255: Rec. 601 luma, as JPEG uses it."""
    return np.asarray(Image.fromarray(picture).convert("L"), dtype=np.float32)


def face_luma(aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The face's part of the embedder's picture, as luma."""
    return luma_of(aligned[_FACE_ROWS, _FACE_COLUMNS])


def sharpness(luma: NDArray[np.float32]) -> float:
    """Of the detail finer than a Gaussian of 4 px, the share (in standard deviations) finer than 2 px, 0..1."""
    picture = Image.fromarray(np.clip(np.rint(luma), 0, 255).astype(np.uint8))
    fine, all_detail = (float((luma - _blurred(picture, sigma)).std()) for sigma in _DETAIL_PX)
    return fine / max(all_detail, 1e-6)


def face_height_px(mesh: Mesh) -> float:
    """From the middle between the eyes to the chin, pixels of the mesh's cut: the unit of eyes and mouth."""
    eyes = mesh.points[_EYE_CORNERS, :2].mean(axis=0)
    return max(float(np.linalg.norm(mesh.points[_CHIN, :2] - eyes)), 1.0)


def eyes_open(mesh: Mesh) -> float:
    """Widest gap between the lids of the eye that is less open, over the face's height (ISO/IEC 29794-5, eyes open)."""
    gaps = [_gaps(mesh, lids).max() for lids in (_RIGHT_LIDS, _LEFT_LIDS)]
    return float(min(gaps)) / face_height_px(mesh)


def mouth_open(mesh: Mesh) -> float:
    """Widest gap between the inner edges of the lips, over the face's height (ISO/IEC 29794-5, mouth closed)."""
    return float(_gaps(mesh, _INNER_LIPS).max()) / face_height_px(mesh)


def light_evenness(mesh: Mesh) -> float:
    """How alike the light on both cheeks is: what their luma histograms share, 0..1 (ISO/IEC 29794-5, uniformity)."""
    luma = luma_of(mesh.picture)
    half = max(2, round(0.15 * face_height_px(mesh)))
    right, left = (_histogram(_patch(luma, mesh, cheek, half)) for cheek in (_RIGHT_CHEEK, _LEFT_CHEEK))
    return float(np.minimum(right, left).sum())


def black_share(mesh: Mesh) -> float:
    """Share of the face's pixels at luma 25 and less, 0..1 (ISO/IEC 29794-5, under-exposure)."""
    face = luma_of(mesh.picture)[_inside(mesh)]
    return float((face <= 25).mean()) if face.size else 1.0


def covered_share(mesh: Mesh) -> float:
    """Share of the face's skin points that have not its colour, 0..1: what a mask, glasses, hair or shadow cover."""
    reduced = Image.fromarray(mesh.picture).reduce(_SKIN_PATCH_PX).convert("YCbCr")
    x, y = np.clip(mesh.points[_SKIN, :2] / _SKIN_PATCH_PX, 0, reduced.width - 1).astype(np.intp).T
    colour = np.asarray(reduced)[y, x].astype(np.float32)
    light = np.maximum(colour[:, 0], 12.0)
    # Chroma falls with the light: compared per unit of it.
    chroma = (colour[:, 1:] - 128.0) / light[:, np.newaxis]
    away = np.hypot(*(chroma - np.median(chroma, axis=0)).T)
    return float(((away > _OTHER_CHROMA) | (light < _SHADED * np.median(light))).mean())


def background_unrest(frame: NDArray[np.uint8], face: Box) -> float:
    """Mean step of luma between neighbours beside and above the head, grey levels, with a face 32 px high.

    ISO/IEC 29794-5 asks for an even background; 0 is a painted wall.
    """
    x, y = face.centre
    extent = max(face.width, face.height) * _SURROUNDINGS
    view = cut_square(frame, x - extent / 2, y - extent * 0.55, extent, _SURROUNDINGS_PX).pixels
    luma = luma_of(view)
    seen = view.any(axis=2) & _BESIDE_THE_HEAD
    pairs_across, pairs_down = seen[:, 1:] & seen[:, :-1], seen[1:] & seen[:-1]
    steps = np.concatenate([np.abs(np.diff(luma, axis=1))[pairs_across], np.abs(np.diff(luma, axis=0))[pairs_down]])
    return float(steps.mean()) if steps.size else 0.0


def _beside_the_head() -> NDArray[np.bool_]:
    """Of the surroundings: what is not the head with its hair, and not below the mouth, where the shoulders are."""
    row, column = np.mgrid[0:_SURROUNDINGS_PX, 0:_SURROUNDINGS_PX] / _SURROUNDINGS_PX
    head = ((column - 0.5) / 0.27) ** 2 + ((row - 0.5) / 0.36) ** 2 <= 1
    return np.asarray(~head & (row < 0.62))


_BESIDE_THE_HEAD: Final = _beside_the_head()


def _gaps(mesh: Mesh, pairs: NDArray[np.int_]) -> NDArray[np.float32]:
    return np.asarray(np.linalg.norm(mesh.points[pairs[:, 0]] - mesh.points[pairs[:, 1]], axis=1), dtype=np.float32)


def _patch(luma: NDArray[np.float32], mesh: Mesh, points: NDArray[np.int_], half: int) -> NDArray[np.float32]:
    x, y = np.clip(np.rint(mesh.points[points, :2].mean(axis=0)), half, MESH_PX - half - 1).astype(int)
    return luma[y - half : y + half + 1, x - half : x + half + 1]


def _histogram(luma: NDArray[np.float32]) -> NDArray[np.float64]:
    counts = np.bincount(luma.astype(np.uint8).reshape(-1) >> 3, minlength=32)
    return np.asarray(counts / max(1, luma.size), dtype=np.float64)


def _inside(mesh: Mesh) -> NDArray[np.bool_]:
    """(192, 192): the pixels within the face's outline."""
    drawn = Image.new("1", (MESH_PX, MESH_PX))
    ImageDraw.Draw(drawn).polygon([(float(x), float(y)) for x, y in mesh.points[OUTLINE, :2]], fill=1)
    return np.asarray(drawn)


def _blurred(picture: Image.Image, sigma_px: float) -> NDArray[np.float32]:
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(sigma_px)), dtype=np.float32)
