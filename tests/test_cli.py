"""`turnkey` as a person and as a machine use it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from booking_room import lay
from typer.testing import CliRunner, Result

from turnkey.cli import app
from turnkey.interlock.orders import ReleaseRequest
from turnkey_tools.pilot import Pilot


def turnkey(pilot: Pilot, *words: str) -> Result:
    return CliRunner().invoke(app, ["--config", str(pilot.settings_file), *words])


def released(pilot: Pilot) -> Pilot:
    assert turnkey(pilot, "key", "closed").exit_code == 0
    request = turnkey(pilot, "order", "request").stdout
    (pilot.root / "release.json").write_bytes(pilot.release(ReleaseRequest.model_validate_json(request)))
    applied = turnkey(pilot, "order", "apply", str(pilot.root / "release.json"))
    assert applied.exit_code == 0, applied.stderr
    assert "RUNNING" in applied.stdout
    return pilot


def test_from_the_image_to_a_recorded_booking_and_a_stop(pilot: Pilot) -> None:
    lay(pilot, "obama/obama-2012.jpg")
    stopped = turnkey(pilot, "book", "B-1")
    assert stopped.exit_code == 1
    assert "Facial recognition is stopped" in stopped.stderr
    released(pilot)
    booked = turnkey(pilot, "book", "B-1", "--json")
    assert booked.exit_code == 0, booked.stderr
    assert json.loads(booked.stdout)["outcome"] == "recorded"
    assert "score" not in booked.stdout
    replayed = turnkey(pilot, "order", "apply", str(pilot.root / "release.json"))
    assert replayed.exit_code == 1
    turnkey(pilot, "key", "open")
    turnkey(pilot, "key", "closed")
    again = turnkey(pilot, "order", "apply", str(pilot.root / "release.json"))
    assert again.exit_code == 1
    assert "used-before" in again.stderr
    status = json.loads(turnkey(pilot, "status", "--json").stdout)
    assert status["interlock"]["state"] == "MORATORIUM"
    assert status["ledger_entries"] > 5


def test_refusals_say_why_and_leave_with_one(pilot: Pilot) -> None:
    released(pilot)
    lay(pilot, "obama/obama-2012.jpg")
    for words, reason in (
        (("book", "nonsense"), "booking-number-malformed"),
        (("enrol-case", "nonsense"), "case-number-malformed"),
        (("book", "B-1", "--pictures", str(pilot.root / "state")), "not-a-picture"),
    ):
        refused = turnkey(pilot, *words)
        assert refused.exit_code == 1
        assert reason in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("threads = 99\n", "threads"),
        ("surprise = 1\n", "surprise"),
        ("threads = \n", "not TOML"),
        ('device_id = "Booth 1"\n', "device_id"),
    ],
)
def test_bad_settings_are_named_and_leave_with_two(pilot: Pilot, change: str, message: str) -> None:
    text = pilot.settings_file.read_text()
    if change.startswith("device_id"):
        text = text.replace('device_id = "booth-1"\n', "")
    pilot.settings_file.write_text(change + text)
    refused = turnkey(pilot, "status")
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


def test_missing_settings_missing_keys_and_unwritable_state_are_named(pilot: Pilot) -> None:
    missing = subprocess.run(
        [sys.executable, "-m", "turnkey.cli", "--config", "/nowhere/device.toml", "status"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert missing.returncode == 2
    assert "/nowhere/device.toml" in missing.stderr
    (pilot.root / "gallery.key").write_bytes(b"short")
    short = turnkey(pilot, "status")
    assert short.exit_code == 2
    assert "32 bytes" in short.stderr


def test_a_missing_camera_refuses_the_booking_and_nothing_else(pilot: Pilot) -> None:
    released(pilot)
    pilot.pictures.rmdir()
    refused = turnkey(pilot, "book", "B-1")
    assert refused.exit_code == 1
    assert "folder-unreadable" in refused.stderr
    assert turnkey(pilot, "key", "open").exit_code == 0
    assert json.loads(turnkey(pilot, "status", "--json").stdout)["interlock"]["state"] == "MORATORIUM"


def test_every_command_explains_itself(pilot: Pilot) -> None:
    shown = turnkey(pilot, "--help")
    assert shown.exit_code == 0
    for command in ("status", "book", "enrol-case", "expunge", "uplink", "key", "order"):
        assert command in shown.stdout
        assert turnkey(pilot, command, "--help").exit_code == 0
