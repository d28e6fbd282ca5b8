"""Golden vectors: what the models gave for one portrait when they were built, and how far they may be from it.

Rules kept here:
1. The portrait is redistributable (tests/faces) and named by hash: another picture is no test.
2. The tolerance is wide enough for another processor's rounding and narrow enough that swapped colour channels fail
   it; the second half is checked each time, not assumed.
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


def read_portrait(golden: Golden, repository: Path) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB of the golden portrait. Raises GoldenError."""
    path = repository / golden.picture
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GoldenError(f"the golden portrait {path} is missing") from error
    if hashlib.sha256(data).hexdigest() != golden.picture_sha256:
        raise GoldenError(f"{path} is not the golden portrait")
    return decode_picture(data, path.name)


def make_golden(picture: str, repository: Path, detector: Detector, embedder: Embedder) -> Golden:
    """Take golden vectors of a portrait. Raises GoldenError where it has no face."""
    data = (repository / picture).read_bytes()
    pixels = decode_picture(data, picture)
    landmarks = found_landmarks(pixels, detector)
    if landmarks is None:
        raise GoldenError(f"no face in {picture}")
    rounded = np.round(landmarks, 2)
    return Golden(
        picture=picture,
        picture_sha256=hashlib.sha256(data).hexdigest(),
        landmarks=tuple((float(f"{x:.2f}"), float(f"{y:.2f}")) for x, y in rounded.tolist()),
        embedding=tuple(float(f"{v:.6f}") for v in embedder.raw(align(pixels, rounded)).tolist()),
    )


def golden_text(golden: Golden) -> str:
    """As TOML."""
    points = ", ".join(f"[{x:.2f}, {y:.2f}]" for x, y in golden.landmarks)
    numbers = [f"{value:.6f}" for value in golden.embedding]
    lines = "".join(f"  {', '.join(numbers[i : i + 8])},\n" for i in range(0, len(numbers), 8))
    return (
        "# What the models gave for one portrait when they were built: see tools/turnkey_tools/models/golden.py.\n"
        f'picture = "{golden.picture}"\npicture_sha256 = "{golden.picture_sha256}"\n'
        f"landmarks = [{points}]\nembedding = [\n{lines}]\n"
    )


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
