"""Evaluation: pairs against a plain count, the bound against its definition, the table against its promise."""

from __future__ import annotations

import json
import math
import os
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools_crowd import crowd
from typer.testing import CliRunner
from vision.portraits import MODELS, REPOSITORY

from turnkey.vision.embedder import unit
from turnkey.vision.manifest import Calibration, read_manifest
from turnkey_tools.cli import app
from turnkey_tools.evaluate.calibration import calibrate_group, cohort_mean
from turnkey_tools.evaluate.faces import NoFacesError, list_pictures
from turnkey_tools.evaluate.measure import Request, evaluate
from turnkey_tools.evaluate.pairs import PairScores, score_all_pairs, upper_bound
from turnkey_tools.evaluate.report import EvaluationReport

LFW = Path(os.environ.get("TURNKEY_LFW", REPOSITORY.parent / "shared" / "lfw-dev" / "images"))


@settings(max_examples=15, deadline=None)
@given(persons=st.integers(2, 600), seed=st.integers(0, 1000))
def test_all_pairs_are_those_of_a_plain_count(persons: int, seed: int) -> None:
    templates, ids = crowd(persons, seed)
    scores = score_all_pairs(templates, ids)
    matrix = templates @ templates.T
    upper = np.triu(np.ones_like(matrix, bool), 1)
    same = ids[:, np.newaxis] == ids
    np.testing.assert_allclose(scores.impostor, np.sort(matrix[upper & ~same]), atol=1e-5)
    np.testing.assert_allclose(scores.mated, np.sort(matrix[upper & same]), atol=1e-5)
    assert len(scores.person_pairs) == persons * (persons - 1) // 2
    assert scores.person_pairs[-1] == pytest.approx(scores.impostor[-1], abs=1e-5)


def test_a_person_pair_scores_as_its_best_picture_pair() -> None:
    templates = unit(np.array([[1, 0], [0, 1], [0.1, 1], [1, 0.2]], np.float32))
    scores = score_all_pairs(templates, np.array([0, 0, 1, 1]))
    assert scores.person_pairs.tolist() == pytest.approx([float(scores.impostor.max())])


def test_the_threshold_lets_through_no_more_than_asked() -> None:
    templates, ids = crowd(300)
    scores = score_all_pairs(templates, ids)
    for fmr in (0.1, 0.01, 0.001):
        threshold = scores.threshold_at(fmr)
        assert scores.fmr(threshold) <= fmr < scores.fmr(threshold - 1e-4) + 0.01
        assert 0 <= scores.tar(threshold) <= 1


@pytest.mark.parametrize(("errors", "trials"), [(1, 100), (7, 1000), (40, 5000), (900, 10_000), (300, 400)])
def test_the_bound_is_clopper_pearsons(errors: int, trials: int) -> None:
    """At the bound, so few errors have probability 5 %: summed here term by term."""
    p = upper_bound(errors, trials)
    logs = [
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + k * math.log(p)
        + (trials - k) * math.log1p(-p)
        for k in range(errors + 1)
    ]
    assert sum(math.exp(value) for value in logs) == pytest.approx(0.05, rel=1e-3)


def test_nothing_seen_is_the_rule_of_three_and_everything_is_one() -> None:
    assert upper_bound(0, 3000) == 0.001
    assert upper_bound(0, 2) == 1
    assert upper_bound(5, 5) == 1


def test_the_bound_stands_above_the_rate_and_falls_with_the_errors() -> None:
    bounds = [upper_bound(k, 4_361_581) for k in (0, 1, 10, 1000, 100_000)]
    assert bounds == sorted(bounds)
    assert all(bound > k / 4_361_581 for bound, k in zip(bounds, (0, 1, 10, 1000, 100_000), strict=True))


def test_the_table_never_promises_less_than_was_seen() -> None:
    templates, ids = crowd(200)
    scores = score_all_pairs(templates, ids)
    group = calibrate_group("all", scores)
    assert group.rows[-1].fmr == 0
    assert group.rows[-1].fmr_upper95 == pytest.approx(3 / group.person_pairs, rel=1e-3)
    assert group.rows[-1].threshold > scores.impostor[-1]
    for row in group.rows:
        assert row.fmr_upper95 > row.fmr
        errors = int((scores.person_pairs >= np.float32(row.threshold)).sum())
        assert row.fmr_upper95 >= upper_bound(errors, group.person_pairs)
        assert row.threshold == round(row.threshold, 4)


def test_the_cohort_mean_weighs_persons_not_pictures() -> None:
    raw = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    np.testing.assert_allclose(cohort_mean(raw, np.array([0, 0, 0, 1])), [0.5, 0.5])


def test_the_manifests_table_carries_its_evidence() -> None:
    (group,) = read_manifest(MODELS).calibration.groups
    assert group.group == "all"
    assert group.smallest_fmr == pytest.approx(3 / group.person_pairs, rel=1e-3)
    assert group.rows[0].fmr > 0.05
    assert group.rows[-1].fmr_upper95 == group.smallest_fmr


def test_folders_without_two_persons_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NoFacesError):
        list_pictures(tmp_path / "nowhere")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.jpg").write_bytes(b"x")
    with pytest.raises(NoFacesError):
        list_pictures(tmp_path)


