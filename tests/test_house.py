"""The house rules that a machine can hold: who may import whom, which words are not used, how long a file may be."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
from booking_room import REPOSITORY

ROOMS = ["settings", "interlock", "capture", "vision", "gallery", "leads", "notary", "uplink", "update", "console"]
"""In the direction of the data; a room imports only rooms before it."""

FOUNDATIONS = {"envelope", "database", "sealed", "pem", "recurring", "settings_sections"}
"""What every room may stand on."""

PURE = [
    "interlock/machine.py",
    "leads/decision.py",
    "leads/records.py",
    "leads/policy.py",
    "notary/ledger.py",
    "leads/fields.py",
    "leads/lead.py",
    "leads/packet.py",
    "leads/packet_records.py",
    "leads/pack_records.py",
    "leads/template_pack.py",
    "leads/two_people.py",
]
"""Files that do no I/O, and the modules that would."""
IMPURE = {"os", "io", "pathlib", "socket", "sqlite3", "subprocess", "threading", "time", "random", "secrets"}

FORBIDDEN = re.compile(r"\b(identified|positive match|is a match|suspects?)\b|TODO|FIXME|NotImplementedError", re.I)
LONGEST_FILE = 350
TOP_LEVEL = {
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "device",
    "models",
    "systemd",
    "tools",
    "tests",
    "image-build",
    ".ci",
    ".gitignore",
    "device.lock",
    "workbench.lock",
    "models.lock",
}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return [REPOSITORY / name for name in listed.splitlines()]


def sources() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py" and path.is_relative_to(REPOSITORY / "device")]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_a_room_imports_only_rooms_upstream_of_it() -> None:
    for path in sources():
        parts = path.relative_to(REPOSITORY / "device" / "turnkey").parts
        room = parts[0].removesuffix(".py")
        if room not in ROOMS and room not in FOUNDATIONS:
            continue
        used = {name.split(".")[1] for name in imported(path) if name.startswith("turnkey.")}
        allowed = set(ROOMS[: ROOMS.index(room) + 1]) if room in ROOMS else set()
        assert used - FOUNDATIONS <= allowed, f"{path}: imports {used - FOUNDATIONS - allowed}"


@pytest.mark.parametrize("name", PURE)
def test_the_core_does_no_io(name: str) -> None:
    used = {module.split(".")[0] for module in imported(REPOSITORY / "device" / "turnkey" / name)}
    assert not used & IMPURE


def test_no_forbidden_word() -> None:
    for path in tracked():
        if path.parts[len(REPOSITORY.parts)] in {"device", "tools"} and path.suffix in {".py", ".json", ".html", ".js"}:
            found = FORBIDDEN.search(path.read_text())
            assert found is None, f"{path}: {found}"


def test_no_file_outgrows_a_readers_head() -> None:
    for path in tracked():
        if path.suffix == ".py" and "tests" not in path.parts:
            assert len(path.read_text().splitlines()) <= LONGEST_FILE, path


def test_the_top_level_is_the_houses() -> None:
    assert {path.relative_to(REPOSITORY).parts[0] for path in tracked()} <= TOP_LEVEL
