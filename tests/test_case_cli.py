"""`turnkey case apply`: a file or a stick, what was enrolled and what was refused."""

from __future__ import annotations

import json
from pathlib import Path

from packets import packet_file
from typer.testing import CliRunner, Result

from turnkey.cli import app
from turnkey.interlock.orders import ReleaseRequest
from turnkey_tools.pilot import Pilot


def turnkey(pilot: Pilot, *words: str) -> Result:
    return CliRunner().invoke(app, ["--config", str(pilot.settings_file), *words])


def test_a_stick_with_good_and_bad_packets_is_gone_through_and_each_is_told(pilot: Pilot, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    assert "there is no *.tkcase" in turnkey(pilot, "case", "apply", str(stick)).stderr
    good = packet_file(pilot)
    for name, data in (
        ("1.tkcase", packet_file(pilot, legal_basis="")),
        ("2.tkcase", good),
        ("3.tkcase", good),
        ("notes.txt", b"not a packet"),
    ):
        (stick / name).write_bytes(data)
    stopped = turnkey(pilot, "case", "apply", str(stick / "2.tkcase"))
    assert stopped.exit_code == 1
    assert "Facial recognition is stopped" in stopped.stdout
    assert turnkey(pilot, "key", "closed").exit_code == 0
    request = ReleaseRequest.model_validate_json(turnkey(pilot, "order", "request").stdout)
    (pilot.root / "release.json").write_bytes(pilot.release(request))
    assert turnkey(pilot, "order", "apply", str(pilot.root / "release.json")).exit_code == 0
    applied = turnkey(pilot, "case", "apply", str(stick), "--json")
    assert applied.exit_code == 1
    said = [json.loads(line) for line in applied.stdout.splitlines()]
    assert [(line["file"], line["outcome"], line["reason"]) for line in said] == [
        ("1.tkcase", "refused", "legal-basis-missing"),
        ("2.tkcase", "enrolled", ""),
        ("3.tkcase", "refused", "packet-used-before"),
    ]
    assert said[1]["search"] == "done"
