"""`turnkeyctl bench vision`: measures what it says, and names what it could not measure."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from pydantic import ValidationError
from tools.bench_reports import sound
from typer.testing import CliRunner
from vision.portraits import MODELS, REPOSITORY, every_portrait

from turnkey.vision.detector import Detector
from turnkey.vision.litert import Model
from turnkey.vision.manifest import read_manifest
from turnkey_tools.bench.boards import BOARDS, Board, Step, model_step, predicted_ms
from turnkey_tools.bench.booking_process import Booker, BookingBenchError
from turnkey_tools.bench.booking_protocol import Scene, Spec
from turnkey_tools.bench.landmarks import FACE_SIZES_PX, landmark_table
from turnkey_tools.bench.results import Bar, BenchReport, bench_report, deliver, figure
from turnkey_tools.bench.timing import WARM_UP_ROUNDS, times_ms
from turnkey_tools.cli import app
from turnkey_tools.evaluate.faces import Picture

OPTIONS = ["bench", "vision", "--models", str(MODELS), "--repository", str(REPOSITORY), "--rounds", "5", "--json"]


def test_times_are_of_interleaved_runs() -> None:
    order: list[str] = []

    def slow() -> None:
        order.append("slow")
        time.sleep(0.005)

    times = times_ms({"slow": slow, "quick": lambda: order.append("quick")}, 4)
    assert order == ["slow", "quick"] * (WARM_UP_ROUNDS + 4)
    assert [len(values) for values in times.values()] == [4, 4]
    assert min(times["slow"]) >= 5


def test_what_was_not_measured_is_named() -> None:
    done = CliRunner().invoke(app, [*OPTIONS, "--no-peers"])
    assert done.exit_code == 0, done.output
    report = sound(done.stdout)
    assert {line.split(":")[0] for line in report.absent} == {"float TFLite", "OpenCV", "onnxruntime"}
    assert [one.median for one in report.figures if one.unit == "count"] == [1, 1]
    timed = [one for one in report.figures if one.unit == "ms"]
    assert all(0 < one.least <= one.median <= one.p95 <= one.p99 <= one.most for one in timed)
    assert any("12 MP" in one.name for one in timed)
    assert report.machine.packages["numpy"] != "absent"


def test_figures_are_by_nearest_rank() -> None:
    found = figure("some", "ms", [float(value) for value in range(100, 0, -1)])
    assert (found.median, found.p95, found.p99, found.least, found.most, found.count) == (50.5, 95, 99, 1, 100, 100)
    assert figure("one", "s", [3.0]).p99 == 3


def test_a_bar_holds_or_does_not() -> None:
    assert Bar("memory", 350, "at most", 350).holds
    assert not Bar("ratio", 2.9, "at least", 3).holds


def test_a_report_says_of_each_bar_whether_it_holds_and_is_read_back() -> None:
    bars = (Bar("memory", 351, "at most", 350), Bar("ratio", 3, "at least", 3))
    report = bench_report("some", {}, [figure("one", "s", [3.0])], packages=("numpy",), bars=bars, command="some bench")
    told = json.loads(report.model_dump_json())
    assert [bar["holds"] for bar in told["bars"]] == [False, True]
    assert not report.holds
    told["bars"][0]["holds"] = True
    assert not BenchReport.model_validate(told).holds, "whether a bar holds is computed, not believed"
    assert BenchReport.model_validate_json(report.model_dump_json()) == report


def test_a_number_that_is_none_makes_no_report() -> None:
    with pytest.raises(ValidationError):
        figure("one", "s", [float("nan")])
    with pytest.raises(ValidationError):
        Bar("ratio", float("inf"), "at least", 3)
    with pytest.raises(ValidationError):
        bench_report("some", {}, [], packages=(), ratios={"peer": float("nan")})


def test_a_missed_bar_is_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    missed = bench_report("some", {}, [], packages=(), bars=[Bar("ratio", 2.9, "at least", 3)])
    with pytest.raises(typer.Exit) as left:
        deliver(missed, as_json=False)
    assert left.value.exit_code == 1
    assert "MISSED" in capsys.readouterr().out
    deliver(missed.model_copy(update={"bars": ()}), as_json=True)


def test_a_booking_is_timed_from_the_shutter_to_the_signed_lead() -> None:
    options = ["bench", "booking", "--models", str(MODELS), "--repository", str(REPOSITORY), "--bookings", "3"]
    done = CliRunner().invoke(app, [*options, "--templates", "1000", "--json"])
    report = sound(done.stdout)
    assert done.exit_code == (0 if all(bar.holds for bar in report.bars) else 1)
    figures = {one.name: one for one in report.figures}
    assert figures["turnkey: booking"].count == 3
    assert 0 < figures["turnkey: sign"].median < figures["turnkey: booking"].median
    assert figures["turnkey, somebody who moves: booking"].count == 3
    assert {"turnkey: capture", "turnkey: embed", "turnkey: search", "turnkey: enrol"} <= set(figures)


def test_a_lead_is_timed_to_the_broker_and_the_desk_and_none_is_lost() -> None:
    options = ["bench", "uplink", "--messages", "40", "--singles", "4", "--losses", "1", "--json"]
    done = CliRunner().invoke(app, options)
    assert done.exit_code in (0, 1), done.output
    report = sound(done.stdout)
    figures = {one.name: one for one in report.figures}
    acknowledged = figures["a lead put into the outbox to acknowledged by the broker"]
    assert (acknowledged.count, acknowledged.least > 0) == (4, True)
    assert figures["broker back to all that waited acknowledged"].count == 1
    assert figures["leads lost"].most == 0


def test_an_audit_is_timed_in_a_process_of_its_own() -> None:
    done = CliRunner().invoke(app, ["bench", "audit", "--days", "0.2", "--json"])
    report = sound(done.stdout)
    assert report.settings["verdict"] == "PROVEN"
    assert report.settings["heartbeats"] == 288


def test_boards_are_predicted_from_operations_and_bytes() -> None:
    slow, quick = Board("slow", 8, 1.0, 10.0), Board("quick", 32, 2.0, 10.0)
    computed, read = Step("c", 8_000_000, 1), Step("r", 1, 10_000_000)
    assert predicted_ms(computed, slow, 1.0) == pytest.approx(1.0)
    assert predicted_ms(computed, quick, 0.5) == pytest.approx(0.25)
    assert predicted_ms(read, slow, 1.0) == predicted_ms(read, quick, 1.0) == pytest.approx(1.0)


def test_operations_are_counted_in_the_graph() -> None:
    """SFace is a MobileFaceNet-like network: some 0.4 thousand million multiply-accumulates, ten million weights."""
    embedder = model_step("embed", Model.load(MODELS, read_manifest(MODELS).embedder))
    assert 2e8 < embedder.macs < 1e9
    assert embedder.bytes > read_manifest(MODELS).embedder.bytes * 0.9


def test_predictions_are_called_predictions() -> None:
    options = ["bench", "boards", "--models", str(MODELS), "--rounds", "5", "--templates", "1000", "--json"]
    report = sound(CliRunner().invoke(app, options).stdout)
    for board in BOARDS:
        lines = [one.name for one in report.figures if board.name in one.name]
        assert len(lines) == 3
        assert all("PREDICTED" in line for line in lines)


def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    for scene in Scene:
        (tmp_path / scene / "burst").mkdir(parents=True)
    spec = Spec(root=tmp_path, source="raw", templates=1000, seed=1, weights=tmp_path, lease_ms=5000)
    with pytest.raises(BookingBenchError, match=r"(?s)turnkey: .*device\.toml"):
        Booker("turnkey", spec)


def test_what_a_worker_prints_is_not_taken_for_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nprint('a stray line')\nprint('another', file=sys.stderr)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for scene in Scene:
        (tmp_path / scene / "raw").mkdir(parents=True)
    spec = Spec(root=tmp_path, source="raw", templates=1000, seed=1, weights=tmp_path, lease_ms=5000)
    booker = Booker("frames read, nothing else", spec)
    try:
        booker.book(Scene.STILL)
        with pytest.raises(BookingBenchError, match=r"(?s)a stray line.*ValueError"):
            booker.book("sleeping")  # type: ignore[arg-type]
    finally:
        booker.end()
    assert len(booker.booked[Scene.STILL]) == 1


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


def test_sameness_is_measured_on_any_folder_of_faces(tmp_path: Path) -> None:
    for path in every_portrait():
        person = tmp_path / path.parent.name
        person.mkdir(exist_ok=True)
        (person / path.name).write_bytes(path.read_bytes())
    done = CliRunner().invoke(app, ["bench", "sameness", "--faces", str(tmp_path), "--models", str(MODELS), "--json"])
    report = sound(done.stdout)
    assert done.exit_code == 0, done.output
    figures = {one.name: one.median for one in report.figures}
    assert figures["pairs of two persons"] > 10
    assert figures["two persons, aligned: pairs taken for the same"] == 0
    assert figures["held still: frames taken for the same"] > 0
