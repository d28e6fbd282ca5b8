"""Run the pipeline over a folder of faces, and keep the embeddings so that the next run need not.

Rules kept here:
1. The same steps as on the device (two-pass detection, alignment, embedding), less its two refusals: pictures in a research set hold
   bystanders, so the face nearest the picture's middle is taken; and no picture is dropped for its quality.
2. Raw embeddings are kept (unit norm, not centred): centring is the evaluation's to choose.
3. The cache lies outside the repository, keyed by the hashes of both models, of the pipeline's sources and of every picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.capture.camera import CameraError
from turnkey.capture.picture import decode_picture
from turnkey.vision import align as align_module
from turnkey.vision import detector as detector_module
from turnkey.vision import embedder as embedder_module
from turnkey.vision import geometry as geometry_module
from turnkey.vision.align import align
from turnkey.vision.detector import Detector, Face
from turnkey.vision.embedder import Embedder
from turnkey_tools.evaluate.faces import Picture


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What a set of pictures gave.

    Attributes:
        raw: (n, 128) float32 unit norm, of the pictures with a face.
        persons: (n,) int64, rising.
        without_face: pictures in which no face was found.
    """

    raw: NDArray[np.float32]
    persons: NDArray[np.int64]
    without_face: int


Progress = Callable[[], None]


def nearest_the_middle(faces: list[Face], shape: tuple[int, ...]) -> Face | None:
    """The face whose box is centred nearest the picture's middle; None where there is none."""
    middle = np.array([shape[1] / 2, shape[0] / 2])
    return min(faces, key=lambda face: float(np.linalg.norm(np.array(face.box.centre) - middle)), default=None)


def embed_pictures(
    pictures: list[Picture],
    detector: Detector,
    embedder: Embedder,
    *,
    key: str,
    cache: Path | None,
    progress: Progress = lambda: None,
) -> Embeddings:
    """Embed every picture.

    Args:
        key: names both models by hash; see `cache_key`.
        cache: folder for the embeddings, or None for no cache.
        progress: called once a picture.
    """
    contents = hashlib.sha256(key.encode())
    for picture in pictures:
        contents.update(hashlib.sha256(picture.path.read_bytes()).digest())
        contents.update(picture.person.to_bytes(4, "big"))
    kept = cache / f"embeddings-{contents.hexdigest()[:32]}.npz" if cache is not None else None
    if kept is not None and kept.is_file():
        with np.load(kept) as stored:
            return Embeddings(stored["raw"], stored["persons"], int(stored["without_face"]))
    rows, persons = [], []
    for picture in pictures:
        row = _embed_one(picture.path, detector, embedder)
        if row is not None:
            rows.append(row)
            persons.append(picture.person)
        progress()
    result = Embeddings(np.array(rows, np.float32), np.array(persons, np.int64), len(pictures) - len(rows))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, raw=result.raw, persons=result.persons, without_face=result.without_face)
    return result


def cache_key(*models: bytes) -> str:
    """The models and the pipeline's own sources, as one string."""
    digest = hashlib.sha256()
    for model in models:
        digest.update(hashlib.sha256(model).digest())
    for module in (align_module, detector_module, embedder_module, geometry_module):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()


def _embed_one(path: Path, detector: Detector, embedder: Embedder) -> NDArray[np.float32] | None:
    try:
        pixels = decode_picture(path.read_bytes(), path.name)
    except CameraError:
        return None
    face = nearest_the_middle(detector.find(pixels), pixels.shape)
    if face is None:
        return None
    return embedder.raw(align(pixels, detector.refine(pixels, face).landmarks))
