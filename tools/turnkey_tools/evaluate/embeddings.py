"""Run the pipeline over a folder of faces, and keep the embeddings so that the next run need not.

Rules kept here:
1. The same steps as on the device (two-pass detection, alignment, embedding), less its two refusals: pictures in a
   research set hold bystanders, so the face nearest the picture's middle is taken; and no picture is dropped for its
   quality.
2. Raw embeddings are kept (unit norm, not centred): centring is the evaluation's to choose.
3. The cache lies outside the repository, keyed by the hashes of both models and of every picture, and by what the
   pipeline gives for a few of the pictures now: a change of its code that changes anything is a miss.
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
_PROBED = 16


def nearest_the_middle(faces: list[Face], shape: tuple[int, ...]) -> Face | None:
    """The face whose box is centred nearest the picture's middle; None where there is none."""
    middle = np.array([shape[1] / 2, shape[0] / 2])
    return min(faces, key=lambda face: float(np.linalg.norm(np.array(face.box.centre) - middle)), default=None)


def embed_pictures(
    pictures: list[Picture],
    detector: Detector,
    embedder: Embedder,
    *,
    models: tuple[bytes, bytes],
    cache: Path | None,
    progress: Progress = lambda: None,
) -> Embeddings:
    """Embed every picture.

    Args:
        models: contents of both model files, for the cache's key.
        cache: folder for the embeddings, or None for no cache.
        progress: called once a picture.
    """
    kept = None
    if cache is not None:
        kept = cache / f"embeddings-{_fingerprint(pictures, detector, embedder, models)}.npz"
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


def _embed_one(path: Path, detector: Detector, embedder: Embedder) -> NDArray[np.float32] | None:
    try:
        pixels = decode_picture(path.read_bytes(), path.name)
    except CameraError:
        return None
    face = nearest_the_middle(detector.find(pixels), pixels.shape)
    if face is None:
        return None
    return embedder.raw(align(pixels, detector.refine(pixels, face).landmarks))


def _fingerprint(pictures: list[Picture], detector: Detector, embedder: Embedder, models: tuple[bytes, bytes]) -> str:
    digest = hashlib.sha256()
    for model in models:
        digest.update(hashlib.sha256(model).digest())
    for picture in pictures:
        digest.update(hashlib.sha256(picture.path.read_bytes()).digest())
        digest.update(picture.person.to_bytes(4, "big"))
    for picture in pictures[:: max(1, len(pictures) // _PROBED)]:
        row = _embed_one(picture.path, detector, embedder)
        digest.update(b"none" if row is None else row.tobytes())
    return digest.hexdigest()[:32]
