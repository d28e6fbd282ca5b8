"""A stick that is put in: what lies on it goes the way of any file, and what became of it lies on it afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from typer.testing import CliRunner, Result

from turnkey.cli import app
from turnkey.commands.stick import MOST_FILES, Done, errands, take
from turnkey.interlock.orders import ReleaseRequest
from turnkey_tools.pilot import Pilot

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def put_in(pilot: Pilot, stick: Path) -> Result:
    return CliRunner().invoke(app, ["--config", str(pilot.settings_file), "stick", str(stick), "--json"])


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_device_without_a_keyboard_is_released_and_its_ledger_handed_out_by_one_stick(
    pilot: Pilot, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    (stick / "orders").mkdir(parents=True)
    CliRunner().invoke(app, ["--config", str(pilot.settings_file), "key", "closed"])
    assert put_in(pilot, stick).exit_code == 0
    asked = ReleaseRequest.model_validate_json((stick / "booth-1.request.json").read_text())
    (stick / "orders/release.json").write_bytes(pilot.release(asked))
    (stick / "ledger").mkdir()
    taken = put_in(pilot, stick)
    assert taken.exit_code == 0, taken.output
    released, exported = lines(stick / "booth-1.report.jsonl")
    assert released["file"] == "orders/release.json"
    assert "RUNNING" in str(released["said"])
    assert exported["file"] == "ledger/booth-1"
    assert (stick / "ledger/booth-1").stat().st_size > 1000
    again = put_in(pilot, stick)
    assert again.exit_code == 1, "the order was used"
    refused = lines(stick / "booth-1.report.jsonl")[2]
    assert "used-before" in str(refused["said"])


def test_what_is_no_order_is_refused_and_the_rest_is_offered_all_the_same(pilot: Pilot, tmp_path: Path) -> None:
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders/a.json").write_bytes(b"not an order")
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases/1.tkcase").write_bytes(b"not a packet")
    (tmp_path / "update.zip").write_bytes(b"not an update")
    taken = put_in(pilot, tmp_path)
    assert taken.exit_code == 1
    said = lines(tmp_path / "booth-1.report.jsonl")
    assert [line["file"] for line in said] == ["orders/a.json", "cases/1.tkcase", "update.zip"]
    assert all(line["exit"] for line in said)
    assert not any("Traceback" in str(line["said"]) for line in said), said


def test_who_may_sign_comes_first_and_updates_last_and_links_lead_nowhere(tmp_path: Path) -> None:
    for name in ("update/metadata/x", "cases/b.tkcase", "cases/a.tkcase", "cases/notes.txt", "orders/o", "authority/n"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    (tmp_path / "orders/link").symlink_to("/etc/shadow")
    (tmp_path / "orders/._o").write_text("what another system leaves")
    found = [(errand.words, str(errand.file.relative_to(tmp_path))) for errand in errands(tmp_path)]
    assert found == [
        (("authority", "follow"), "authority/n"),
        (("order", "apply"), "orders/o"),
        (("case", "apply"), "cases/a.tkcase"),
        (("case", "apply"), "cases/b.tkcase"),
        (("update", "apply"), "update"),
    ]
    shutil.rmtree(tmp_path / "orders")
    (tmp_path / "orders").mkdir()
    for number in range(MOST_FILES + 9):
        (tmp_path / f"orders/{number:03}").write_text("x")
    assert sum(errand.words[0] == "order" for errand in errands(tmp_path)) == MOST_FILES


def test_nothing_is_read_but_by_the_commands_and_each_line_is_on_the_stick_before_the_next(tmp_path: Path) -> None:
    (tmp_path / "orders").mkdir()
    for name in ("a", "b"):
        (tmp_path / "orders" / name).write_text("x")
    seen: list[int] = []

    def run(words: Sequence[str]) -> Done:
        report = tmp_path / "booth-1.report.jsonl"
        seen.append(len(report.read_text().splitlines()) if report.exists() else 0)
        return Done(1 if words[0] == "order" else 2, "no")

    outcomes = list(take(tmp_path, "booth-1", run, lambda: NOW))
    assert seen == [0, 1, 2]
    assert [outcome.exit for outcome in outcomes] == [1, 1]
    assert not (tmp_path / "booth-1.request.json").exists()
