"""`turnkeyctl models accept`: evidence that suffices is signed, evidence that does not is not, overall and by group."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tools_crowd import crowd
from typer.testing import CliRunner
from vision.portraits import MODELS

from turnkey.envelope import PublicKey, SigningKey, verify
from turnkey.vision.acceptance import ACCEPTANCE_NAME, ACCEPTANCE_TYPE, Acceptance, models_digest
from turnkey.vision.manifest import read_manifest
from turnkey_tools.cli import app
from turnkey_tools.evaluate.attributes import Attribute
from turnkey_tools.evaluate.bootstrap import Draws, Interval, impostor_tail, mated_pairs
from turnkey_tools.evaluate.groups import attribute_part
from turnkey_tools.evaluate.holdout import Claim, Holdout
from turnkey_tools.evaluate.measure import Request, evaluate
from turnkey_tools.evaluate.pairs import score_all_pairs
from turnkey_tools.evaluate.report import EvaluationReport, OperatingPoint
from turnkey_tools.models.accept import Requirements, check_evidence

REQUIREMENTS = Requirements(
    fmr=1e-2,
    min_persons=5,
    max_failure_to_acquire=0.1,
    max_fnmr=0.2,
    max_group_fnmr=0.5,
    max_group_fmr=0.2,
    required_attributes=("kind",),
    smallest_gallery=1,
    max_fpir=0.5,
)


@pytest.fixture(scope="module")
def good() -> EvaluationReport:
    """The portraits' own report about the shipped models, with the rates of a large, even crowd put in."""
    faces = MODELS.parent / "tests/faces"
    report = evaluate(Request(models=MODELS, faces=faces, dataset="portraits", sensitivity=0), lambda *_: None)
    templates, ids = crowd(400)
    threshold = score_all_pairs(templates, ids).threshold_at(1e-2)
    part = attribute_part(
        Attribute("kind", ("a", "b"), np.arange(400) % 2),
        np.bincount(ids),
        impostor_tail(templates, ids, threshold, 400),
        mated_pairs(templates, ids),
        Draws.make(400, 1),
        target_fmr=1e-2,
        threshold=threshold,
    )
    manifest = read_manifest(MODELS)
    point = OperatingPoint(1e-2, threshold, Interval(0.01, 0.009, 0.011), 0.02, Interval(0.05, 0.02, 0.08))
    return report.model_copy(
        update={
            "faces": replace(report.faces, failure_to_acquire=Interval(0.0, 0.0, 0.0075)),
            "points": (point,),
            "groups": (part,),
            "holdout": Holdout((), (Claim("first", 0.4, 1e-3, 2e-3, 1e-3),)),
            "calibration": manifest.calibration.groups,
            "cohort_mean": manifest.embedder.cohort_mean,
        }
    )


def failing(report: EvaluationReport, requirements: Requirements = REQUIREMENTS) -> list[str]:
    return [check.name for check in check_evidence(report, requirements, read_manifest(MODELS)) if not check.holds]


def test_evidence_that_meets_everything_passes(good: EvaluationReport) -> None:
    assert failing(good) == []


Change = Callable[[EvaluationReport], dict[str, Any]]


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        (lambda r: {"subject": replace(r.subject, embedder_sha256="0" * 64)}, "report is about these model files"),
        (lambda r: {"subject": replace(r.subject, mirrored=not r.subject.mirrored)}, "used as the manifest uses them"),
        (lambda r: {"cohort_mean": r.cohort_mean[::-1]}, "used as the manifest uses them"),
        (lambda _: {"calibration": ()}, "calibration in the manifest is the report's"),
        (lambda r: {"faces": replace(r.faces, persons=4)}, "persons"),
        (lambda r: {"faces": replace(r.faces, failure_to_acquire=Interval(0.0, 0.0, 0.99))}, "failure to acquire"),
        (lambda _: {"points": ()}, "FNMR, everybody"),
        (lambda r: {"points": (replace(r.points[0], fnmr=Interval(0.1, 0.0, 0.21)),)}, "FNMR, everybody"),
        (lambda _: {"holdout": None}, "claims hold on others"),
        (lambda _: {"holdout": Holdout((), (Claim("first", 0.4, 1e-3, 2e-3, 3e-3),))}, "claims hold on others"),
        (lambda _: {"holdout": Holdout((), ())}, "claims hold on others"),
        (lambda _: {"groups": ()}, "labelled by kind"),
        (lambda r: {"groups": (replace(r.groups[0], groups=(), pairs=()),)}, "labelled by kind"),
        (lambda r: {"groups": (replace(r.groups[0], groups=r.groups[0].groups[:1], pairs=()),)}, "labelled by kind"),
    ],
)
def test_each_flaw_fails_alone(good: EvaluationReport, change: Change, fails: str) -> None:
    assert fails in failing(good.model_copy(update=change(good)))


def test_one_bad_group_is_enough(good: EvaluationReport) -> None:
    (part,) = good.groups
    worse = replace(part.groups[1], fnmr=Interval(0.3, 0.2, 0.51))
    assert failing(good.model_copy(update={"groups": (replace(part, groups=(part.groups[0], worse)),)})) == [
        "FNMR, kind=b"
    ]
    crossed = replace(part.pairs[0], fmr_upper95=0.3)
    assert failing(good.model_copy(update={"groups": (replace(part, pairs=(crossed,)),)})) == ["FMR, kind: a / b"]


