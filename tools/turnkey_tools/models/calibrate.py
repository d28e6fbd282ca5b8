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
from turnkey.vision.manifest import Calibration, EmbedderEntry, Manifest, ModelError, read_manifest
from turnkey_tools.evaluate.calibration import calibrate_group, cohort_mean
from turnkey_tools.evaluate.embeddings import embed_pictures
from turnkey_tools.evaluate.faces import Picture, check_enough, list_pictures
from turnkey_tools.evaluate.files import calibration_of
from turnkey_tools.evaluate.pairs import score_all_pairs
from turnkey_tools.evaluate.pipeline import Pipeline
from turnkey_tools.evaluate.report import EvaluationReport

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

    Raises:
        NoFacesError: too few persons with a face.
    """
    embeddings = embed_pictures(pictures, pipeline, cache=cache, progress=progress, workers=workers)
    check_enough(embeddings.persons, mates=False)
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


def calibrated_by(models: Path, report: EvaluationReport) -> Manifest:
    """The manifest of a models directory with the cohort mean and the table of a report about its embedder.

    Raises:
        ModelError: the manifest cannot be read, or the report is about another embedder (`report-of-other-models`).
    """
    manifest = read_manifest(models)
    embedder, subject = manifest.embedder, report.subject
    if (subject.embedder_sha256, subject.mirrored) != (embedder.sha256, embedder.mirrored):
        raise ModelError("report-of-other-models", f"the report is about {subject.embedder_id}, not {embedder.id}")
    cohort = embedder.cohort
    if subject.cohort == "these faces":
        everybody = report.calibration[0]
        cohort = f"{everybody.pictures} pictures of {everybody.persons} persons of equal weight"
    fitted = Fitted(cohort, report.cohort_mean, calibration_of(report))
    return manifest.model_copy(update={"embedder": fitted.into(embedder), "calibration": fitted.calibration})


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
        "turnkeyctl models calibrate MODELS --faces DIR",
        cache=cache,
        progress=advance,
        workers=workers,
    )
    return manifest.model_copy(update={"embedder": fitted.into(manifest.embedder), "calibration": fitted.calibration})
