"""The face's surface: 468 points in three dimensions, from MediaPipe's face-landmark model, run in LiteRT.

Source: Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", arXiv:1907.06724; the
numbering of the points is MediaPipe's. The model is float, as published.

Rules kept here:
1. The face is cut upright and at one size by the detector's five landmarks, so that the model sees every face alike.
2. Points serve to judge a picture (pose, eyes, mouth, what covers the face), never to tell persons apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from turnkey.vision.align import TEMPLATE, cut_aligned, similarity
from turnkey.vision.litert import Model
from turnkey.vision.manifest import ModelEntry

MESH_PX: Final = 192
POINTS: Final = 468
# The cut, in pixels of the embedder's 112x112 picture: its side, and its centre (x, y). MediaPipe cuts half as much
# again as the face from brow to chin; this is that, and where the model was surest of 120 faces of LFW.
_CUT_SIDE: Final = 140.0
_CUT_CENTRE: Final = (56.0, 76.0)
MESH_TEMPLATE: Final = np.asarray(
    (TEMPLATE + 0.5 - np.array(_CUT_CENTRE, np.float32) + _CUT_SIDE / 2) * np.float32(MESH_PX / _CUT_SIDE) - 0.5,
    dtype=np.float32,
)
_FIVE: Final = ((33, 133), (362, 263), (4,), (61,), (291,))
# The outline of the face, from the middle of the forehead clockwise in the picture; MediaPipe's numbering.
OUTLINE: Final = np.array([
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176,
    149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
])  # fmt: skip


@dataclass(frozen=True, eq=False)
class Mesh:
    """The surface of one face.

    Attributes:
        points: (468, 3) float32: x and y in pixels of `picture`, z in the same unit, smaller is nearer to the camera.
        picture: (192, 192, 3) uint8 RGB, the cut that the points were found in.
        presence: how sure the model is that there is a face, as the logit that it gives.
        roll_degrees: how far the cut was turned to set the face upright, positive clockwise.
        frame_px: frame pixels for each pixel of the cut.
    """

    points: NDArray[np.float32]
    picture: NDArray[np.uint8]
    presence: float
    roll_degrees: float
    frame_px: float

    def landmarks_in_cut(self) -> NDArray[np.float32]:
        """(5, 2) pixels of the cut: what the surface has for the detector's five landmarks, in their order."""
        means = [self.points[list(group), :2].mean(axis=0) for group in _FIVE]
        return np.asarray(means, dtype=np.float32)


class FaceMesh:
    """MediaPipe's face landmarks over LiteRT. Not safe for several threads at once."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @classmethod
    def load(cls, models: Path, entry: ModelEntry, *, threads: int = 1) -> FaceMesh:
        """Verify and load. Raises ModelError."""
        return cls(Model.load(models, entry, threads=threads, float_scale=1 / 255))

    def find(self, frame: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Mesh:
        """The surface of a face that was found.

        Args:
            frame: (height, width, 3) uint8 RGB.
            landmarks: (5, 2) float32 frame pixels, the detector's.
        """
        fit = similarity(landmarks, MESH_TEMPLATE)
        picture = cut_aligned(frame, landmarks, MESH_TEMPLATE, MESH_PX)
        outputs = sorted(self._model.run(picture).values(), key=lambda output: output.size)
        presence, points = outputs
        return Mesh(
            points=points.reshape(POINTS, 3),
            picture=picture,
            presence=float(presence.reshape(-1)[0]),
            roll_degrees=-fit.roll_degrees,
            frame_px=1 / fit.scale,
        )
