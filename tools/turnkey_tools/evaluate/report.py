"""Evaluate the pipeline on a folder of faces: how many mates it lets through at which false match rate.

Rules kept here:
1. All pairs, int8 and, where the float twins are given, float: each with its own detector, so that two whole pipelines
   are compared.
2. Raw and centred. int8 is centred by the manifest's mean, as on the device; the float twin by its own mean over these
   faces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.vision.detector import Detector
from turnkey.vision.embedder import Embedder, centred
from turnkey.vision.litert import Model, verified_bytes
from turnkey.vision.manifest import Manifest, read_manifest
from turnkey_tools.evaluate.calibration import cohort_mean
from turnkey_tools.evaluate.embeddings import Embeddings, embed_pictures
from turnkey_tools.evaluate.faces import list_pictures
from turnkey_tools.evaluate.pairs import PairScores, score_all_pairs

FALSE_MATCH_RATES = (1e-3, 1e-4, 1e-5, 1e-6)
Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Point:
    """At this FMR over all impostor picture pairs: the threshold, and the share of mated pairs that reach it."""

    fmr: float
    threshold: float
    tar: float


@dataclass(frozen=True)
class PipelineResult:
    """One pipeline on the whole set.

    Attributes:
        pipeline: `int8` or `float`.
        centred: whether the cohort mean was taken away.
        persons, pictures: with a template.
        without_face: pictures in which no face was found (failures to acquire).
        impostor_pairs, mated_pairs: scored.
        points: by falling FMR.
    """

    pipeline: str
    centred: bool
    persons: int
    pictures: int
    without_face: int
    impostor_pairs: int
    mated_pairs: int
    points: tuple[Point, ...]


def evaluate(
    models: Path, faces: Path, *, twins: Path | None, cache: Path | None, tick: Tick
) -> tuple[PipelineResult, ...]:
    """Run the evaluation.

    Args:
        models: the models directory.
        faces: `<person>/<picture>`.
        twins: folder with the float twins (`turnkeyctl models build --float-twins`), or None.
        cache: folder outside the repository for embeddings, or None.
        tick: (pipeline, done, of).

    Raises:
        ModelError, NoFacesError, OSError: the models, the faces or the twins cannot be read.
    """
    manifest = read_manifest(models)
    pictures = list_pictures(faces)
    results = []
    for name, detector_data, embedder_data in _pipelines(manifest, models, twins):
        done = 0

        def advance(name: str = name) -> None:
            nonlocal done
            done += 1
            tick(name, done, len(pictures))

        embeddings = embed_pictures(
            pictures,
            Detector(_model(detector_data, 1.0, 0)),
            Embedder(_model(embedder_data, 1 / 128, 128), manifest.embedder.centre()),
            models=(detector_data, embedder_data),
            cache=cache,
            progress=advance,
        )
        mean = manifest.embedder.centre() if name == "int8" else cohort_mean(embeddings.raw, embeddings.persons)
        results.append(_result(name, embeddings, embeddings.raw, is_centred=False))
        results.append(_result(name, embeddings, centred(embeddings.raw, mean), is_centred=True))
    return tuple(results)


def points_of(scores: PairScores) -> tuple[Point, ...]:
    """TAR at each of `FALSE_MATCH_RATES` that the impostor pairs can show."""
    shown = [rate for rate in FALSE_MATCH_RATES if rate * len(scores.impostor) >= 1]
    thresholds = [(rate, scores.threshold_at(rate)) for rate in shown]
    return tuple(Point(rate, threshold, scores.tar(threshold)) for rate, threshold in thresholds)


def _result(name: str, embeddings: Embeddings, templates: NDArray[np.float32], *, is_centred: bool) -> PipelineResult:
    scores = score_all_pairs(templates, embeddings.persons)
    return PipelineResult(
        pipeline=name,
        centred=is_centred,
        persons=scores.persons,
        pictures=scores.pictures,
        without_face=embeddings.without_face,
        impostor_pairs=len(scores.impostor),
        mated_pairs=len(scores.mated),
        points=points_of(scores),
    )


def _pipelines(manifest: Manifest, models: Path, twins: Path | None) -> list[tuple[str, bytes, bytes]]:
    found = [("int8", verified_bytes(models, manifest.detector), verified_bytes(models, manifest.embedder))]
    if twins is not None:
        from turnkey_tools.models.build import DETECTOR_TWIN, EMBEDDER_TWIN

        found.append(("float", (twins / DETECTOR_TWIN).read_bytes(), (twins / EMBEDDER_TWIN).read_bytes()))
    return found


def _model(data: bytes, float_scale: float, float_zero: int) -> Model:
    """The scaling is a float twin's; an int8 model takes pixels as they are."""
    return Model(data, float_scale=float_scale, float_zero=float_zero)
