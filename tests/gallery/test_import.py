"""Bulk import, rotation and retention as an operator calls them, on real portraits and the real models."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from booking_room import FACES, RunningDevice, events
from gallery.disk import Disk, sqlite_vfs
from typer.testing import CliRunner

from turnkey.cli import app
from turnkey.commands.gallery import _importer
from turnkey.database import StorageDamaged, StorageError
from turnkey.device import Device
from turnkey.gallery_room import room_of
from turnkey.importing import ManifestError, Picture, from_manifest
from turnkey.interlock.orders import ReleaseRequest
from turnkey.interlock.permit import Stopped
from turnkey.leads.records import Enrolled, LedgerEntry, PictureImported, Refused
from turnkey_tools.audit.discovery import CaseFile
from turnkey_tools.pilot import Pilot

PORTRAITS = ["ardern/ardern-2018.jpg", "ardern/ardern-2022.jpg", "obama/obama-2012.jpg"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """B-1 with two pictures, B-2 with one and a text file, and a reference of no agency's form."""
    folder = tmp_path / "mugshots"
    for reference, name in zip(("B-1", "B-1", "B-2"), PORTRAITS, strict=True):
        (folder / reference).mkdir(parents=True, exist_ok=True)
        shutil.copy(FACES / name, folder / reference)
    (folder / "B-2" / "notes.jpg").write_text("not a picture")
    (folder / "not a number").mkdir()
    shutil.copy(FACES / PORTRAITS[0], folder / "not a number")
    return folder


def release(pilot: Pilot) -> None:
    turnkey(pilot, "key", "closed")
    request = ReleaseRequest.model_validate_json(turnkey(pilot, "order", "request"))
    (pilot.root / "release.json").write_bytes(pilot.release(request))
    assert "RUNNING" in turnkey(pilot, "order", "apply", str(pilot.root / "release.json"))