def request(faces: Path, **others: object) -> Request:
    return replace(Request(models=MODELS, faces=faces, dataset="portraits", sensitivity=0), **others)


def test_the_portraits_evaluate_and_a_picture_without_a_face_is_counted(tmp_path: Path) -> None:
    faces = Path(shutil.copytree(REPOSITORY / "tests/faces", tmp_path / "faces"))
    (faces / "nobody").mkdir()
    (faces / "nobody" / "broken.jpg").write_bytes(b"no picture")
    ticks: list[tuple[str, int, int]] = []
    report = evaluate(request(faces), lambda *tick: ticks.append(tick))
    pictures = len(list_pictures(faces))
    assert ticks == [("pictures", done, pictures) for done in range(1, pictures + 1)]
    assert (report.faces.without_face, report.faces.mated_pairs, report.faces.persons) == (1, 3, 6)
    assert "no labels" in report.labels
    assert report.subject.embedder_sha256 == read_manifest(MODELS).embedder.sha256
    assert [group.group for group in report.calibration] == ["all"]
    assert EvaluationReport.model_validate_json(report.model_dump_json()) == report


def test_the_command_writes_one_page_json_and_the_calibration(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("person,office\nobama,president\nmacron,president\nardern,<b>minister</b>\n")
    options = ["evaluate", "--faces", str(REPOSITORY / "tests/faces"), "--models", str(MODELS), "--sensitivity", "1"]
    options += ["--cache", str(tmp_path / "cache"), "--attributes", str(labels), "--report", str(tmp_path / "report")]
    done = CliRunner().invoke(app, [*options, "--workers", "1", "--json"])
    assert done.exit_code == 0, done.output
    report = EvaluationReport.model_validate_json((tmp_path / "report" / "evaluation.json").read_text())
    assert json.loads(done.stdout)["faces"]["digest"] == report.faces.digest
    assert {row.kind for row in report.sensitivity} == {"none", "size", "blur", "exposure", "jpeg"}
    page = (tmp_path / "report" / "index.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "<b>minister" not in page
    table = Calibration.model_validate(
        tomllib.loads((tmp_path / "report" / "calibration.toml").read_text())["calibration"]
    )
    assert table.embedder_sha256 == report.subject.embedder_sha256
    assert table.groups == report.calibration
    assert not list((tmp_path / "report").glob(".*"))


def test_no_faces_is_a_message(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", "--faces", str(tmp_path), "--models", str(MODELS)])
    assert done.exit_code == 2
    assert "at least two persons" in done.output.replace("\n", " ")
    assert CliRunner().invoke(app, ["evaluate"]).exit_code == 2


@pytest.mark.parametrize(
    ("pictures", "says"),
    [
        ({"ada/1.jpg": b"junk", "bob/1.jpg": b"", "cy/1.png": b"junk"}, "of 0 person(s), and at least 5"),
        ({"obama/2.jpg": b"junk"}, "nobody has two pictures with a face"),
    ],
)
def test_faces_of_which_no_rate_can_be_told_are_a_message(
    tmp_path: Path, pictures: dict[str, bytes], says: str
) -> None:
    if "obama/2.jpg" in pictures:
        for person in (REPOSITORY / "tests/faces").iterdir():
            if person.is_dir():
                (tmp_path / person.name).mkdir()
                picture = min(person.iterdir())
                shutil.copy(picture, tmp_path / person.name / f"1{picture.suffix}")
    for name, content in pictures.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    options = ["--faces", str(tmp_path), "--models", str(MODELS), "--cache", str(tmp_path / "cache"), "--workers", "1"]
    done = CliRunner().invoke(app, ["evaluate", *options, "--report", str(tmp_path / "report")])
    assert done.exit_code == 2, done.output
    assert says in done.output.replace("\n", " ")
    assert not (tmp_path / "report").exists()


def test_scores_know_their_rates() -> None:
    scores = PairScores(
        np.array([0.1, 0.2, 0.3, 0.4], np.float32),
        np.array([0.35, 0.9], np.float32),
        np.array([0.2, 0.4], np.float32),
        2,
        4,
    )
    assert scores.fmr(0.3) == 0.5
    assert scores.tar(0.4) == 0.5
    assert scores.fmr(scores.threshold_at(0.25)) == 0.25


@pytest.mark.lfw
@pytest.mark.skipif(not LFW.is_dir(), reason="needs LFW: set TURNKEY_LFW or put it into ../shared/lfw-dev/images")
def test_a_part_of_lfw_keeps_the_bars(tmp_path: Path) -> None:
    """Every 12th person: too few pairs for 1e-5, enough to see a broken pipeline."""
    for folder in sorted(LFW.iterdir())[::12]:
        (tmp_path / "faces").mkdir(exist_ok=True)
        (tmp_path / "faces" / folder.name).symlink_to(folder)
    report = evaluate(request(tmp_path / "faces"), lambda *_: None)
    assert report.faces.without_face <= 1
    assert {point.target_fmr: 1 - point.fnmr.rate for point in report.points}[1e-4] >= 0.985
