"""Run the whole evaluation: embed, score every pair, search, hold out, make worse, compare groups.

Rules kept here:
1. All pairs, and no picture left out for its quality; pictures without a template are counted beside the rates.
2. Everything the device does is measured as the device does it; other ways of scoring stand beside it, named.
3. The same faces, models and seed give the same figures; only times differ.
"""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.vision.embedder import centred
from turnkey.vision.manifest import GroupCalibration, Manifest, read_manifest
from turnkey_tools.evaluate.attributes import Attribute, read_attributes
from turnkey_tools.evaluate.bootstrap import (
    Draws,
    ImpostorTail,
    MatedPairs,
    fmr_intervals,
    fnmr_intervals,
    impostor_tail,
    mated_pairs,
    rate_interval,
)
from turnkey_tools.evaluate.calibration import calibrate_group, cohort_mean
from turnkey_tools.evaluate.embeddings import Embeddings, Tick, embed_pictures, see
from turnkey_tools.evaluate.faces import Picture, check_enough, list_pictures, person_names
from turnkey_tools.evaluate.groups import AttributePart, attribute_part
from turnkey_tools.evaluate.holdout import hold_out
from turnkey_tools.evaluate.pairs import PairScores, score_all_pairs
from turnkey_tools.evaluate.pipeline import Pipeline
from turnkey_tools.evaluate.report import (
    EvaluationReport,
    Faces,
    OperatingPoint,
    PipelineResult,
    Subject,
)
from turnkey_tools.evaluate.search import search_all
from turnkey_tools.evaluate.sensitivity import (
    AT_FMR,
    SensitivityRow,
    chosen_pairs,
    pose_rows,
    sensitivity_row,
    tasks_for,
)
from turnkey_tools.evaluate.ways import FALSE_MATCH_RATES, TAIL_FMR, det_curve, ways_of_scoring
from turnkey_tools.machine import this_machine

