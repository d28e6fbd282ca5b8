"""A device over many runs: real notary and ledger behind its socket, a repository in memory, simulated slots."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from booking_room import MODELS
from update.notaries import served_notary
from update.repository import TARGETS, Repository

from turnkey.leads.records import Captured, LedgerEntry
from turnkey.leads.upkeep import Updated
from turnkey.update.installer import SIMULATED_MAGIC, SimulatedInstaller
from turnkey.update.ledger import NotarySocket
from turnkey.update.placing import ModelsPlacer, PolicyPlacer
from turnkey.update.refusals import UpdateError, UpdateReason
from turnkey.update.updating import Device, Report, Updating
from turnkey.vision.manifest import ModelError, read_manifest

QUIET_S = 600.0


class PowerCut(BaseException):
    """Ends a run as a power cut does: nothing after it is carried out."""


class Room:
    """A device in a moratorium, its repository, and what it did."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = Repository()
        self.installer = SimulatedInstaller(folder / "slots.json", "1.0")
        self.served = served_notary(folder)
        self.boot = 1
        self.restarts = 0
        self.quiet_s = QUIET_S
        self.policy_refusal: str | None = None
        self.models_refusal: ModelError | None = None

    def offer(self, version: str, content: bytes | None = None, **terms: Any) -> None:
        terms = {"kind": "bundle", "version": version, "board": "rpi5", "groups": {"station": 100}} | terms
        content = SIMULATED_MAGIC + version.encode() + b"\n" if content is None else content
        self.repository.add(f"{terms['kind']}-{version}", content, terms)
        self.repository.publish()

    def run(self, told: Callable[[int, str], None] = lambda _percent, _doing: None, *, look: bool = True) -> Report:
        placers = {
            "policy": PolicyPlacer(self.folder / "policy.json", lambda _envelope: self.policy_refusal),
            "models": ModelsPlacer(self.folder / "models", self.check_models),
        }
        updating = Updating(
            Device("booth-1", "station", "rpi5", f"boot-{self.boot}", self.quiet_s),
            self.folder / "update",
            self.repository.first_root,
            self.installer,
            placers,  # type: ignore[arg-type]
            NotarySocket(self.folder / "notary"),
            self._restart,
            told,
        )
        return updating.run(self.repository.way() if look else None)

    def check_models(self, models: Path) -> None:
        assert (models / "manifest.toml").exists()
        if self.models_refusal is not None:
            raise self.models_refusal

    def _restart(self) -> None:
        self.restarts += 1

    def reboot(self, healthy: bool = True) -> None:
        self.installer.restart(healthy)
        self.boot += 1

    def ledger(self) -> list[str]:
        entries = [LedgerEntry.model_validate_json(data).event for data in self.served.journal.entries()]
        return [f"{event.step} {event.version or event.what}" for event in entries if isinstance(event, Updated)]

    def close(self) -> None:
        self.served.close()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.close()


def test_each_step_from_offer_to_arrival_is_on_the_ledger_in_order(room: Room) -> None:
    room.offer("1.1")
    report = room.run()
    assert report.refusal is None
    assert report.restart == "asked"
    assert room.restarts == 1
    room.reboot()
    assert room.run().restart == "none"
    assert room.installer.running_version() == "1.1"
    assert room.ledger() == ["offered 1.1", "downloaded 1.1", "installed 1.1", "restarting 1.1", "arrived 1.1"]
    room.run()
    assert len(room.ledger()) == 5, "nothing more is said where nothing more happens"


def test_a_system_that_the_device_came_back_from_is_not_taken_again_and_the_next_one_is(room: Room) -> None:
    room.offer("1.1")
    room.run()
    room.reboot(healthy=False)
    report = room.run()
    assert report.stays["bundle"] == "came-back-from-it"
    assert room.ledger()[-1] == "returned 1.1"
    assert room.restarts == 1
    room.offer("1.2")
    room.run()
    room.reboot()
    room.run()
    assert room.installer.running_version() == "1.2"


