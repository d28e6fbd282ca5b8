"""Landmarks of int8 YuNet against float, by size of the face in the picture.

Rules kept here:
1. Both run the pipeline's two passes; beside that, int8 is compared with plain YuNet: one pass of the float twin over
   a cut in which the face keeps its size where it fits, which is what a user of the published model would get.
2. The picture, not the cut, is scaled: the pipeline must cope with the size by itself.
3. Errors are the mean distance of five landmarks, in inter-eye distances of the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from turnkey.capture.picture import decode_picture
from turnkey.vision.detector import Detector, Face
from turnkey_tools.evaluate.faces import Picture
from turnkey_tools.evaluate.pipeline import nearest_the_middle

FACE_SIZES_PX = (60, 150, 300, 600)


@dataclass(frozen=True)
class LandmarkRow:
    """One size of face.

    Attributes:
        face_px: width of the face in the scaled picture.
        pictures: shown.
        found_share: of the faces that float finds, those that int8 finds, 0..1.
        mean, p95: landmark error against float in the same pipeline, inter-eye distances.
        plain_mean, plain_p95: int8 pipeline against one pass of float.
    """

    face_px: int
    pictures: int
    found_share: float
    mean: float
    p95: float
    plain_mean: float
    plain_p95: float


def landmark_table(
    pictures: list[Picture], int8: Detector, twin: Detector, *, tick: Callable[[int, int], None]
) -> list[LandmarkRow]:
    """Compare on every picture at each size.

    Args:
        pictures: in which `twin` tells the faces' own sizes.
        tick: (done, of).
    """
    errors: dict[int, list[float]] = {size: [] for size in FACE_SIZES_PX}
    plain: dict[int, list[float]] = {size: [] for size in FACE_SIZES_PX}
    seen, found = dict.fromkeys(FACE_SIZES_PX, 0), dict.fromkeys(FACE_SIZES_PX, 0)
    for index, picture in enumerate(pictures):
        pixels = decode_picture(picture.path.read_bytes(), picture.path.name)
        native = nearest_the_middle(twin.find(pixels), pixels.shape)
        if native is not None:
            for size in FACE_SIZES_PX:
                scaled = _scaled(pixels, size / native.box.width)
                once = nearest_the_middle(twin.find(scaled), scaled.shape)
                if once is None:
                    continue
                seen[size] += 1
                ours = nearest_the_middle(int8.find(scaled), scaled.shape)
                if ours is None:
                    continue
                found[size] += 1
                measured = int8.refine(scaled, ours)
                errors[size].append(_error(measured, twin.refine(scaled, once)))
                plain[size].append(_error(measured, once))
        tick(index + 1, len(pictures))
    return [_row(size, seen[size], found[size], errors[size], plain[size]) for size in FACE_SIZES_PX]


def _row(size: int, seen: int, found: int, errors: list[float], plain: list[float]) -> LandmarkRow:
    return LandmarkRow(
        face_px=size,
        pictures=seen,
        found_share=found / max(1, seen),
        mean=float(np.mean(errors)),
        p95=float(np.quantile(errors, 0.95)),
        plain_mean=float(np.mean(plain)),
        plain_p95=float(np.quantile(plain, 0.95)),
    )


def _scaled(pixels: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _error(face: Face, reference: Face) -> float:
    distance = np.linalg.norm(face.landmarks - reference.landmarks, axis=1).mean()
    return float(distance / reference.inter_eye_px)
