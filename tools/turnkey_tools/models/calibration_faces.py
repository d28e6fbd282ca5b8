"""The pictures the quantiser sees: real faces, at the sizes and in the cuts in which the device will see them.

Rules kept here:
1. Every n-th picture in name order: no randomness, no favourites.
2. What is shown is what the pipeline shows: the detector sees whole frames at many sizes and second-pass cuts; the
   embedder sees aligned faces.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.capture.picture import decode_picture
from turnkey.vision.align import align
from turnkey.vision.detector import Detector
from turnkey.vision.geometry import cut_square
from turnkey_tools.evaluate.faces import Picture
from turnkey_tools.evaluate.pipeline import nearest_the_middle

PICTURES = 300
# Widths of the face in the detector's square, pixels: from the smallest it must find to one that fills the square; the
# second pass's own size comes up more often, for that is where landmarks are measured.
DETECTOR_FACES_PX = (60, 250, 120, 250, 30, 250, 90, 250, 180, 250)


def choose(pictures: list[Picture], count: int = PICTURES) -> list[Path]:
    """Every n-th picture."""
    step = max(1, len(pictures) // count)
    return [picture.path for picture in pictures[::step][:count]]


def detector_inputs(paths: list[Path], detector: Detector, side: int) -> Iterator[NDArray[np.uint8]]:
    """(side, side, 3) uint8 RGB, around the face that the float detector finds, at the sizes in turn."""
    for index, path in enumerate(paths):
        pixels = decode_picture(path.read_bytes(), path.name)
        face = nearest_the_middle(detector.find(pixels), pixels.shape)
        if face is None:
            continue
        x, y = face.box.centre
        extent = max(face.box.width, face.box.height) * side / DETECTOR_FACES_PX[index % len(DETECTOR_FACES_PX)]
        yield cut_square(pixels, x - extent / 2, y - extent / 2, extent, side).pixels


def embedder_inputs(paths: list[Path], detector: Detector) -> Iterator[NDArray[np.uint8]]:
    """(112, 112, 3) uint8 RGB aligned faces."""
    for path in paths:
        pixels = decode_picture(path.read_bytes(), path.name)
        face = nearest_the_middle(detector.find(pixels), pixels.shape)
        if face is not None:
            yield align(pixels, detector.refine(pixels, face).landmarks)
