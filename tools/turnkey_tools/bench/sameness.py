"""`turnkeyctl bench sameness`: what passing over frames that show the same is based on.

Rules kept here:
1. Two persons are given the best chance to be taken for one: their faces are aligned to the embedder's template before
   their squares are compared, which no two frames of a press are.
2. A person who holds still is simulated: the picture again, moved by up to two hundredths of the face, a little lighter
   or darker, with new grain. Whether that is what a desk sees, only a desk can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from turnkey.capture.picture import decode_picture
from turnkey.vision.align import align
from turnkey.vision.detector import Detector
from turnkey.vision.embedder import Embedder
from turnkey.vision.geometry import Box
from turnkey.vision.manifest import read_manifest
from turnkey.vision.sameness import SAME, glimpse, shows_the_same
from turnkey_tools.bench.results import Bar, BenchReport, bench_report, figure
from turnkey_tools.evaluate.faces import Picture
from turnkey_tools.evaluate.pipeline import nearest_the_middle

ALIGNED_FACE: Final = Box(13.5, 13.5, 84.0, 96.0)
"""The face in the embedder's picture: brows to chin, cheek to cheek, and some more."""
_MOVED, _GRAIN = 0.02, 3.0


def bench_sameness(pictures: list[Picture], models: Path, seed: int, tick: Callable[[int], None]) -> BenchReport:
    """Measure on the face nearest each picture's middle.

    Raises:
        ModelError: the models cannot be used.
    """
    manifest = read_manifest(models)
    detector, embedder = Detector.load(models, manifest.detector), Embedder.load(models, manifest.embedder)
    draw = np.random.default_rng(seed)
    patterns, persons, agreed, templates = [], [], [], []
    for done, picture in enumerate(pictures, 1):
        pixels = decode_picture(picture.path.read_bytes(), picture.path.name)
        found = nearest_the_middle(detector.find(pixels), pixels.shape)
        tick(done)
        if found is None:
            continue
        face = detector.refine(pixels, found)
        aligned = align(pixels, face.landmarks)
        patterns.append(glimpse(aligned, ALIGNED_FACE).pattern)
        persons.append(picture.person)
        again = _taken_again(pixels, face.box, draw)
        agreed.append(shows_the_same(again, glimpse(pixels, face.box)))
        second = nearest_the_middle(detector.find(again), again.shape)
        if agreed[-1] and second is not None:
            later = align(again, detector.refine(again, second).landmarks)
            templates.append(float(embedder.embed(aligned) @ embedder.embed(later)))
    alike = _of_two_persons(np.stack(patterns), np.array(persons))
    figures = [
        figure("pairs of two persons", "count", [alike.size]),
        figure("two persons, aligned: the most alike pair's correlation", "correlation", [float(alike.max())]),
        figure("two persons, aligned: pairs taken for the same", "count", [float((alike >= SAME).sum())]),
        figure("held still: frames taken for the same", "share", [float(np.mean(agreed))]),
        figure("held still and taken for the same: score of both templates", "cosine", templates or [0.0]),
    ]
    bars = [Bar("the most alike two persons, correlation", float(alike.max()), "at most", SAME)]
    settings: dict[str, str | float | bool] = {"pictures": len(patterns), "same_from": SAME, "seed": seed}
    return bench_report("sameness", settings, figures, packages=("ai-edge-litert", "numpy", "pillow"), bars=bars)


def _of_two_persons(patterns: NDArray[np.float32], persons: NDArray[np.int64]) -> NDArray[np.float32]:
    """(pairs,) correlations of every two pictures of different persons."""
    first, second = np.triu_indices(len(persons), 1)
    correlations = (patterns @ patterns.T)[first, second]
    return np.asarray(correlations[persons[first] != persons[second]], np.float32)


def _taken_again(pixels: NDArray[np.uint8], face: Box, draw: np.random.Generator) -> NDArray[np.uint8]:
    right, down = draw.uniform(-_MOVED, _MOVED, 2) * max(face.width, face.height)
    moved = Image.fromarray(pixels).transform(
        (pixels.shape[1], pixels.shape[0]),
        Image.Transform.AFFINE,
        (1, 0, float(right), 0, 1, float(down)),
        Image.Resampling.BICUBIC,
    )
    grained = np.asarray(moved, np.float32) * draw.uniform(0.97, 1.03) + draw.normal(0, _GRAIN, pixels.shape)
    return np.clip(np.rint(grained), 0, 255).astype(np.uint8)
