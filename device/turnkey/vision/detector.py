"""Find faces and their five landmarks with YuNet, in two passes.

Source: Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 2023; decoding as the
OpenCV model zoo's `face_detection_yunet_2023mar` defines it.

Rules kept here:
1. First pass: the whole frame, letterboxed into the network's square, says which faces there are. Second pass: a cut
   around one face, scaled until it nearly fills the square, says where its landmarks are. So a face of 60 px and one of
   2,000 px are measured alike. And so a tilted head is seen tilted: shown a face of 90 px, YuNet answers with the
   landmarks of an average upright face, whatever the head does.
2. A face is the score-weighted mean of the anchors that agree on it, not the single best one: each anchor's int8 noise
   is its own.
3. Coordinates are frame pixels, whole numbers at pixel centres; boxes may reach past the frame and are not clamped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.vision.geometry import Box, View, cut_square
from turnkey.vision.litert import Model
from turnkey.vision.manifest import ModelEntry

LANDMARKS = ("right eye", "left eye", "nose tip", "right mouth corner", "left mouth corner")
STRIDES_PX = (8, 16, 32)


@dataclass(frozen=True)
class DetectorLimits:
    """Settings of the search for faces.

    Attributes:
        min_score: of a face, 0..1. 0.6 is what OpenCV's own examples use between 0.5 and 0.9.
        same_face_iou: boxes that overlap by more are one face.
        agreeing_iou: anchors whose boxes overlap the best one's by this much are averaged with it.
        refined_face_px: the face's longer side in the second pass's cut; large, for the tilt (rule 1).
        turned_face_px: the same in the cut that is turned about to see which way is up.
    """

    min_score: float = 0.6
    same_face_iou: float = 0.3
    agreeing_iou: float = 0.6
    refined_face_px: float = 250.0
    turned_face_px: float = 180.0


@dataclass(frozen=True, eq=False)
class Face:
    """One face.

    Attributes:
        box: frame pixels.
        landmarks: (5, 2) float32 frame pixels, in the order of `LANDMARKS`; right and left are the subject's.
        score: the detector's confidence, 0..1.
    """

    box: Box
    landmarks: NDArray[np.float32]
    score: float

    @property
    def inter_eye_px(self) -> float:
        """Distance between the eye centres."""
        return float(np.linalg.norm(self.landmarks[0] - self.landmarks[1]))


@dataclass(frozen=True, eq=False)
class _Anchors:
    """Anchors over the score threshold: (n,) scores, (n, 4) box edges, (n, 5, 2) landmarks, network pixels."""

    scores: NDArray[np.float32]
    edges: NDArray[np.float32]
    landmarks: NDArray[np.float32]


class Detector:
    """YuNet over LiteRT."""

    def __init__(self, model: Model, limits: DetectorLimits = DetectorLimits()) -> None:
        self._model = model
        self._side = model.input_shape[1]
        self._limits = limits

    @classmethod
    def load(cls, models: Path, entry: ModelEntry, *, threads: int = 1) -> Detector:
        """Verify and load. Raises ModelError."""
        return cls(Model.load(models, entry, threads=threads))

    def find(self, frame: NDArray[np.uint8]) -> list[Face]:
        """First pass: every face of the frame, the surest first.

        Args:
            frame: (height, width, 3) uint8 RGB.
        """
        height, width = frame.shape[:2]
        # A small picture is set into the square, not blown up.
        extent = float(max(height, width, self._side))
        return self._faces(cut_square(frame, -0.5, -0.5, extent, self._side))

    def refine(self, frame: NDArray[np.uint8], face: Face) -> Face:
        """Second pass: the same face measured on a cut around it; unchanged where the second pass misses it."""
        view = self._cut(frame, face, self._limits.refined_face_px)
        same = [f for f in self._faces(view) if _iou(f.box, face.box) > self._limits.same_face_iou]
        return max(same, key=lambda f: _iou(f.box, face.box), default=face)

    def quarter_turns(self, frame: NDArray[np.uint8], face: Face) -> int:
        """How many anticlockwise quarter turns would set the face upright; 0 for a picture that is.

        YuNet finds most faces upside down as well, and then puts the eyes where the mouth is. But it is surest of an
        upright one: on faces of LFW turned by 0, 90, 180 and 270 degrees the upright turn scored highest in all 784
        that it found, by 0.02 and more.
        """
        view = self._cut(frame, face, self._limits.turned_face_px).pixels
        turns = [np.ascontiguousarray(np.rot90(view, turn)) for turn in range(4)]
        return int(np.argmax([best_score(self._model.run(turned)) for turned in turns]))

    def _cut(self, frame: NDArray[np.uint8], face: Face, face_px: float) -> View:
        """A square around the face, scaled so that its longer side has `face_px` of the network's pixels."""
        x, y = face.box.centre
        extent = max(face.box.width, face.box.height) * self._side / face_px
        return cut_square(frame, x - extent / 2, y - extent / 2, extent, self._side)

    def _faces(self, view: View) -> list[Face]:
        anchors = decode(self._model.run(view.pixels), self._side, self._limits.min_score)
        return [
            Face(_box_in_frame(view, edges), view.to_frame(landmarks), score)
            for score, edges, landmarks in gather(anchors, self._limits)
        ]


