"""`turnkeyctl bench vision`: measures what it says, and names what it could not measure."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from typer.testing import CliRunner
from vision.portraits import MODELS, REPOSITORY, every_portrait

from turnkey.vision.detector import Detector
from turnkey.vision.manifest import read_manifest
from turnkey_tools.bench.landmarks import FACE_SIZES_PX, landmark_table
from turnkey_tools.bench.timing import WARM_UP_ROUNDS, medians_ms
from turnkey_tools.cli import app
from turnkey_tools.evaluate.faces import Picture

OPTIONS = ["bench", "vision", "--models", str(MODELS), "--repository", str(REPOSITORY), "--rounds", "5", "--json"]


def test_medians_are_of_interleaved_runs() -> None:
    order: list[str] = []

    def slow() -> None:
        order.append("slow")
        time.sleep(0.005)

    medians = medians_ms({"slow": slow, "quick": lambda: order.append("quick")}, 4)
    assert order == ["slow", "quick"] * (WARM_UP_ROUNDS + 4)
    assert medians["slow"] >= 5 > medians["quick"]


def test_what_was_not_measured_is_named() -> None:
    done = CliRunner().invoke(app, [*OPTIONS, "--no-peers"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert {line.split(":")[0] for line in report["absent"]} == {"float TFLite", "OpenCV"}
    assert {entry["partitions"] for entry in report["delegation"].values()} == {1}
    assert all(value > 0 for value in report["medians_ms"].values())
    assert any("12 MP" in name for name in report["medians_ms"])


def test_landmarks_want_faces_and_twins() -> None:
    assert CliRunner().invoke(app, [*OPTIONS, "--no-peers", "--landmarks"]).exit_code == 2


def test_a_detector_compared_with_itself_has_no_error() -> None:
    detector = Detector.load(MODELS, read_manifest(MODELS).detector)
    pictures = [Picture(path, index) for index, path in enumerate(every_portrait()[:2])]
    seen: list[tuple[int, int]] = []
    rows = landmark_table(pictures, detector, detector, tick=lambda done, of: seen.append((done, of)))
    assert [row.face_px for row in rows] == list(FACE_SIZES_PX)
    assert seen == [(1, 2), (2, 2)]
    assert all(row.found_share == 1 and row.mean == 0 for row in rows)
    assert all(np.isfinite(row.plain_mean) for row in rows)


def test_missing_models_are_a_message_not_a_traceback(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "vision", "--models", str(tmp_path)])
    assert done.exit_code == 2
    assert "install the models again" in done.output.replace("\n", " ")
