"""models/manifest.toml: which model files this device runs, and what their scores mean.

Rules kept here:
1. A model file is run only where its SHA-256 is the manifest's (`litert.py` checks; the manifest itself is covered by
   the signature of the image or update that carries it).
2. A score means nothing without its calibration: the table of false match rates belongs to one embedder, by its hash,
   and a manifest whose table is another embedder's is refused.
3. Every doubt is a `ModelError` with a reason code; nothing is repaired.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MANIFEST_NAME = "manifest.toml"


class ModelError(RuntimeError):
    """A model file or the manifest cannot be trusted or run. `reason` is a code for the ledger."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelEntry(_Entry):
    """One model file.

    Attributes:
        id: names the model and its precision; goes into every record that depends on it.
        file: name inside the models directory, no path.
        sha256, bytes: of the file.
        input_px: side of the square input.
        colour: channel order the input wants.
        scaling: what a pixel value means to the network, in words.
        landmarks: what the five points are, in order; empty where the model gives none.
        licence: SPDX identifier of the weights.
        source_package, source_file, source_sha256: where the weights were taken from.
    """

    id: str
    file: str = Field(pattern=r"^[a-z0-9._-]+\.tflite$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(gt=0)
    input_px: int = Field(gt=0)
    colour: str = Field(pattern=r"^rgb$")
    scaling: str
    landmarks: tuple[str, ...] = ()
    licence: str
    source_package: str
    source_file: str
    source_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class EmbedderEntry(ModelEntry):
    """The embedder, and the cohort its embeddings are centred by.

    Attributes:
        dimension: of a template.
        mirrored: the mirror image is embedded too, and the two are averaged (`vision/embedder.py`).
        cohort: which pictures the mean was taken over, in words.
        cohort_mean: (dimension,) mean of the unit-norm embeddings of the cohort.
    """

    dimension: int = Field(gt=0)
    mirrored: bool = False
    cohort: str
    cohort_mean: tuple[float, ...]

    @model_validator(mode="after")
    def _one_mean_a_dimension(self) -> Self:
        if len(self.cohort_mean) != self.dimension:
            raise ValueError(f"cohort_mean has {len(self.cohort_mean)} values for {self.dimension} dimensions")
        return self

    def centre(self) -> NDArray[np.float32]:
        """(dimension,) float32 cohort mean."""
        return np.asarray(self.cohort_mean, dtype=np.float32)


def model_id(embedder: EmbedderEntry) -> str:
    """The embedder as policies, leads and rows name it, so that templates of two that differ are never compared.

    Returns:
        Its id, and twelve digits of a SHA-256 over what its templates depend on: the file's hash, a byte that says
        whether the mirror image is averaged in, and the cohort's mean (little-endian float32).
    """
    mean = embedder.centre().astype("<f4").tobytes()
    made_of = bytes.fromhex(embedder.sha256) + bytes([embedder.mirrored]) + mean
    return f"{embedder.id}-{hashlib.sha256(made_of).hexdigest()[:12]}"


class CalibrationRow(_Entry):
    """One threshold and what it lets through.

    Attributes:
        threshold: cosine of two centred templates; a pair is let through at or above it.
        fmr: share of impostor picture pairs at or above the threshold.
        fmr_upper95: one-sided 95 % upper bound of the false match rate, over person pairs (see `GroupCalibration`).
    """

    threshold: float
    fmr: float = Field(ge=0, le=1)
    fmr_upper95: float = Field(gt=0, le=1)


class GroupCalibration(_Entry):
    """The false match rates measured over one group of persons.

    Pictures of the same two persons are not independent trials, so the bound counts pairs of persons: a person pair is
    an error when any of its picture pairs reaches the threshold, n is the number of person pairs, and the bound is
    Clopper-Pearson's one-sided 95 % (3/n, the rule of three, where none does). That is above the picture-pair rate by
    construction. It still takes person pairs that share a person as independent; no bound on the rate in another
    population.

    Attributes:
        group: name of the group; "all" where the faces carry no group labels.
        persons, pictures, impostor_pairs, person_pairs: counts the rates rest on.
        smallest_fmr: 3 / person_pairs: no claim is supported below it.
        rows: by rising threshold.
    """

    group: str
    persons: int = Field(gt=1)
    pictures: int = Field(gt=1)
    impostor_pairs: int = Field(gt=0)
    person_pairs: int = Field(gt=0)
    smallest_fmr: float = Field(gt=0, le=1)
    rows: tuple[CalibrationRow, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _monotonic(self) -> Self:
        for lower, upper in zip(self.rows, self.rows[1:], strict=False):
            if upper.threshold <= lower.threshold or upper.fmr_upper95 > lower.fmr_upper95 or upper.fmr > lower.fmr:
                raise ValueError("calibration rows must rise in threshold and never rise in false match rate")
        return self


class Calibration(_Entry):
    """What the scores of one embedder mean.

    Attributes:
        embedder_sha256: the model file the scores were measured with.
        dataset: the faces they were measured on, in words.
        command: prints the table again.
        groups: one or more; the policy uses the worst.
    """

    embedder_sha256: str
    dataset: str
    command: str
    groups: tuple[GroupCalibration, ...] = Field(min_length=1)


class Manifest(_Entry):
    """The whole file.

    Attributes:
        mesh: the face's surface, for pose, eyes, mouth and what covers the face.
        guide: the optional framing-guide detector, for MediaPipe.
    """

    version: int = Field(ge=1, le=1)
    detector: ModelEntry
    embedder: EmbedderEntry
    mesh: ModelEntry
    guide: ModelEntry | None = None
    calibration: Calibration

    @model_validator(mode="after")
    def _calibration_is_this_embedders(self) -> Self:
        if self.calibration.embedder_sha256 != self.embedder.sha256:
            raise ValueError("the calibration table was measured with another embedder")
        return self


def read_manifest(models: Path) -> Manifest:
    """Read and validate models/manifest.toml.

    Raises:
        ModelError: `manifest-missing` or `manifest-invalid`.
    """
    path = models / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError("manifest-missing", f"{path} cannot be read: install the models again") from error
    try:
        return Manifest.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ModelError("manifest-invalid", f"{path} is not a valid manifest: {error}") from error
