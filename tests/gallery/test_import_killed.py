"""An import that is killed at any moment: called again it ends with every picture enrolled, once."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from booking_room import FACES
from patience import PATIENCE_S, wait_for
from typer.testing import CliRunner

from turnkey.cli import app
from turnkey.interlock.orders import ReleaseRequest
from turnkey_tools.pilot import Pilot

PORTRAITS = ["ardern/ardern-2018.jpg", "ardern/ardern-2022.jpg", "obama/obama-2012.jpg", "macron/macron-2014.jpg"]


def turnkey(pilot: Pilot, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["--config", str(pilot.settings_file), *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def done(pilot: Pilot) -> int:
    """Pictures whose outcome is in the gallery's file."""
    try:
        with sqlite3.connect(f"file:{pilot.settings().state}/gallery.db?mode=ro", uri=True) as rows:
            return int(rows.execute("SELECT count(*) FROM import_file").fetchone()[0])
    except sqlite3.Error:
        return 0


@pytest.mark.parametrize("after", [1, 2])
def test_a_killed_import_is_finished_by_calling_it_again(pilot: Pilot, tmp_path: Path, after: int) -> None:
    folder = tmp_path / "mugshots"
    for number, name in enumerate(PORTRAITS, start=1):
        (folder / f"B-{number}").mkdir(parents=True)
        shutil.copy(FACES / name, folder / f"B-{number}")
    turnkey(pilot, "key", "closed")
    request = ReleaseRequest.model_validate_json(turnkey(pilot, "order", "request"))
    (pilot.root / "release.json").write_bytes(pilot.release(request))
    assert "RUNNING" in turnkey(pilot, "order", "apply", str(pilot.root / "release.json"))
    again = ("gallery", "import", "bookings", "--folder", str(folder))
    command = [sys.executable, "-m", "turnkey.cli", "--config", str(pilot.settings_file), *again]
    importing = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: done(pilot) >= after or importing.poll() is not None)
    finally:
        importing.kill()
        importing.wait(PATIENCE_S)
    kept = done(pilot)
    assert kept >= after
    said = turnkey(pilot, *again)
    # A row that the kill kept from the ledger was taken back at the start, and its picture is enrolled anew.
    assert f"{kept}  done before" in said or f"{kept - 1}  done before" in said
    facts = json.loads(turnkey(pilot, "gallery", "stats"))
    assert facts["bookings"] == {"templates": len(PORTRAITS), "references": len(PORTRAITS)}
