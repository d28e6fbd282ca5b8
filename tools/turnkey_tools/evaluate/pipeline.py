"""The device's vision steps in a form that can be handed to worker processes: both models, and how to run them.

Rules kept here:
1. The same steps as on the device (two-pass detection, alignment, embedding), less its two refusals: pictures in a
   research set hold bystanders, so the face nearest the picture's middle is taken; and no picture is dropped for its
   quality.
2. A float twin runs the same code: the scaling is applied where a model wants floats, and ignored where it does not.
3. One thing may be tried that the device does not do: to cut mirror images with more room around the face.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.capture.camera import CameraError
from turnkey.capture.picture import decode_picture
from turnkey.vision.align import align
from turnkey.vision.detector import Detector, Face
from turnkey.vision.embedder import Embedder
from turnkey.vision.litert import Model, verified_bytes
from turnkey.vision.manifest import Manifest
from turnkey_tools.evaluate.conditions import Condition

# What SFace's float twin reads: (q - 128) / 128 of a pixel q. YuNet takes pixels as they are.
_EMBEDDER_SCALE, _EMBEDDER_ZERO = 1 / 128, 128


@dataclass(frozen=True, eq=False)
class Seen:
    """One face.

    Attributes:
        views: (1 + mirror images, d) float32 unit norm, not centred: the face as it is, then in the mirror.
        landmarks: (5, 2) float32, picture pixels.
    """

    views: NDArray[np.float32]
    landmarks: NDArray[np.float32]


@dataclass(frozen=True)
class Pipeline:
    """Both models and how the embedder is used. Small enough to be sent to a worker once.

    Attributes:
        rooms: of each mirror image, how many times as wide as the face itself it is cut; one of 1 on the device.
    """

    detector: bytes
    embedder: bytes
    mirrored: bool
    rooms: tuple[float, ...] = (1.0,)

    @classmethod
    def shipped(cls, models: Path, manifest: Manifest) -> Pipeline:
        """What the manifest names. Raises ModelError."""
        return cls(
            verified_bytes(models, manifest.detector),
            verified_bytes(models, manifest.embedder),
            manifest.embedder.mirrored,
        )

    def key(self) -> str:
        """Names the pipeline in a cache: 32 hexadecimal digits."""
        digest = hashlib.sha256()
        for data in (self.detector, self.embedder):
            digest.update(hashlib.sha256(data).digest())
        digest.update(b"mirrored" if self.mirrored else b"plain")
        digest.update(f"rooms {self.rooms}".encode() if self.rooms != (1.0,) else b"")
        return digest.hexdigest()[:32]

    def open(self) -> OpenPipeline:
        """Load both models. Raises ModelError."""
        embedder = Model(self.embedder, float_scale=_EMBEDDER_SCALE, float_zero=_EMBEDDER_ZERO)
        centre = np.zeros(1, np.float32)  # nothing is centred here
        rooms = self.rooms if self.mirrored else ()
        return OpenPipeline(Detector(Model(self.detector)), Embedder(embedder, centre), rooms)


@dataclass(frozen=True, eq=False)
class OpenPipeline:
    """Both models, loaded. Not safe for several threads at once."""

    detector: Detector
    embedder: Embedder
    rooms: tuple[float, ...]

    def look(self, path: Path, condition: Condition | None = None) -> Seen | None:
        """The face of a picture, made worse by `condition`; None where it cannot be decoded or has no face."""
        try:
            pixels = decode_picture(path.read_bytes(), path.name)
        except CameraError:
            return None
        if condition is not None:
            pixels = condition.apply(pixels)
        face = nearest_the_middle(self.detector.find(pixels), pixels.shape)
        if face is None:
            return None
        landmarks = self.detector.refine(pixels, face).landmarks
        mirrors = [align(pixels, spread_out(landmarks, room))[:, ::-1] for room in self.rooms]
        faces = [align(pixels, landmarks), *(np.ascontiguousarray(mirror) for mirror in mirrors)]
        return Seen(np.concatenate([self.embedder.views(face) for face in faces]), landmarks)


def spread_out(landmarks: NDArray[np.float32], room: float) -> NDArray[np.float32]:
    """(5, 2) landmarks `room` times as far from their middle: aligned by them, a face is that much smaller."""
    middle = landmarks.mean(axis=0)
    return np.asarray(middle + (landmarks - middle) * room, np.float32)


def nearest_the_middle(faces: list[Face], shape: tuple[int, ...]) -> Face | None:
    """The face whose box is centred nearest the picture's middle; None where there is none."""
    middle = np.array([shape[1] / 2, shape[0] / 2])
    return min(faces, key=lambda face: float(np.linalg.norm(np.array(face.box.centre) - middle)), default=None)
