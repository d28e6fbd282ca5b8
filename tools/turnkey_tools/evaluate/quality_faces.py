"""What the device measures of each picture of a folder: its score, its components, its template; kept for the next run.

Rules kept here:
1. The device's own steps (`vision.quality`, `vision.embedder`), on the face nearest the picture's middle, and no
   picture is left out for its quality: what is to be measured is what leaving out would have done.
2. What was measured is kept outside the repository, keyed by the hashes of the models, of every picture and of the code
   that measures; another version of any of them starts anew. A part is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.capture.camera import CameraError
from turnkey.capture.picture import decode_picture
from turnkey.vision import align as alignment
from turnkey.vision import components, detector, embedder, geometry, litert, mesh, pose
from turnkey.vision import quality as measuring
from turnkey.vision.align import align
from turnkey.vision.detector import Detector
from turnkey.vision.embedder import Embedder
from turnkey.vision.manifest import read_manifest
from turnkey.vision.mesh import FaceMesh
from turnkey.vision.quality import Components, measure
from turnkey_tools.evaluate.faces import Picture
from turnkey_tools.evaluate.pipeline import nearest_the_middle

COMPONENT_NAMES = tuple(one.name for one in fields(Components))
_PART = 200
_MEASURING = (alignment, components, detector, embedder, geometry, litert, measuring, mesh, pose)


@dataclass(frozen=True, eq=False)
class Faces:
    """What the pictures with a face gave.

    Attributes:
        templates: (n, 128) float32, centred, unit norm.
        lengths: (n,) of the embeddings; the unified score is a straight line over it.
        components: (n, len(COMPONENT_NAMES)), as the device measures them.
        persons: (n,) int64, rising.
        rows: (n,) place of each in the list of pictures.
    """

    templates: NDArray[np.float32]
    lengths: NDArray[np.float64]
    components: NDArray[np.float64]
    persons: NDArray[np.int64]
    rows: NDArray[np.int64]

    def component(self, name: str) -> NDArray[np.float64]:
        """(n,) one component."""
        return np.asarray(self.components[:, COMPONENT_NAMES.index(name)])

    def of(self, kept: NDArray[np.bool_]) -> Faces:
        """The same, less what is not kept."""
        return Faces(*(getattr(self, one.name)[kept] for one in fields(self)))


class Eye:
    """The device's models, loaded. Not safe for several threads at once."""

    def __init__(self, models: Path) -> None:
        manifest = read_manifest(models)
        self.detector = Detector.load(models, manifest.detector)
        self.embedder = Embedder.load(models, manifest.embedder)
        self.mesh = FaceMesh.load(models, manifest.mesh)

    def look(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """One row: template, length, components; None without a face."""
        face = nearest_the_middle(self.detector.find(pixels), pixels.shape)
        if face is None:
            return None
        face = self.detector.refine(pixels, face)
        aligned = align(pixels, face.landmarks)
        embedding = self.embedder.measured(aligned)
        measured = measure(face, aligned, self.mesh.find(pixels, face.landmarks), pixels)
        return np.array([*embedding.template, embedding.length, *astuple(measured)], dtype=np.float64)


def look_at(pictures: Sequence[Picture], models: Path, cache: Path | None, progress: Callable[[], None]) -> Faces:
    """Measure every picture.

    Args:
        cache: folder outside the repository, or None.
        progress: called once a picture.

    Raises:
        ModelError: the models cannot be used.
    """
    eye = Eye(models)
    width = 128 + 1 + len(COMPONENT_NAMES)
    folder = None if cache is None else cache / f"quality-{_version(models)}"
    parts = []
    for start in range(0, len(pictures), _PART):
        chosen = pictures[start : start + _PART]
        kept = None if folder is None else folder / f"part-{_named(chosen)}.npy"
        there = None if kept is None else _read(kept)
        if there is not None:
            parts.append(there)
            for _ in chosen:
                progress()
            continue
        rows = np.full((len(chosen), width), np.nan)
        for place, picture in enumerate(chosen):
            seen = _seen(eye, picture.path)
            if seen is not None:
                rows[place] = seen
            progress()
        parts.append(rows)
        if kept is not None:
            _write(kept, rows)
    table = np.concatenate(parts)
    found = np.flatnonzero(~np.isnan(table[:, 0]))
    return Faces(
        templates=table[found, :128].astype(np.float32),
        lengths=table[found, 128],
        components=table[found, 129:],
        persons=np.array([pictures[place].person for place in found.tolist()], np.int64),
        rows=found,
    )


def _seen(eye: Eye, path: Path) -> NDArray[np.float64] | None:
    try:
        pixels = decode_picture(path.read_bytes(), path.name)
    except CameraError:
        return None
    return eye.look(pixels)


def _version(models: Path) -> str:
    digest = hashlib.sha256((models / "manifest.toml").read_bytes())
    for module in _MEASURING:
        digest.update(inspect.getsource(module).encode())
    return digest.hexdigest()[:32]


def _named(pictures: Sequence[Picture]) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(hashlib.sha256(picture.path.read_bytes()).digest())
    return digest.hexdigest()[:32]


def _read(path: Path) -> NDArray[np.float64] | None:
    """A part; None where there is none, or it was cut short by a power loss."""
    try:
        return np.asarray(np.load(path))
    except (OSError, EOFError, ValueError):
        return None


def _write(path: Path, rows: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.partial")
    with temporary.open("wb") as file:
        np.save(file, rows)
    temporary.replace(path)