def test_a_system_that_fails_only_after_it_has_run_is_not_taken_again_either(room: Room) -> None:
    """Its updater ran once before its examination failed, and the boot loader went back."""
    room.offer("1.1")
    room.run()
    state = (room.folder / "slots.json").read_bytes()
    room.reboot()
    room.run()
    assert room.ledger()[-1] == "arrived 1.1"
    (room.folder / "slots.json").write_bytes(state)
    room.reboot(healthy=False)
    assert room.run().stays["bundle"] == "came-back-from-it"
    assert room.ledger()[-1] == "returned 1.1"


def test_no_restart_while_a_booking_may_be_open(room: Room) -> None:
    room.served.notary.record(Captured(attempt_id="0" * 32, frames=1, purpose="booking"))
    room.offer("1.1")
    assert room.run().restart == "waits"
    assert room.restarts == 0
    assert room.run().restart == "waits"
    assert room.ledger() == ["offered 1.1", "downloaded 1.1", "installed 1.1"]


@pytest.mark.parametrize("look", [True, False])
def test_a_restart_that_waited_is_made_although_nothing_can_be_looked_at(room: Room, look: bool) -> None:
    """The server is away, or there is none: a stick brought it."""
    room.served.notary.record(Captured(attempt_id="0" * 32, frames=1, purpose="booking"))
    room.offer("1.1")
    assert room.run().restart == "waits"
    room.repository.files, room.quiet_s = {}, 0.0
    report = room.run(look=look)
    assert (report.restart, room.restarts) == ("asked", 1)
    assert (report.refusal is None) is not look
    room.reboot()
    room.run(look=look)
    assert room.ledger()[-1] == "arrived 1.1"
    assert room.restarts == 1


def test_what_a_newer_system_wrote_beside_does_not_make_it_forget_where_it_came_back_from(room: Room) -> None:
    room.offer("1.1")
    room.run()
    memory = room.folder / "update" / "state.json"
    known = json.loads(memory.read_text())
    memory.write_text(json.dumps(known | {"news": 1, "attempt": known["attempt"] | {"news": 1}}))
    room.reboot(healthy=False)
    assert room.run().stays["bundle"] == "came-back-from-it"
    assert room.restarts == 1


def test_what_was_begun_of_a_release_that_is_gone_does_not_stay_on_the_disk(room: Room) -> None:
    begun = room.folder / "update" / "partials" / "x.part"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(b"half")
    files, room.repository.files = room.repository.files, {}
    room.run()
    assert begun.exists(), "a look that was refused says nothing of it"
    room.repository.files = files
    room.run()
    assert not begun.exists()


def test_a_release_whose_hash_is_none_is_no_release(room: Room) -> None:
    room.offer("1.1")
    room.repository.targets.targets["bundle-1.1"].hashes["sha256"] = "A" * 64
    room.repository.publish()
    assert room.run().stays["bundle"] == "has-the-newest"


def test_nothing_is_installed_without_a_ledger(room: Room) -> None:
    room.offer("1.1")
    room.served.daemon.close()
    report = room.run()
    assert report.refusal is not None
    assert report.refusal.reason is UpdateReason.NO_LEDGER
    assert room.installer.slots()[1].version is None


def test_an_outage_is_one_entry_and_not_one_an_hour(room: Room) -> None:
    files, room.repository.files = room.repository.files, {}
    for _ in range(3):
        assert room.run().refusal is not None
    assert room.ledger() == ["refused metadata"]
    room.repository.files = files
    assert room.run().refusal is None
    room.repository.files = {}
    room.run()
    assert room.ledger() == ["refused metadata", "refused metadata"]


def test_a_bundle_that_the_installer_refuses_is_on_the_ledger_and_changes_nothing(room: Room) -> None:
    room.offer("1.1", b"no bundle at all")
    report = room.run()
    assert report.refusal is not None
    assert report.refusal.reason is UpdateReason.NOT_INSTALLED
    assert room.ledger() == ["offered 1.1", "downloaded 1.1", "refused 1.1"]
    assert room.restarts == 0
    room.run()
    assert room.ledger().count("refused 1.1") == 1


