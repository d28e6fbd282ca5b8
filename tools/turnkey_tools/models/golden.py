"""Making golden vectors; what they are and how they are checked is `turnkey.vision.golden`, which a device has too."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from turnkey.capture.picture import decode_picture
from turnkey.vision.align import align
from turnkey.vision.detector import Detector
from turnkey.vision.embedder import Embedder
from turnkey.vision.golden import GOLDEN_NAME as GOLDEN_NAME
from turnkey.vision.golden import MAX_LANDMARK_ERROR as MAX_LANDMARK_ERROR
from turnkey.vision.golden import MIN_COSINE as MIN_COSINE
from turnkey.vision.golden import Golden as Golden
from turnkey.vision.golden import GoldenError as GoldenError
from turnkey.vision.golden import embedding_cosine as embedding_cosine
from turnkey.vision.golden import found_landmarks
from turnkey.vision.golden import landmark_error as landmark_error
from turnkey.vision.golden import read_golden as read_golden
from turnkey.vision.golden import read_portrait as read_portrait


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
        embedding=tuple(float(f"{v:.6f}") for v in embedder.views(align(pixels, rounded))[0].tolist()),
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
