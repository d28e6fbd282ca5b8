"""The reports: every figure counted by hand in a small history, and a pack that says "none"."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from audit.world import World
from typer.testing import CliRunner

from turnkey_tools.bench.ledger_script import DEVICE
from turnkey_tools.cli import app


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Twelve bookings with three leads, one refused picture, three stops."""
    world = World(tmp_path_factory.mktemp("world"))
    world.history()
    world.device.release()
    world.device.book("B-100", outcome="no-face")
    world.minutes(10)
    world.device.switch("MORATORIUM", "stop-ordered")
    world.minutes(10)
    world.publish()
    world.audited(with_witness=True)
    (world.folder / f"{DEVICE}.pub").write_bytes(world.key.to_pem())
    (world.folder / "witness.vkey").write_text(world.witness.verifier_key.to_text())
    return world


def options(world: World) -> list[str]:
    witness = ["--witness", str(world.witness.out), "--witness-key", str(world.folder / "witness.vkey")]
    return [str(world.export), "--keys", str(world.folder), *witness]


def reported(world: World, folder: Path, *more: str) -> dict[tuple[str, str, str], str]:
    done = CliRunner().invoke(app, ["audit", "report", *options(world), "--out", str(folder), *more])
    assert done.exit_code == 0, done.output
    with (folder / "report.csv").open(newline="") as file:
        return {(row["section"], row["what"], row["split"]): row["value"] for row in csv.DictReader(file)}


def test_the_report_counts_what_was_done(world: World, tmp_path: Path) -> None:
    lines = reported(world, tmp_path)
    assert lines["Pictures taken", "for a booking", ""] == "13"
    assert lines["Searches by offence category", "booking", "in cases, with a lead"] == "3"
    assert lines["Searches by offence category", "booking", "in cases, without one"] == "9"
    assert lines["Refusals by reason", "vision", "no-face"] == "1"
    assert lines["Leads", "signed and sent", ""] == "3"
    assert lines["Gallery", "templates enrolled", "bookings"] == "12"
    assert lines["Orders", "release", "accepted"] == "2"
    assert lines["Stops by cause", "key-opened", ""] == "1"
    assert lines["Stops by cause", "stop-ordered", ""] == "1"
    assert lines["Stops and their length", "stretches of time stopped", ""] == "3"
    assert lines["Thresholds of the searches (cosine)", "cases", "median"] == "0.41"
    assert lines["Versions in force", "model", "sface-abababababab"] == "12 searches"
    assert lines["Versions in force", "software", "1.0"] == ""
    assert (tmp_path / "report.html").read_text().count("<table>") >= 8
    assert not list(tmp_path.glob("*.draft"))


def test_a_year_without_entries_is_unknown_and_not_zero_work(world: World, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["audit", "report", *options(world), "--out", str(tmp_path), "--year", "2031"])
    assert done.exit_code == 3
    assert "for part of the time nothing is known" in (tmp_path / "report.html").read_text()


def test_the_pack_finds_a_number_that_the_ledger_does_not_name(world: World, tmp_path: Path) -> None:
    page = tmp_path / "pack.html"
    command = ["audit", "discovery", "B-1", *options(world), "--json", "--html", str(page)]
    done = CliRunner().invoke(app, command)
    said = json.loads(done.stdout)
    assert [line["what"] for line in said["entries"]] == [
        "a picture was taken", "it was searched", "a lead was signed for it", "a template was enrolled",
    ]  # fmt: skip
    search = said["entries"][1]["facts"]
    assert (search["database"], search["threshold"], search["result"]) == ("cases", "0.41", "1 candidate(s)")
    assert said["system"]["model_files"].keys() == {"sface", "yunet"}
    assert said["history"]["verdict"] == "PROVEN"
    assert b"B-1" not in world.export.read_bytes()
    assert "was signed for it" in page.read_text()


def test_the_pack_says_which_leads_named_a_case(world: World) -> None:
    said = json.loads(CliRunner().invoke(app, ["audit", "discovery", "C-2026-0001", *options(world), "--json"]).stdout)
    assert said["of_these_named_it"] == 3
    assert {line["facts"]["rank"] for line in said["entries"]} == {"1"}


def test_the_pack_says_none(world: World) -> None:
    done = CliRunner().invoke(app, ["audit", "discovery", "C-1999-9999", *options(world)])
    assert "none: the ledger holds nothing about C-1999-9999" in done.stdout
    assert done.exit_code == 0
