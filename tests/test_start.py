"""Which rooms a unit's process reads when it starts: its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

SENSES = {"ai_edge_litert", "PIL", "turnkey.vision.analyzer", "turnkey.gallery.gallery", "turnkey.booth"}


def loaded(*modules: str) -> set[str]:
    """What Python has loaded once it has loaded `modules`."""
    program = f"import sys, {', '.join(modules)}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("module", "foreign"),
    [
        ("turnkey.interlock.process", {*SENSES, "numpy", "turnkey.console.app", "turnkey.uplink.mqtt", "paho"}),
        ("turnkey.notary_process", {*SENSES, "turnkey.console.app", "turnkey.uplink.mqtt", "paho"}),
        ("turnkey.uplink_process", {*SENSES, "numpy", "turnkey.console.app", "turnkey.interlock.daemon"}),
    ],
)
def test_a_units_process_reads_no_other_units_rooms(module: str, foreign: set[str]) -> None:
    entry = "turnkey.commands.uplink" if module == "turnkey.uplink_process" else "turnkey.commands.process"
    assert not foreign & loaded("turnkey.start", entry, module)


def test_a_command_without_a_unit_is_everybodys() -> None:
    program = "import sys; sys.argv = ['turnkey', '--help']; from turnkey.start import main; main()"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "uplink" in said
    assert "book" in said


@pytest.mark.parametrize("words", [["run", "interlock"], ["uplink"]])
def test_a_units_command_answers_as_it_does_among_the_others(words: list[str]) -> None:
    program = f"import sys; sys.argv = ['turnkey', *{words}, '--help']; from turnkey.start import main; main()"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert f"turnkey {' '.join(words)}" in said
