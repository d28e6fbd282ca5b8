"""Golden vectors: what the models gave for one portrait when they were built.

By them a device knows that its own models, on its own processor, still find and recognise a face.

Rules kept here:
1. The portrait is redistributable and named by hash: another picture is no test.
2. The tolerance is wide enough for another processor's rounding and narrow enough that swapped colour channels fail it.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from turnkey.capture.picture import decode_picture
from turnkey.vision.align import align
from turnkey.vision.detector import Detector
from turnkey.vision.embedder import Embedder

GOLDEN_NAME = "golden.toml"
# Cosine that an embedding of the golden face must reach with the golden one, and landmark distance in inter-eye
# distances.
MIN_COSINE = 0.995
MAX_LANDMARK_ERROR = 0.01


class Golden(BaseModel):
    """What is kept.

    Attributes:
        picture, picture_sha256: the portrait, relative to the repository, and its hash.
        landmarks: five (x, y), pixels, after both passes.
        embedding: (128,) unit norm, not centred, of the face aligned by those landmarks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    picture: str
    picture_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    landmarks: tuple[tuple[float, float], ...] = Field(min_length=5, max_length=5)
    embedding: tuple[float, ...]

    def points(self) -> NDArray[np.float32]:
        """(5, 2) float32 landmarks."""
        return np.asarray(self.landmarks, dtype=np.float32)


class GoldenError(RuntimeError):
    """The golden vectors or their portrait cannot be had."""


def read_golden(models: Path) -> Golden:
    """Read models/golden.toml. Raises GoldenError."""
    try:
        return Golden.model_validate(tomllib.loads((models / GOLDEN_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise GoldenError(f"{models / GOLDEN_NAME} cannot be read: {error}") from error


def read_portrait(golden: Golden, *folders: Path) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB of the golden portrait. Raises GoldenError.

    Args:
        golden: whose portrait.
        folders: where to look: a repository, or a directory that has the portrait itself (the models of a device).
    """
    places = [folder / name for folder in folders for name in (golden.picture, Path(golden.picture).name)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise GoldenError(f"the golden portrait {places[0]} is missing")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != golden.picture_sha256:
        raise GoldenError(f"{path} is not the golden portrait")
    return decode_picture(data, path.name)


def landmark_error(golden: Golden, pixels: NDArray[np.uint8], detector: Detector) -> float:
    """Mean distance of the landmarks found from the golden ones, in inter-eye distances; infinite without a face."""
    found = found_landmarks(pixels, detector)
    if found is None:
        return float("inf")
    wanted = golden.points()
    return float(np.linalg.norm(found - wanted, axis=1).mean() / np.linalg.norm(wanted[0] - wanted[1]))


def embedding_cosine(golden: Golden, pixels: NDArray[np.uint8], embedder: Embedder) -> float:
    """Cosine of the embedding of the golden face with the golden one."""
    embedding = embedder.raw(align(pixels, golden.points()))
    wanted = np.asarray(golden.embedding, dtype=np.float32)
    return float(embedding @ wanted / np.linalg.norm(wanted))


def found_landmarks(pixels: NDArray[np.uint8], detector: Detector) -> NDArray[np.float32] | None:
    """(5, 2) landmarks of the largest face after both passes."""
    faces = detector.find(pixels)
    if not faces:
        return None
    return detector.refine(pixels, max(faces, key=lambda face: face.box.area)).landmarks