def test_a_group_whose_faces_are_not_found_fails(good: EvaluationReport) -> None:
    (part,) = good.groups
    lost = replace(part.groups[1], failure_to_acquire=Interval(0.09, 0.05, 0.11))
    assert failing(good.model_copy(update={"groups": (replace(part, groups=(part.groups[0], lost)),)})) == [
        "failure to acquire, kind=b"
    ]


def test_groups_that_were_compared_at_another_rate_are_not_as_good_as_none(good: EvaluationReport) -> None:
    nothing_asked = REQUIREMENTS.model_copy(update={"required_attributes": ()})
    elsewhere = replace(good.groups[0], target_fmr=1e-3)
    assert failing(good.model_copy(update={"groups": ()}), nothing_asked) == []
    assert failing(good.model_copy(update={"groups": (elsewhere,)}), nothing_asked) == ["groups"]


def test_a_group_that_is_too_small_fails(good: EvaluationReport) -> None:
    (part,) = good.groups
    small = replace(part.groups[0], says_fmr="12 persons; at least 30 are needed")
    assert failing(good.model_copy(update={"groups": (replace(part, groups=(small, part.groups[1])),)})) == [
        "FMR, kind=a"
    ]


def test_no_labels_pass_only_where_none_were_asked_for(good: EvaluationReport) -> None:
    bare = good.model_copy(update={"groups": ()})
    assert failing(bare, REQUIREMENTS.model_copy(update={"required_attributes": ()})) == []


def test_a_gallery_beyond_the_evidence_fails(good: EvaluationReport) -> None:
    larger = REQUIREMENTS.model_copy(update={"smallest_gallery": 10_000_000})
    assert failing(good, larger) == ["gallery that all supports"]


def files(folder: Path, report: EvaluationReport) -> list[str]:
    models = Path(shutil.copytree(MODELS, folder / "models"))
    (folder / "report.json").write_text(report.model_dump_json())
    lines = [f"{name} = {json.dumps(value)}" for name, value in REQUIREMENTS.model_dump(mode="json").items()]
    (folder / "requirements.toml").write_text("\n".join(lines))
    policy = str(folder / "requirements.toml")
    return ["models", "accept", str(models), "--report", str(folder / "report.json"), "--policy", policy]


def key(folder: Path, name: str) -> tuple[str, PublicKey]:
    pair = SigningKey.generate()
    (folder / name).write_bytes(pair.to_pem())
    return str(folder / name), pair.public


def test_the_command_signs_what_suffices_and_signers_add_up(tmp_path: Path, good: EvaluationReport) -> None:
    command = files(tmp_path, good)
    (one, first), (two, second) = key(tmp_path, "one"), key(tmp_path, "two")
    written = tmp_path / "models" / ACCEPTANCE_NAME
    assert CliRunner().invoke(app, command).exit_code == 0
    assert not written.exists()  # judged only
    for signer in (one, two):
        done = CliRunner().invoke(app, [*command, "--key", signer])
        assert done.exit_code == 0, done.output
    verified = verify(written.read_bytes(), ACCEPTANCE_TYPE, [first, second], threshold=2)
    document = Acceptance.model_validate_json(verified.payload)
    assert document.models == models_digest(read_manifest(MODELS))


def test_the_command_refuses_and_writes_nothing(tmp_path: Path, good: EvaluationReport) -> None:
    command = files(tmp_path, good.model_copy(update={"holdout": None}))
    signer, _ = key(tmp_path, "one")
    done = CliRunner().invoke(app, [*command, "--key", signer, "--json"])
    assert done.exit_code == 1
    assert not (tmp_path / "models" / ACCEPTANCE_NAME).exists()


def test_files_that_cannot_be_read_are_a_message(tmp_path: Path, good: EvaluationReport) -> None:
    command = files(tmp_path, good)
    (tmp_path / "requirements.toml").write_text("fmr = 2\n")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert "cannot judge" in done.output


def test_the_example_requirements_are_requirements() -> None:
    import tomllib

    Requirements.model_validate(tomllib.loads((MODELS / "requirements.toml").read_text()))


def test_calibrate_puts_a_reports_table_into_the_manifest(tmp_path: Path, good: EvaluationReport) -> None:
    changed = {"calibration": good.calibration[:1] * 2, "subject": replace(good.subject, cohort="these faces")}
    files(tmp_path, good.model_copy(update=changed))
    models = tmp_path / "models"
    command = ["models", "calibrate", str(models), "--report", str(tmp_path / "report.json")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    manifest = read_manifest(models)
    assert len(manifest.calibration.groups) == 2
    assert manifest.embedder.cohort == "7171 pictures of 2954 persons of equal weight"  # of those with a face
    assert models_digest(manifest) != models_digest(read_manifest(MODELS))
    assert not list(models.glob(".*"))


def test_calibrate_refuses_a_report_about_other_models(tmp_path: Path, good: EvaluationReport) -> None:
    files(tmp_path, good.model_copy(update={"subject": replace(good.subject, embedder_sha256="0" * 64)}))
    before = (tmp_path / "models" / "manifest.toml").read_bytes()
    command = ["models", "calibrate", str(tmp_path / "models"), "--report", str(tmp_path / "report.json")]
    assert CliRunner().invoke(app, command).exit_code == 2
    assert CliRunner().invoke(app, command[:3]).exit_code == 2  # neither a report nor faces
    assert (tmp_path / "models" / "manifest.toml").read_bytes() == before
