"""The evaluation's report: one value that the HTML page, the JSON file and `turnkeyctl models accept` are made from.

Rules kept here:
1. Every figure says what it rests on: counts beside rates, intervals beside figures, a note where there is nothing to
   say.
2. The report names the model files and the faces by their hashes: evidence about other bytes is no evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from turnkey.vision.manifest import GroupCalibration
from turnkey_tools.evaluate.bootstrap import Interval
from turnkey_tools.evaluate.groups import AttributePart
from turnkey_tools.evaluate.holdout import Holdout
from turnkey_tools.evaluate.search import SearchResult
from turnkey_tools.evaluate.sensitivity import PoseRow, SensitivityRow
from turnkey_tools.machine import Machine

REPORT_NAME = "evaluation.json"


@dataclass(frozen=True)
class Point:
    """At this FMR over all impostor picture pairs: the threshold, and the share of mated pairs that reach it."""

    fmr: float
    threshold: float
    tar: float


@dataclass(frozen=True)
class PipelineResult:
    """One way of scoring, on the whole set.

    Attributes:
        pipeline: `int8` or `float`.
        mirrored: whether the mirror image was averaged in.
        centred: whether the cohort mean was taken away.
        points: by falling FMR.
    """

    pipeline: str
    mirrored: bool
    centred: bool
    points: tuple[Point, ...]


@dataclass(frozen=True)
class OperatingPoint:
    """The shipped scoring at one FMR.

    Attributes:
        target_fmr: asked for.
        threshold: the lowest that keeps it.
        fmr, fnmr: with 95 % intervals by person (two-sided).
        fmr_upper95: the calibration's one-sided bound over person pairs, which the device uses.
    """

    target_fmr: float
    threshold: float
    fmr: Interval
    fmr_upper95: float
    fnmr: Interval


@dataclass(frozen=True)
class DetPoint:
    """A point of the detection error trade-off curve."""

    fmr: float
    fnmr: float
    threshold: float


@dataclass(frozen=True)
class Faces:
    """What was measured on.

    Attributes:
        dataset: in words.
        digest: SHA-256 over each picture's person and hash, in order.
        persons, mated_persons: in all, and with two pictures or more.
        pictures: listed; of `without_face` no template came.
        failure_to_acquire: share of the pictures that gave no template, with its interval by person.
        impostor_pairs, mated_pairs: scored.
    """

    dataset: str
    digest: str
    persons: int
    mated_persons: int
    pictures: int
    without_face: int
    failure_to_acquire: Interval
    impostor_pairs: int
    mated_pairs: int


@dataclass(frozen=True)
class Subject:
    """The models that were measured, by hash."""

    embedder_id: str
    embedder_sha256: str
    detector_id: str
    detector_sha256: str
    mirrored: bool
    cohort: Literal["manifest", "these faces"]


class EvaluationReport(BaseModel):
    """The whole report.

    Attributes:
        made_at: UTC, ISO 8601.
        command: prints it again.
        labels: what is said about groups: which CSV, or that there were no labels.
        calibration: groups of the table for models/manifest.toml.
        seconds: wall-clock time of the run; `cpu_seconds` of this process and its workers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    made_at: str
    command: str
    machine: Machine
    subject: Subject
    faces: Faces
    pipelines: tuple[PipelineResult, ...]
    points: tuple[OperatingPoint, ...]
    det: tuple[DetPoint, ...]
    searches: tuple[SearchResult, ...]
    holdout: Holdout | None
    sensitivity: tuple[SensitivityRow, ...]
    pose: tuple[PoseRow, ...]
    labels: str
    groups: tuple[AttributePart, ...]
    calibration: tuple[GroupCalibration, ...]
    cohort_mean: tuple[float, ...]
    seconds: float
    cpu_seconds: float