def decode(outputs: dict[str, NDArray[np.float32]], side: int, min_score: float) -> _Anchors:
    """Turn the three levels into boxes and landmarks, keeping anchors of at least `min_score`.

    Args:
        outputs: `level_<stride>` -> (side/stride, side/stride, 16): class logit, objectness logit, box (dx, dy, log w,
            log h), five landmarks (dx, dy), offsets in strides from the anchor.
    """
    scores, edges, landmarks = [], [], []
    for stride in STRIDES_PX:
        level = outputs[f"level_{stride}"].reshape(-1, 16)
        score = _scores(level)
        kept = np.flatnonzero(score >= min_score)
        per_row = side // stride
        anchor = np.stack([kept % per_row, kept // per_row], axis=1).astype(np.float32)
        chosen = level[kept]
        centre = (anchor + chosen[:, 2:4]) * stride
        half = np.exp(np.minimum(chosen[:, 4:6], 10.0)) * (stride / 2)
        scores.append(score[kept])
        edges.append(np.concatenate([centre - half, centre + half], axis=1))
        landmarks.append((chosen[:, 6:].reshape(-1, 5, 2) + anchor[:, np.newaxis]) * stride)
    return _Anchors(
        np.concatenate(scores).astype(np.float32),
        np.concatenate(edges).astype(np.float32),
        np.concatenate(landmarks).astype(np.float32),
    )


def best_score(outputs: dict[str, NDArray[np.float32]]) -> float:
    """The surest anchor's score, 0..1, whatever it is; `outputs` as for `decode`."""
    return max(float(_scores(outputs[f"level_{stride}"].reshape(-1, 16)).max()) for stride in STRIDES_PX)


def gather(anchors: _Anchors, limits: DetectorLimits) -> list[tuple[float, NDArray[np.float32], NDArray[np.float32]]]:
    """Non-maximum suppression, then the score-weighted mean of the anchors that agree with each survivor.

    Returns:
        (score, (4,) edges, (5, 2) landmarks) for each face, the surest first, network pixels.
    """
    open_ = list(np.argsort(-anchors.scores, kind="stable"))
    faces = []
    while open_:
        best = open_[0]
        overlap = _ious(anchors.edges[best], anchors.edges[open_])
        agreeing = [i for i, iou in zip(open_, overlap, strict=True) if iou >= limits.agreeing_iou]
        weights = anchors.scores[agreeing].astype(np.float64)
        weights /= weights.sum()
        faces.append(
            (
                float(anchors.scores[best]),
                np.asarray(np.tensordot(weights, anchors.edges[agreeing], 1), dtype=np.float32),
                np.asarray(np.tensordot(weights, anchors.landmarks[agreeing], 1), dtype=np.float32),
            )
        )
        open_ = [i for i, iou in zip(open_, overlap, strict=True) if iou <= limits.same_face_iou and i != best]
    return faces


def _scores(level: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) score of each anchor: the geometric mean of class and objectness."""
    return np.asarray(np.sqrt(_sigmoid(level[:, 0]) * _sigmoid(level[:, 1])), dtype=np.float32)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -60, 60))), dtype=np.float32)


def _ious(edges: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.maximum(edges[:2], others[:, :2]), np.minimum(edges[2:], others[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    return np.asarray(shared / (np.prod(edges[2:] - edges[:2]) + areas - shared), dtype=np.float32)


def _iou(one: Box, other: Box) -> float:
    shared = one.overlap(other)
    return shared / max(one.area + other.area - shared, 1e-6)


def _box_in_frame(view: View, edges: NDArray[np.float32]) -> Box:
    (left, top), (right, bottom) = view.to_frame(edges.reshape(2, 2)).tolist()
    return Box(left, top, right - left, bottom - top)
