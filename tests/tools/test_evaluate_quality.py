"""`turnkeyctl evaluate quality`: the curve, the tenths and the gain are what they say; it runs on portraits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from vision.portraits import MODELS, PORTRAIT, REPOSITORY, pixels_of

from turnkey.vision.embedder import unit
from turnkey_tools.cli import app
from turnkey_tools.evaluate.faces import list_pictures
from turnkey_tools.evaluate.pairs import score_all_pairs
from turnkey_tools.evaluate.quality import curves, mated_pairs, tenths
from turnkey_tools.evaluate.quality_commands import bars_missed, not_judged
from turnkey_tools.evaluate.quality_faces import COMPONENT_NAMES, Faces, look_at
from turnkey_tools.evaluate.quality_fusion import disturbed, fusion_gain
from turnkey_tools.evaluate.quality_pose import PoseError
from turnkey_tools.evaluate.quality_report import QualityReport

PERSONS, EACH = 300, 5


@pytest.fixture(scope="module")
def crowd() -> Faces:
    """Persons whose pictures are noisy to a degree that the length tells."""
    draw = np.random.default_rng(7)
    persons = np.repeat(np.arange(PERSONS), EACH)
    truth = unit(draw.normal(size=(PERSONS, 128)).astype(np.float32))[persons]
    noise = draw.uniform(0.02, 0.2, len(persons))
    templates = unit((truth + noise[:, np.newaxis] * draw.normal(size=truth.shape)).astype(np.float32))
    lengths = 15 - 30 * noise + draw.normal(0, 0.2, len(persons))
    components = np.zeros((len(persons), len(COMPONENT_NAMES)))
    return Faces(templates, lengths, components, persons, np.arange(len(persons)))


def names() -> list[str]:
    return [f"person-{number}" for number in range(PERSONS)]


def test_discarding_the_worst_by_a_telling_score_lowers_the_rate_in_both_halves(crowd: Faces) -> None:
    scores = score_all_pairs(crowd.templates, crowd.persons)
    found = curves(crowd, names(), scores)
    assert {curve.half for curve in found} == {"first", "second", "all"}
    for curve in found:
        assert list(curve.fnmr) == sorted(curve.fnmr, reverse=True)
        assert curve.lower_by(0.1) > 0.15
    both = [curve for curve in found if curve.fmr == 1e-4]
    assert both[0].mated_pairs + both[1].mated_pairs == both[2].mated_pairs


def test_discarding_by_a_score_that_says_nothing_lowers_nothing(crowd: Faces) -> None:
    blind = replace(crowd, lengths=np.random.default_rng(3).normal(size=len(crowd.persons)))
    whole = curves(blind, names(), score_all_pairs(crowd.templates, crowd.persons))[-1]
    assert abs(whole.lower_by(0.1)) < 0.1


def test_every_pair_of_a_person_is_counted_once(crowd: Faces) -> None:
    pairs = mated_pairs(crowd, np.ones(len(crowd.persons), bool))
    assert len(pairs.scores) == PERSONS * EACH * (EACH - 1) // 2
    assert (crowd.persons[pairs.one] == crowd.persons[pairs.other]).all()


def test_tenths_hold_a_tenth_each_and_the_worst_errs_most(crowd: Faces) -> None:
    threshold = score_all_pairs(crowd.templates, crowd.persons).threshold_at(1e-4)
    found = tenths(crowd, crowd.lengths, threshold)
    assert sum(tenth.pairs for tenth in found) == PERSONS * EACH * (EACH - 1) // 2
    assert found[0].fnmr > found[4].fnmr > found[9].fnmr


def test_fusing_noisy_pictures_of_a_person_pays(crowd: Faces) -> None:
    gain = fusion_gain(crowd, 3, 1e-4, seed=1)
    assert gain is not None
    assert gain.probes == PERSONS
    assert gain.fused_fnmr < 0.5 * gain.single_fnmr


def test_nobody_with_enough_pictures_gives_no_gain(crowd: Faces) -> None:
    assert fusion_gain(crowd, EACH, 1e-4, seed=1) is None


def test_a_burst_is_disturbed_and_the_seed_repeats_it() -> None:
    pixels = pixels_of(PORTRAIT)
    first, again, other = (disturbed(pixels, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == pixels.shape
    assert (first != other).any()


def test_bars_are_missed_by_name_and_what_cannot_be_judged_is_said(crowd: Faces) -> None:
    found = tuple(curves(crowd, names(), score_all_pairs(crowd.templates, crowd.persons)))
    report = QualityReport(
        PERSONS, len(crowd.persons), 0, found, (), (), fusion_gain(crowd, 3, 1e-4, seed=1), None, (), 0.0
    )
    assert "pose: not asked for" in not_judged(report)
    poor = replace(
        report,
        curves=tuple(replace(curve, fnmr=(0.1,) * len(curve.fnmr), errors=50) for curve in found),
        pose=(PoseError("something", 3, 9.0, 9.0, 9.0),),
    )
    assert sum("worst tenth" in bar for bar in bars_missed(poor)) == 3
    assert any("pose 9.0 degrees" in bar for bar in bars_missed(poor))
    assert not_judged(poor) == []


def test_what_was_measured_is_kept_and_read_again(tmp_path: Path) -> None:
    pictures = list_pictures(REPOSITORY / "tests/faces")[:4]
    first = look_at(pictures, MODELS, tmp_path, lambda: None)
    (kept,) = tmp_path.glob("quality-*/part-*.npy")
    marked = np.load(kept)
    marked[:, 128] += 1
    np.save(kept, marked)
    again = look_at(pictures, MODELS, tmp_path, lambda: None)
    np.testing.assert_allclose(again.lengths, first.lengths + 1)
    assert first.component("inter_eye_px").min() > 20


def test_the_command_speaks_json_and_says_what_it_could_not_judge(tmp_path: Path) -> None:
    options = ["evaluate", "quality", "--faces", str(REPOSITORY / "tests/faces"), "--models", str(MODELS)]
    done = CliRunner().invoke(app, [*options, "--cache", str(tmp_path), "--bursts", "0", "--poses", "2", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["pictures"] == 8
    assert {row["name"] for row in report["components"]} == set(COMPONENT_NAMES)
    assert "not judged" in done.stderr


def test_a_folder_without_faces_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", "quality", "--faces", str(tmp_path), "--models", str(MODELS)])
    assert done.exit_code == 2
    assert "two persons" in done.stderr
