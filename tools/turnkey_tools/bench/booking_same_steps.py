"""A booking's looks at its frames, step for step as the device takes them, with OpenCV's parts.

So that it can be told apart what better parts give and what fewer steps give. In OpenCV's favour: frames and cuts are
sampled linearly, not averaged; there is no face mesh (OpenCV ships none), so pose, eyes, mouth and covering are not
measured at all.

Rules kept here:
1. The same looks: the frame at 320 pixels, four turned ones for the first good frame, a cut around the face for its
   landmarks; the largest face, and no second one; a frame that shows what a good one showed is passed over; the aligned
   face is embedded as it is and mirrored.
2. cv2 is imported when it is used: it is an extra.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from turnkey.vision.detector import DetectorLimits
from turnkey.vision.embedder import unit
from turnkey.vision.limits import QualityLimits
from turnkey.vision.sameness import SAME, SHARPER

_LOOK_PX: Final = 320
_PATTERN_PX, _DETAIL_PX = 16, 128
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, eq=False)
class _Remembered:
    square: tuple[float, float, float]
    pattern: NDArray[np.float32]
    sharpness: float


@dataclass
class SameSteps:
    """FaceDetectorYN and FaceRecognizerSF, used as the device uses its own; for one press after the other.

    Attributes:
        whole, cut: detectors, set to the scaled frame's size and to the cut's.
        recogniser: FaceRecognizerSF.
    """

    whole: Any
    cut: Any
    recogniser: Any
    remembered: list[_Remembered] = field(default_factory=list)

    def passes_over(self, frame: NDArray[np.uint8]) -> bool:
        """Whether the frame shows what a good one of this press showed."""
        for one in self.remembered:
            now = self._glimpse(frame, one.square)
            if float(now.pattern @ one.pattern) >= SAME and now.sharpness <= one.sharpness + SHARPER:
                return True
        return False

    def face(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(15,) the one face as FaceDetectorYN has it, frame pixels."""
        import cv2

        scale = _LOOK_PX / max(frame.shape[:2])
        small = cv2.resize(frame, None, fx=scale, fy=scale)
        self.whole.setInputSize((small.shape[1], small.shape[0]))
        faces = self.whole.detect(small)[1]
        if faces is None:
            raise SystemExit("it found no face")
        areas = faces[:, 2] * faces[:, 3]
        if (areas >= QualityLimits().second_face_share * areas.max()).sum() > 1:
            raise SystemExit("it found several faces")
        found = faces[areas.argmax()].copy()
        found[:14] /= scale
        limits = DetectorLimits()
        if not self.remembered:
            turned, _, _ = self._square(frame, found, limits.turned_face_px)
            scores = [self._best(np.ascontiguousarray(np.rot90(turned, turn))) for turn in range(4)]
            if int(np.argmax(scores)):
                raise SystemExit("it holds the picture for turned")
        view, corner, scale = self._square(frame, found, limits.refined_face_px)
        second = self.cut.detect(view)[1]
        if second is not None:
            found = max(second, key=lambda row: row[2] * row[3]).copy()
            found[:14] /= scale
            found[[0, *range(4, 14, 2)]] += corner[0]
            found[[1, *range(5, 14, 2)]] += corner[1]
        return np.asarray(found, np.float32)

    def inspect(self, frame: NDArray[np.uint8], face: NDArray[np.float32], aligned: NDArray[np.uint8]) -> None:
        """Light, clipping and sharpness; and what the frame showed is remembered."""
        luma = aligned[32:108, 24:88] @ _LUMA
        low, high = np.percentile(luma, (5, 95))
        limits = QualityLimits()
        good = high >= limits.min_highlight and low <= limits.max_shadow
        if not good or (luma >= 250).mean() > limits.max_clipped_share or self._sharpness(luma) < limits.min_sharpness:
            raise SystemExit("it finds the picture too poor")
        side = float(max(face[2], face[3]))
        square = (float(face[0] + face[2] / 2 - side / 2), float(face[1] + face[3] / 2 - side / 2), side)
        self.remembered.append(self._glimpse(frame, square))

    def template(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(128,) of the face as it is and mirrored, unit norm."""
        views = [self.recogniser.feature(view)[0] for view in (aligned, np.ascontiguousarray(aligned[:, ::-1]))]
        return unit(unit(np.stack(views).astype(np.float32)).sum(axis=0))

    def _best(self, view: NDArray[np.uint8]) -> float:
        faces = self.cut.detect(view)[1]
        return 0.0 if faces is None else float(faces[:, 14].max())

    def _square(
        self, frame: NDArray[np.uint8], face: NDArray[np.float32], face_px: float
    ) -> tuple[NDArray[np.uint8], tuple[float, float], float]:
        """A cut around a face: its pixels, its corner in the frame, its scale."""
        extent = float(max(face[2], face[3])) * _LOOK_PX / face_px
        left, top = float(face[0] + face[2] / 2 - extent / 2), float(face[1] + face[3] / 2 - extent / 2)
        return _sampled(frame, left, top, extent, _LOOK_PX), (left, top), _LOOK_PX / extent

    def _glimpse(self, frame: NDArray[np.uint8], square: tuple[float, float, float]) -> _Remembered:
        import cv2

        luma = _sampled(frame, *square, _DETAIL_PX) @ _LUMA
        pattern = cv2.resize(luma, (_PATTERN_PX, _PATTERN_PX), interpolation=cv2.INTER_AREA).reshape(-1)
        pattern = pattern - pattern.mean()
        return _Remembered(square, np.asarray(unit(pattern), np.float32), self._sharpness(luma))

    def _sharpness(self, luma: NDArray[np.float32]) -> float:
        import cv2

        fine, detail = (float((luma - cv2.GaussianBlur(luma, (0, 0), sigma)).std()) for sigma in (2.0, 4.0))
        return fine / max(detail, 1e-6)


def _sampled(frame: NDArray[np.uint8], left: float, top: float, extent: float, side: int) -> NDArray[np.uint8]:
    """(side, side, 3): a square of the frame, sampled linearly; black outside it."""
    import cv2

    scale = side / extent
    return np.asarray(
        cv2.warpAffine(frame, np.array([[scale, 0, -scale * left], [0, scale, -scale * top]]), (side, side))
    )
