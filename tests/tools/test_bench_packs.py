"""The packs' bench at a tiny size: two whole devices, every row there at the end."""

from __future__ import annotations

from booking_room import MODELS
from tools.bench_reports import sound
from typer.testing import CliRunner

from turnkey_tools.cli import app


def test_a_pack_is_measured_from_one_device_to_the_other() -> None:
    result = CliRunner().invoke(app, ["bench", "packs", "--n", "200", "--models", str(MODELS), "--json"])
    assert result.exit_code == 0, result.output
    report = sound(result.stdout)
    figures = {one.name: one.median for one in report.figures}
    assert figures["export, rows"] > 0
    assert figures["verify and import, rows"] > 0
    assert figures["pack, bytes a row"] > 512
