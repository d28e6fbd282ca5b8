"""The cohort mean and the calibration table of an embedder, from a folder of faces.

For `models build`, and for a model that somebody else brings.

Rules kept here:
1. The mean first, then the scores of all pairs with that mean: what the device will do.
2. The rest of the manifest stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from turnkey.vision.embedder import centred
from turnkey.vision.manifest import Calibration, EmbedderEntry, Manifest, read_manifest
from turnkey_tools.evaluate.calibration import calibrate_group, cohort_mean
from turnkey_tools.evaluate.embeddings import embed_pictures
from turnkey_tools.evaluate.faces import Picture, list_pictures
from turnkey_tools.evaluate.pairs import score_all_pairs
from turnkey_tools.evaluate.pipeline import Pipeline

LFW = "Labeled Faces in the Wild (deep-funneled)"


@dataclass(frozen=True)
class Fitted:
    """What the faces gave: the cohort in words, its mean, and the table."""

    cohort: str
    cohort_mean: tuple[float, ...]
    calibration: Calibration

    def into(self, entry: EmbedderEntry) -> EmbedderEntry:
        """The embedder's entry with this cohort."""
        return entry.model_copy(update={"cohort": self.cohort, "cohort_mean": self.cohort_mean})


def fit(
    pictures: list[Picture],
    pipeline: Pipeline,
    embedder_sha256: str,
    dataset: str,
    command: str,
    *,
    cache: Path | None,
    progress: Callable[[], None],
    workers: int,
) -> Fitted:
    """Measure both.

    Args:
        dataset: the faces, in words, without counts.
        command: for the table: prints it again.
    """
    embeddings = embed_pictures(pictures, pipeline, cache=cache, progress=progress, workers=workers)
    mean = tuple(float(f"{value:.6f}") for value in cohort_mean(embeddings.raw, embeddings.persons))
    templates = centred(embeddings.raw, np.asarray(mean, dtype=np.float32))
    scores = score_all_pairs(templates, embeddings.persons)
    return Fitted(
        cohort=f"{scores.pictures} pictures of {scores.persons} persons of equal weight",
        cohort_mean=mean,
        calibration=Calibration(
            embedder_sha256=embedder_sha256,
            dataset=f"{dataset}, {scores.persons} persons; no group labels",
            command=command,
            groups=(calibrate_group("all", scores),),
        ),
    )


def calibrated(
    models: Path, faces: Path, dataset: str, *, cache: Path | None, progress: Callable[[int, int], None], workers: int
) -> Manifest:
    """The manifest of a models directory with its embedder's mean and table taken anew.

    Args:
        progress: (done, of).

    Raises:
        ModelError, NoFacesError, OSError.
    """
    manifest = read_manifest(models)
    pictures = list_pictures(faces)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, len(pictures))

    fitted = fit(
        pictures,
        Pipeline.shipped(models, manifest),
        manifest.embedder.sha256,
        dataset,
        "turnkeyctl models calibrate --faces DIR",
        cache=cache,
        progress=advance,
        workers=workers,
    )
    return manifest.model_copy(update={"embedder": fitted.into(manifest.embedder), "calibration": fitted.calibration})
