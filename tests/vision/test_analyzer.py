"""The way from a frame to a template, with the committed models."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from vision.portraits import (
    MODELS,
    OTHER_DAY,
    OTHER_PERSON,
    PORTRAIT,
    every_portrait,
    frame_of,
    live_permit,
    pixels_of,
)

from turnkey.interlock.permit import Permit, Stopped
from turnkey.vision.analyzer import Analysis, Analyzer
from turnkey.vision.manifest import MANIFEST_NAME, ModelError, read_manifest
from turnkey.vision.refusals import VisionReason, VisionRefusal


@pytest.fixture(scope="module")
def analyzer() -> Analyzer:
    return Analyzer.load(MODELS)


def analysed(analyzer: Analyzer, path: Path) -> Analysis:
    outcome = analyzer.analyze(frame_of(pixels_of(path)), live_permit())
    assert isinstance(outcome, Analysis)
    return outcome


def test_a_template_is_centred_and_of_unit_length(analyzer: Analyzer) -> None:
    template = analysed(analyzer, PORTRAIT).template
    assert template.shape == (128,)
    assert template.dtype == np.float32
    assert np.linalg.norm(template) == pytest.approx(1, abs=1e-5)


def test_one_person_on_two_days_scores_above_two_persons(analyzer: Analyzer) -> None:
    first, later, other = (analysed(analyzer, path).template for path in (PORTRAIT, OTHER_DAY, OTHER_PERSON))
    rows = analyzer.manifest.calibration.groups[0].rows
    strict = next(row.threshold for row in rows if row.fmr_upper95 <= 1e-4)
    assert first @ later > strict
    assert first @ other < analyzer.manifest.calibration.groups[0].rows[0].threshold


def test_the_same_frame_gives_the_same_template(analyzer: Analyzer) -> None:
    np.testing.assert_array_equal(analysed(analyzer, PORTRAIT).template, analysed(analyzer, PORTRAIT).template)


def test_a_dead_permit_stops_before_anything(analyzer: Analyzer) -> None:
    permit = live_permit()
    permit.revoke("key-opened")
    with pytest.raises(Stopped, match="key-opened"):
        analyzer.analyze(frame_of(pixels_of(PORTRAIT)), permit)


@pytest.mark.parametrize("checks_before_the_stop", [1, 2, 3, 4, 5, 6, 7])
def test_a_permit_that_dies_at_any_step_leaves_nothing(analyzer: Analyzer, checks_before_the_stop: int) -> None:
    """The clock that the lease is measured with jumps past its end after so many readings."""
    readings = 0

    def clock() -> int:
        nonlocal readings
        readings += 1
        return 0 if readings <= checks_before_the_stop else 10

    with pytest.raises(Stopped, match="lease-lapsed"):
        analyzer.analyze(frame_of(pixels_of(PORTRAIT)), Permit(clock, 5))


def test_timings_are_measured(analyzer: Analyzer) -> None:
    began = time.perf_counter()
    timings = analysed(analyzer, PORTRAIT).timings
    elapsed_ms = 1e3 * (time.perf_counter() - began)
    stages = (timings.detect_ms, timings.align_ms, timings.quality_ms, timings.embed_ms)
    assert all(stage > 0 for stage in stages)
    assert sum(stages) <= elapsed_ms


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODELS, tmp_path / "models"))


@pytest.mark.parametrize("kind", ["detector", "embedder", "mesh"])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_one_flipped_byte_in_a_model_is_refused_at_load(copied: Path, kind: str, place: float) -> None:
    path = copied / getattr(read_manifest(copied), kind).file
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError) as refused:
        Analyzer.load(copied)
    assert refused.value.reason == "model-altered"


def test_what_was_accepted_is_what_is_loaded_though_the_manifest_was_replaced(copied: Path) -> None:
    accepted = read_manifest(copied)
    text = (copied / MANIFEST_NAME).read_text()
    (copied / MANIFEST_NAME).write_text(text.replace("mirrored = true", "mirrored = false"))
    assert read_manifest(copied) != accepted
    assert Analyzer.load(copied, accepted).manifest == accepted


def test_a_missing_model_is_refused(copied: Path) -> None:
    (copied / read_manifest(copied).embedder.file).unlink()
    with pytest.raises(ModelError) as refused:
        Analyzer.load(copied)
    assert refused.value.reason == "model-missing"


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as refused:
        Analyzer.load(tmp_path)
    assert refused.value.reason == "manifest-missing"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version = 1", "version = 2"),
        ('colour = "rgb"', 'colour = "bgr"'),
        ("[calibration]\nembedder_sha256 = ", "[calibration]\nembedder_sha256 = 'a' #"),
        ("[detector]", "[detektor]"),
        ("dimension = 128", "dimension = 127"),
    ],
)
def test_an_invalid_manifest_is_refused(copied: Path, old: str, new: str) -> None:
    path = copied / MANIFEST_NAME
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ModelError) as refused:
        Analyzer.load(copied)
    assert refused.value.reason == "manifest-invalid"


def test_a_table_of_another_embedder_is_refused(copied: Path) -> None:
    path = copied / MANIFEST_NAME
    manifest = read_manifest(copied)
    text = path.read_text()
    head, tail = text.split("[calibration]\n")
    path.write_text(head + "[calibration]\n" + tail.replace(manifest.embedder.sha256, "0" * 64))
    with pytest.raises(ModelError) as refused:
        Analyzer.load(copied)
    assert refused.value.reason == "manifest-invalid"
    assert "another embedder" in str(refused.value)


def test_what_is_not_a_model_is_refused_whatever_the_manifest_says(copied: Path) -> None:
    from turnkey.vision.litert import Model

    with pytest.raises(ModelError) as refused:
        Model(b"TFL3" * 100)
    assert refused.value.reason == "model-unusable"


@pytest.mark.parametrize("path", every_portrait(), ids=lambda path: path.stem)
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_picture_that_is_not_upright_gives_no_template(analyzer: Analyzer, path: Path, turns: int) -> None:
    outcome = analyzer.analyze(frame_of(np.rot90(pixels_of(path), turns)), live_permit())
    assert isinstance(outcome, VisionRefusal)
    if turns == 2:
        assert outcome.reason in {VisionReason.NOT_UPRIGHT, VisionReason.NO_FACE}


@pytest.mark.parametrize("path", every_portrait(), ids=lambda path: path.stem)
def test_an_upright_portrait_gives_a_template(analyzer: Analyzer, path: Path) -> None:
    analysed(analyzer, path)