GROUP_FMRS = (1e-3, 1e-4)
MIN_TABLE_PERSONS = 30


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Attributes:
        models: the models directory.
        faces: `<person>/<picture>`.
        dataset: what the faces are, in words.
        attributes: CSV, or None.
        twins: folder with the float twins, or None.
        cache: folder for embeddings, or None.
        fit: take the cohort mean from these faces, not from the manifest: for a model that has none yet.
        sensitivity: persons for the worse pictures; 0 for none.
        workers: processes.
        seed: of draws.
        command, made_at: for the report.
    """

    models: Path
    faces: Path
    dataset: str
    attributes: Path | None = None
    twins: Path | None = None
    cache: Path | None = None
    fit: bool = False
    sensitivity: int = 100
    workers: int = 1
    seed: int = 1
    command: str = ""
    made_at: str = ""


@dataclass(frozen=True, eq=False)
class _Scored:
    """The shipped scoring of everything."""

    templates: NDArray[np.float32]
    persons: NDArray[np.int64]
    scores: PairScores
    tail: ImpostorTail
    mated: MatedPairs
    draws: Draws


def evaluate(request: Request, tick: Tick) -> EvaluationReport:
    """Run the evaluation.

    Args:
        tick: (stage, done, of).

    Raises:
        ModelError, NoFacesError, AttributesError, OSError: models, faces, labels or twins cannot be read.
    """
    began, cpu = time.perf_counter(), _cpu_seconds()
    manifest = read_manifest(request.models)
    pictures = list_pictures(request.faces)
    names = person_names(pictures)
    listed = np.bincount([picture.person for picture in pictures])
    attributes = read_attributes(request.attributes, names) if request.attributes else ()
    shipped = Pipeline.shipped(request.models, manifest)
    embeddings = _embedded("pictures", pictures, shipped, request, tick)
    check_enough(embeddings.persons)
    mean = cohort_mean(embeddings.raw, embeddings.persons) if request.fit else manifest.embedder.centre()
    scored = _score(centred(embeddings.raw, mean), embeddings.persons, len(names), request.seed)
    machine = this_machine()
    return EvaluationReport(
        made_at=request.made_at,
        command=request.command,
        machine=machine,
        subject=_subject(manifest, fit=request.fit),
        faces=_faces(request.dataset, pictures, listed, scored),
        pipelines=_pipelines(embeddings, mean, pictures, request, tick),
        points=_points(scored),
        det=det_curve(scored.scores),
        searches=search_all(
            scored.templates, _gapless(scored.persons), scored.scores, _gapless_draws(scored), seed=request.seed
        ),
        holdout=hold_out(embeddings.plain, embeddings.raw, embeddings.persons, names),
        sensitivity=_sensitivity(pictures, embeddings, mean, scored, shipped, request, tick),
        pose=pose_rows(scored.templates, scored.persons, embeddings.landmarks, scored.scores.threshold_at(AT_FMR)),
        labels=_labels(request, attributes, len(names)),
        groups=_groups(attributes, listed, scored),
        calibration=_calibration(attributes, scored),
        cohort_mean=tuple(float(f"{value:.6f}") for value in mean),
        seconds=time.perf_counter() - began,
        cpu_seconds=_cpu_seconds() - cpu,
    )


def _embedded(stage: str, pictures: list[Picture], pipeline: Pipeline, request: Request, tick: Tick) -> Embeddings:
    return embed_pictures(
        pictures,
        pipeline,
        cache=request.cache,
        progress=_counter(stage, len(pictures), tick),
        workers=request.workers,
    )


def _score(templates: NDArray[np.float32], persons: NDArray[np.int64], everybody: int, seed: int) -> _Scored:
    scores = score_all_pairs(templates, persons)
    tail = impostor_tail(templates, persons, scores.threshold_at(TAIL_FMR), everybody)
    return _Scored(templates, persons, scores, tail, mated_pairs(templates, persons), Draws.make(everybody, seed))


def _points(scored: _Scored) -> tuple[OperatingPoint, ...]:
    shown = [rate for rate in FALSE_MATCH_RATES if rate * len(scored.scores.impostor) >= 1]
    thresholds = [scored.scores.threshold_at(rate) for rate in shown]
    fmrs = fmr_intervals(scored.scores, scored.tail, scored.draws, thresholds)
    fnmrs = fnmr_intervals(scored.mated, scored.draws, thresholds)
    return tuple(
        OperatingPoint(rate, threshold, fmr, scored.scores.fmr_upper95(threshold), fnmr)
        for rate, threshold, fmr, fnmr in zip(shown, thresholds, fmrs, fnmrs, strict=True)
    )


def _pipelines(
    embeddings: Embeddings, mean: NDArray[np.float32], pictures: list[Picture], request: Request, tick: Tick
) -> tuple[PipelineResult, ...]:
    results = ways_of_scoring("int8", embeddings, mean)
    if request.twins is not None:
        from turnkey_tools.models.build import DETECTOR_TWIN, EMBEDDER_TWIN

        twin = Pipeline(
            (request.twins / DETECTOR_TWIN).read_bytes(), (request.twins / EMBEDDER_TWIN).read_bytes(), mirrored=True
        )
        floats = _embedded("float twins", pictures, twin, request, tick)
        results += ways_of_scoring("float", floats, cohort_mean(floats.raw, floats.persons))
    return tuple(results)


def _sensitivity(
    pictures: list[Picture],
    embeddings: Embeddings,
    mean: NDArray[np.float32],
    scored: _Scored,
    pipeline: Pipeline,
    request: Request,
    tick: Tick,
) -> tuple[SensitivityRow, ...]:
    pairs = chosen_pairs(embeddings, request.sensitivity) if request.sensitivity else []
    if not pairs:
        return ()
    threshold = scored.scores.threshold_at(AT_FMR)
    references = scored.templates[[reference for _, reference in pairs]]
    plan = tasks_for(pictures, embeddings, pairs)
    flat = [task for _, tasks in plan for task in tasks]
    seen = see(
        flat,
        pipeline,
        cache=request.cache,
        progress=_counter("worse pictures", len(flat), tick),
        workers=request.workers,
    )
    count = len(pairs)
    return tuple(
        sensitivity_row(condition, seen[at * count : (at + 1) * count], references, mean, threshold)
        for at, (condition, _) in enumerate(plan)
    )


def _groups(attributes: tuple[Attribute, ...], listed: NDArray[np.int64], scored: _Scored) -> tuple[AttributePart, ...]:
    return tuple(
        attribute_part(
            attribute,
            listed,
            scored.tail,
            scored.mated,
            scored.draws,
            target_fmr=rate,
            threshold=scored.scores.threshold_at(rate),
        )
        for attribute in attributes
        for rate in GROUP_FMRS
        if rate * len(scored.scores.impostor) >= 1
    )


def _calibration(attributes: tuple[Attribute, ...], scored: _Scored) -> tuple[GroupCalibration, ...]:
    """Everybody, and each group of persons that is large enough for a table."""
    tables = [calibrate_group("all", scored.scores)]
    for attribute in attributes:
        for place, group in enumerate(attribute.groups):
            inside = (attribute.group_of == place)[scored.persons]
            if len(np.unique(scored.persons[inside])) >= MIN_TABLE_PERSONS:
                scores = score_all_pairs(scored.templates[inside], scored.persons[inside])
                tables.append(calibrate_group(f"{attribute.name}={group}", scores))
    return tuple(tables)


def _labels(request: Request, attributes: tuple[Attribute, ...], persons: int) -> str:
    if not attributes or request.attributes is None:
        return (
            "The faces carry no labels (no --attributes): nothing here says how groups of people differ, and the "
            "calibration has one group, all."
        )
    said = ", ".join(f"{attribute.name} ({attribute.labelled} of {persons} persons)" for attribute in attributes)
    return f"Labels from {request.attributes.name}: {said}."


def _subject(manifest: Manifest, *, fit: bool) -> Subject:
    return Subject(
        embedder_id=manifest.embedder.id,
        embedder_sha256=manifest.embedder.sha256,
        detector_id=manifest.detector.id,
        detector_sha256=manifest.detector.sha256,
        mirrored=manifest.embedder.mirrored,
        cohort="these faces" if fit else "manifest",
    )


def _faces(dataset: str, pictures: list[Picture], listed: NDArray[np.int64], scored: _Scored) -> Faces:
    """What was measured on; `listed`: pictures of each person."""
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(picture.person.to_bytes(4, "big") + hashlib.sha256(picture.path.read_bytes()).digest())
    without = listed - scored.tail.pictures
    return Faces(
        dataset=dataset,
        digest=digest.hexdigest(),
        persons=len(listed),
        mated_persons=len(np.unique(scored.mated.persons)),
        pictures=len(pictures),
        without_face=int(without.sum()),
        failure_to_acquire=rate_interval(without.astype(np.float64), listed.astype(np.float64), scored.draws),
        impostor_pairs=len(scored.scores.impostor),
        mated_pairs=len(scored.scores.mated),
    )


def _gapless(persons: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(persons, return_inverse=True)[1].astype(np.int64)


def _gapless_draws(scored: _Scored) -> Draws:
    return Draws(scored.draws.weights[:, np.unique(scored.persons)])


def _counter(stage: str, of: int, tick: Tick) -> Callable[[], None]:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        tick(stage, done, of)

    return advance


def _cpu_seconds() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )
