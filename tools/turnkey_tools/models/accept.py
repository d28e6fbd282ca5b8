"""Is the evidence good enough? An evaluation report against requirements, overall and in every group.

The requirements are a TOML file that the site's people agree on before they see a report:

    version = 1
    fmr = 1e-4                      # rates are judged at the threshold for this FMR over everybody
    min_persons = 1000
    max_failure_to_acquire = 0.01   # upper 95 % bound of the share of pictures, overall and in every group
    max_fnmr = 0.02                 # upper 95 % bound, overall
    max_group_fnmr = 0.04           # the same, in every group
    max_group_fmr = 5e-4            # upper 95 % bound within every group, and between every two
    required_attributes = ["sex", "skin"]
    smallest_gallery = 1000         # that the calibration must support, in every group ...
    max_fpir = 0.01                 # ... at this FPIR

Rules kept here:
1. Bounds are judged, not rates: little evidence is bad evidence.
2. A group that is too small to say anything fails. A required attribute with fewer than two groups fails, and so do
   groups that were not compared at the FMR asked for. A report without any labels passes only where
   `required_attributes` is empty, and the acceptance's text says so.
3. The report is about these very models: every hash, the cohort mean, the calibration table.
4. Claims that did not hold on held-out persons fail, and so does a report without them.
5. A function of values: no I/O, no clock.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from turnkey.device import calibration_group
from turnkey.leads.decision import largest_supported
from turnkey.vision.manifest import Manifest
from turnkey_tools.evaluate.groups import AttributePart
from turnkey_tools.evaluate.report import EvaluationReport
from turnkey_tools.models.verify import Check

Rate = Annotated[float, Field(gt=0, lt=1)]


class Requirements(BaseModel):
    """What evidence must show; see the top of this file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    fmr: Rate
    min_persons: Annotated[int, Field(gt=1)]
    max_failure_to_acquire: Rate
    max_fnmr: Rate
    max_group_fnmr: Rate
    max_group_fmr: Rate
    required_attributes: tuple[str, ...]
    smallest_gallery: Annotated[int, Field(ge=1)]
    max_fpir: Rate


def check_evidence(report: EvaluationReport, requirements: Requirements, manifest: Manifest) -> list[Check]:
    """Every requirement with what was found; the models are acceptable where all hold."""
    return [
        *_subject(report, manifest),
        *_overall(report, requirements),
        *_held_out(report),
        *_groups(report, requirements),
        *_gallery(report, requirements),
    ]


def _subject(report: EvaluationReport, manifest: Manifest) -> list[Check]:
    subject, embedder = report.subject, manifest.embedder
    hashes = (subject.embedder_sha256, subject.detector_sha256) == (embedder.sha256, manifest.detector.sha256)
    return [
        Check("report is about these model files", hashes, f"{subject.embedder_id} {subject.embedder_sha256[:12]}"),
        Check(
            "used as the manifest uses them",
            subject.mirrored == embedder.mirrored and report.cohort_mean == embedder.cohort_mean,
            f"mirrored: {str(subject.mirrored).lower()}, cohort mean of: {subject.cohort}",
        ),
        Check(
            "calibration in the manifest is the report's",
            report.calibration == manifest.calibration.groups,
            f"{len(report.calibration)} group(s) in the report, {len(manifest.calibration.groups)} in the manifest",
        ),
    ]


def _overall(report: EvaluationReport, requirements: Requirements) -> list[Check]:
    faces = report.faces
    at = next((point for point in report.points if point.target_fmr == requirements.fmr), None)
    checks = [
        Check(
            "persons", faces.persons >= requirements.min_persons, f"{faces.persons}, {requirements.min_persons} asked"
        ),
        Check(
            "failure to acquire",
            faces.failure_to_acquire.high <= requirements.max_failure_to_acquire,
            f"up to {faces.failure_to_acquire.high:.4%}, at most {requirements.max_failure_to_acquire:.4%}",
        ),
    ]
    if at is None:
        shown = ", ".join(f"{point.target_fmr:.0e}" for point in report.points) or "none"
        return [
            *checks,
            Check("FNMR, everybody", False, f"the report does not reach FMR {requirements.fmr:.0e}: {shown}"),
        ]
    found = f"{at.fnmr.rate:.4%}, upper bound {at.fnmr.high:.4%}, at most {requirements.max_fnmr:.4%}"
    return [*checks, Check("FNMR, everybody", at.fnmr.high <= requirements.max_fnmr, found)]


def _held_out(report: EvaluationReport) -> list[Check]:
    if report.holdout is None:
        return [Check("claims hold on others", False, "nobody was held out")]
    claims, broken = report.holdout.claims, report.holdout.broken
    found = f"{len(claims) - len(broken)} of {len(claims)} bounds held"
    return [Check("claims hold on others", bool(claims) and not broken, found)]


def _groups(report: EvaluationReport, requirements: Requirements) -> list[Check]:
    parts = [part for part in report.groups if part.target_fmr == requirements.fmr]
    checks = [_labelled(name, parts) for name in requirements.required_attributes]
    if report.groups and not parts:
        checks.append(Check("groups", False, f"the report does not compare them at FMR {requirements.fmr:.0e}"))
    elif not requirements.required_attributes and not parts:
        checks.append(Check("groups", True, "none were asked for, and none measured: nothing is known of them"))
    for part in parts:
        checks += _attribute(part, requirements)
    return checks


def _labelled(name: str, parts: list[AttributePart]) -> Check:
    """A required attribute compares two groups at least: a column that is empty, or says one thing, compares none."""
    found = [f"{part.labelled} persons in {len(part.groups)} group(s)" for part in parts if part.attribute == name]
    holds = any(part.attribute == name and len(part.groups) > 1 for part in parts)
    return Check(f"labelled by {name}", holds, found[0] if found else "no group was measured")


def _attribute(part: AttributePart, requirements: Requirements) -> list[Check]:
    checks = []
    for group in part.groups:
        name, lost = f"{part.attribute}={group.group}", group.failure_to_acquire
        limit = requirements.max_failure_to_acquire
        found = f"{lost.rate:.4%}, upper bound {lost.high:.4%}, at most {limit:.4%}"
        checks.append(Check(f"failure to acquire, {name}", lost.high <= limit, found))
        for what, interval, says, limit in (
            ("FNMR", group.fnmr, group.says_fnmr, requirements.max_group_fnmr),
            ("FMR", group.fmr, group.says_fmr, requirements.max_group_fmr),
        ):
            if says is not None:
                checks.append(Check(f"{what}, {name}", False, f"the group is too small: {says}"))
            else:
                found = f"{interval.rate:.2e}, upper bound {interval.high:.2e}, at most {limit:.2e}"
                checks.append(Check(f"{what}, {name}", interval.high <= limit, found))
    for pair in part.pairs:
        found = f"{pair.fmr:.2e}, upper bound {pair.fmr_upper95:.2e}, at most {requirements.max_group_fmr:.2e}"
        holds = pair.fmr_upper95 <= requirements.max_group_fmr
        checks.append(Check(f"FMR, {part.attribute}: {pair.one} / {pair.other}", holds, found))
    return checks


def _gallery(report: EvaluationReport, requirements: Requirements) -> list[Check]:
    checks = []
    for table in report.calibration:
        size = largest_supported(requirements.max_fpir, (calibration_group(table),))
        found = f"{size} at an FPIR of {requirements.max_fpir:g}, {requirements.smallest_gallery} asked"
        checks.append(Check(f"gallery that {table.group} supports", size >= requirements.smallest_gallery, found))
    return checks