def turnkey(pilot: Pilot, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["--config", str(pilot.settings_file), *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_an_import_reports_each_file_and_is_passed_over_the_second_time(
    pilot: Pilot, pictures: Path, tmp_path: Path
) -> None:
    release(pilot)
    report = tmp_path / "report.csv"
    arguments = ("gallery", "import", "bookings", "--folder", str(pictures), "--report", str(report))
    printed = turnkey(pilot, *arguments)
    assert "3  enrolled" in printed
    outcomes = {Path(line["file"]).name: line["outcome"] for line in csv.DictReader(report.open())}
    assert outcomes["notes.jpg"] == "not-a-picture"
    assert outcomes["obama-2012.jpg"] == "enrolled"
    assert "reference-malformed" in printed
    assert "4  done before" in turnkey(pilot, *arguments)
    facts = json.loads(turnkey(pilot, "gallery", "stats"))
    assert facts["bookings"] == {"templates": 3, "references": 2}
    assert facts["bytes_on_disk"] > 0


def importable(pictures: Path) -> list[Picture]:
    return [Picture(file, file.parent.name) for file in sorted(pictures.glob("B-*/*.jpg"))]


def run(device: Device, pictures: Path) -> int:
    """How many were enrolled by this run."""
    reports = list(_importer(room_of(device)).run("bookings", importable(pictures)))
    return reports[-1].counts().get("enrolled", 0)


def test_an_import_cut_short_goes_on_where_it_was(running: RunningDevice, pictures: Path) -> None:
    with running() as device:
        started = _importer(room_of(device)).run("bookings", importable(pictures))
        next(started)
        started.close()
        assert device.gallery.size("bookings") == 1
        assert run(device, pictures) == 2
        assert run(device, pictures) == 0
        assert device.gallery.size("bookings") == 3
        assert sum(isinstance(event, Enrolled) for event in events(device)) == 3
        assert sum(isinstance(event, Refused) for event in events(device)) == 1


@pytest.mark.skipif(sqlite_vfs() is None, reason="this Python's SQLite does not show its VFS")
def test_a_disk_that_is_full_at_an_import_is_named_and_the_import_goes_on_once_it_is_not(
    pilot: Pilot, running: RunningDevice, pictures: Path
) -> None:
    """The gallery's disk is full where the log is made, and at writes and an fsync of it."""
    disk = Disk(pilot.settings().state, only="gallery.db")
    with disk.watching(), running() as device:
        for failing in (1, 5, 14):
            disk.steps.clear()
            disk.failing, disk.torn = failing, True
            with pytest.raises(StorageError, match=r"gallery\.db") as refused:
                run(device, pictures)
            assert not isinstance(refused.value, StorageDamaged), "it is the disk, not the gallery"
            assert len(disk.steps) >= failing
            recorded = [event.row for event in events(device) if isinstance(event, Enrolled)]
            assert device.gallery.row_numbers("bookings") == recorded, "of the picture nothing was kept"
        disk.failing = 0
        assert len(recorded) + run(device, pictures) == 3
        assert device.gallery.size("bookings") == 3
        assert sum(isinstance(event, Enrolled) for event in events(device)) == 3


def test_an_imported_picture_is_found_by_its_number_though_the_ledger_does_not_name_it(
    running: RunningDevice, pictures: Path
) -> None:
    with running() as device:
        run(device, pictures)
        begun = [event for event in events(device) if isinstance(event, PictureImported)]
        assert [event.partition for event in begun] == ["bookings"] * 3
        found = CaseFile("B-2")
        for data in device.journal.entries(limit=device.journal.size):
            found.take(LedgerEntry.model_validate_json(data))
        assert [line.what for line in found.lines] == ["a picture was imported", "a template was enrolled"]
        digest = hashlib.sha256((FACES / PORTRAITS[2]).read_bytes()).hexdigest()
        assert found.lines[0].facts["picture_sha256"] == digest


def test_no_import_without_a_permit(running: RunningDevice, pictures: Path) -> None:
    with running() as device:
        importer = _importer(room_of(device))
        device.interlock.halt("for-the-test")
        with pytest.raises(Stopped):
            next(importer.run("bookings", importable(pictures)))


def test_a_manifest_with_a_bad_line_imports_nothing(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    for text in ("name,number\na,b\n", "file,reference\n,B-1\n", "file,reference,date\na.jpg,B-1,yesterday\n"):
        manifest.write_text(text)
        with pytest.raises(ManifestError):
            from_manifest(manifest)
    manifest.write_text("file,reference,date\na.jpg,B-1,2024-05-01\nb.jpg,B-2,\n")
    first, second = from_manifest(manifest)
    assert (first.file, first.reference, first.taken_at is not None) == (tmp_path / "a.jpg", "B-1", True)
    assert second.taken_at is None
    with pytest.raises(ManifestError):
        from_manifest(tmp_path / "absent.csv")


def test_the_key_is_rotated_and_the_device_runs_on_with_the_new_one(
    pilot: Pilot, pictures: Path, tmp_path: Path
) -> None:
    release(pilot)
    turnkey(pilot, "gallery", "import", "bookings", "--folder", str(pictures))
    new = tmp_path / "new.key"
    new.write_bytes(bytes(range(50, 82)))
    before = pilot.settings().gallery_key.read_bytes()
    turnkey(pilot, "gallery", "rotate", str(new))
    turnkey(pilot, "gallery", "rotate", str(new))
    assert pilot.settings().gallery_key.read_bytes() == new.read_bytes() != before
    raw = sqlite3.connect(pilot.settings().state / "gallery.db")
    assert raw.execute("SELECT DISTINCT key_number FROM template").fetchall() == [(2,)]
    raw.close()
    assert json.loads(turnkey(pilot, "gallery", "stats"))["bookings"]["templates"] == 3
    assert "0 template(s)" in turnkey(pilot, "gallery", "retain")