def test_a_board_that_may_be_given_no_system_fetches_none(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def admit() -> None:
        raise UpdateError(UpdateReason.BOOTLOADER_OLD, "of 2020")

    monkeypatch.setattr(room.installer, "admit", admit)
    room.offer("1.1")
    report = room.run()
    assert report.refusal is not None
    assert report.refusal.reason is UpdateReason.BOOTLOADER_OLD
    assert room.ledger() == ["offered 1.1", "refused 1.1"]


@pytest.mark.parametrize("at", [0, 50, 100])
def test_a_power_cut_during_the_installation_is_made_good_by_the_next_run(room: Room, at: int) -> None:
    room.offer("1.1")

    def cut(percent: int, _doing: str) -> None:
        if percent == at:
            raise PowerCut

    with pytest.raises(PowerCut):
        room.run(cut)
    room.boot += 1
    room.installer.restart()
    asked = len(room.repository.asked)
    report = room.run()
    assert report.refusal is None
    fetched = [url for url in room.repository.asked[asked:] if url.startswith(TARGETS)]
    assert fetched == [], "what was checked and is whole is not fetched again"
    room.reboot()
    room.run()
    assert room.installer.running_version() == "1.1"
    assert room.ledger()[-1] == "arrived 1.1"


def test_a_power_cut_during_the_download_leaves_nothing_under_the_releases_name(room: Room) -> None:
    room.offer("1.1")

    def torn(url: str) -> Iterator[bytes] | None:
        def chunks() -> Iterator[bytes]:
            yield SIMULATED_MAGIC
            raise PowerCut

        return chunks() if url.startswith(TARGETS) else None

    room.repository.served = torn
    with pytest.raises(PowerCut):
        room.run()
    assert [path.name for path in (room.folder / "update" / "files").iterdir()] == []
    room.repository.served = lambda _url: None
    assert room.run().restart == "asked"


def test_files_are_gone_once_they_are_in_place(room: Room) -> None:
    room.offer("1.1")
    room.run()
    assert list((room.folder / "update" / "files").iterdir()) == []


def test_a_second_run_at_once_is_refused_and_says_nothing(room: Room) -> None:
    room.offer("1.1")
    second: list[Report] = []
    room.run(lambda _percent, _doing: second.append(room.run()))
    assert {report.refusal.reason for report in second if report.refusal} == {UpdateReason.BUSY}
    assert room.ledger() == ["offered 1.1", "downloaded 1.1", "installed 1.1", "restarting 1.1"]


def test_a_policy_takes_the_same_road_and_needs_no_restart(room: Room) -> None:
    room.offer("7", b"signed by the city", kind="policy", board=None)
    assert room.run().restart == "none"
    assert (room.folder / "policy.json").read_bytes() == b"signed by the city"
    assert room.ledger() == ["offered 7", "downloaded 7", "installed 7"]
    assert room.run().stays["policy"] == "has-the-newest"


def test_a_policy_that_its_own_rules_refuse_replaces_nothing(room: Room) -> None:
    (room.folder / "policy.json").write_bytes(b"the present one")
    room.policy_refusal = "signed by nobody who may"
    room.offer("7", b"signed by IT alone", kind="policy", board=None)
    report = room.run()
    assert report.refusal is not None
    assert report.refusal.reason is UpdateReason.POLICY_REFUSED
    assert (room.folder / "policy.json").read_bytes() == b"the present one"
    room.policy_refusal = None
    room.run()
    assert (room.folder / "policy.json").read_bytes() == b"signed by IT alone"


def models_zip(
    folder: Path, change: Callable[[str, bytes], tuple[str, bytes]] = lambda name, data: (name, data)
) -> bytes:
    path = folder / "models.zip"
    manifest = read_manifest(MODELS)
    entries = (manifest.detector, manifest.embedder, manifest.mesh, *([manifest.guide] if manifest.guide else []))
    names = [entry.file for entry in entries]
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("manifest.toml", "golden.toml", *names):
            archive.writestr(*change(name, (MODELS / name).read_bytes()))
    return path.read_bytes()


def test_models_are_unpacked_beside_the_present_ones_and_taken_with_a_restart(room: Room) -> None:
    room.offer("2", models_zip(room.folder), kind="models", board=None)
    assert room.run().restart == "asked"
    assert read_manifest(room.folder / "models" / "current").embedder.sha256 == read_manifest(MODELS).embedder.sha256
    assert room.ledger()[-1] == "restarting 2"
    room.boot += 1
    assert room.run().restart == "none"


@contextmanager
def umask_of_the_unit() -> Iterator[None]:
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def test_what_is_placed_can_be_read_by_the_users_of_the_other_processes(room: Room) -> None:
    room.offer("7", b"signed by the city", kind="policy", board=None)
    room.offer("2", models_zip(room.folder), kind="models", board=None)
    with umask_of_the_unit():
        assert room.run().refusal is None
    models = room.folder / "models" / "current"
    placed = [room.folder / "policy.json", models, *models.iterdir()]
    assert {path: path.stat().st_mode & 0o777 for path in placed} == dict.fromkeys(placed, 0o644) | {models: 0o755}


def test_models_are_on_the_disk_before_they_are_the_present_ones(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    switched: list[set[str]] = []
    fsync, replace = os.fsync, Path.replace

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def switch(link: Path, target: Path) -> Path:
        if target.name == "current":
            switched.append(set(synced))
        return replace(link, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "replace", switch)
    room.offer("2", models_zip(room.folder), kind="models", board=None)
    assert room.run().restart == "asked"
    (before,) = switched
    assert {path.name for path in (room.folder / "models" / "current").iterdir()} <= before
    assert "models" in before


def test_the_same_models_under_another_version_never_leave_the_device_without(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, current = models_zip(room.folder), room.folder / "models" / "current"
    room.offer("2", content, kind="models", board=None)
    room.run()
    rename = Path.rename

    def whole(draft: Path, target: Path) -> Path:
        assert read_manifest(current)
        return rename(draft, target)

    monkeypatch.setattr(Path, "rename", whole)
    for version in ("3", "4"):
        room.offer(version, content, kind="models", board=None)
        assert room.run().refusal is None
        assert read_manifest(current)
        assert len(list((room.folder / "models").iterdir())) == 2


@pytest.mark.parametrize("what", ["altered", "outside", "nonsense"])
def test_models_that_are_not_their_manifests_are_refused(room: Room, what: str) -> None:
    def change(name: str, data: bytes) -> tuple[str, bytes]:
        if what == "outside" and name == "golden.toml":
            return "../golden.toml", data
        return name, (data[:-1] + b"x" if what == "altered" and name.endswith(".tflite") else data)

    content = b"no archive" if what == "nonsense" else models_zip(room.folder, change)
    room.offer("2", content, kind="models", board=None)
    report = room.run()
    assert report.refusal is not None
    assert report.refusal.reason is UpdateReason.MODELS_REFUSED
    assert not (room.folder / "models" / "current").exists()
    assert not (room.folder / "golden.toml").exists()


def test_models_that_nobody_accepted_replace_nothing(room: Room) -> None:
    room.models_refusal = ModelError("models-not-accepted", "nobody accepted them")
    room.offer("2", models_zip(room.folder), kind="models", board=None)
    report = room.run()
    assert report.refusal is not None
    assert report.refusal.reason is UpdateReason.MODELS_REFUSED
    assert not (room.folder / "models" / "current").exists()


def test_a_device_that_does_not_know_what_it_runs_takes_no_system(room: Room) -> None:
    room.installer = SimulatedInstaller(room.folder / "slots.json")
    room.installer.running_version = lambda: None  # type: ignore[method-assign]
    room.offer("1.1")
    assert room.run().stays["bundle"] == "running-version-unknown"
    assert room.ledger() == []
