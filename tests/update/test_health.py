"""The device's examination of itself: real interlock and notary processes' sockets, real models, units on disk."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from booking_room import FACES, MODELS, REPOSITORY
from update.notaries import served_notary

from turnkey.interlock.lease import ask
from turnkey.interlock.machine import State
from turnkey.interlock.status import InterlockStatus
from turnkey.interlock.wire import Request
from turnkey.leads.records import LedgerEntry
from turnkey.leads.upkeep import HealthChecked
from turnkey.update.health import ALWAYS_UP, BOOTH, Health, examine, interlock_records, started, units_up
from turnkey.update.ledger import NotarySocket
from turnkey.update.units import INTERLOCK, UnitsUnknown, measure
from turnkey_tools.pilot import Pilot

GUARDS = (INTERLOCK, "moratorium.target", "turnkey-stopped.path", "turnkey-running.path")


class Machine:
    """What an examination looks at; a test breaks one part of it."""

    def __init__(self, folder: Path, interlock: Path) -> None:
        self.folder, self.interlock, self.models = folder, interlock, MODELS
        self.states = dict.fromkeys(ALWAYS_UP, "active")
        self.units = folder / "units"
        self.units.mkdir()
        for name in GUARDS:
            (self.units / name).write_text("[Unit]\n")
        self.notary = served_notary(folder)

    def say(self, wanted: tuple[str, ...]) -> Mapping[str, str]:
        return {name: self.states.get(name, "inactive") for name in wanted}

    def examine(self) -> Health:
        ledger = NotarySocket(self.folder / "notary")
        return examine("1.0", self.models, self.interlock, ledger, self.say, measure((self.units,)))

    def failed(self) -> list[str]:
        return [check.name for check in self.examine().checks if not check.holds]

    def ledger(self) -> list[HealthChecked]:
        entries = (LedgerEntry.model_validate_json(data).event for data in self.notary.journal.entries())
        return [event for event in entries if isinstance(event, HealthChecked)]

    def close(self) -> None:
        self.notary.close()


@pytest.fixture
def interlock(pilot: Pilot, tmp_path: Path) -> Iterator[Path]:
    """A real interlock in a process of its own, fresh from the image: in moratorium."""
    folder = tmp_path / "interlock"
    folder.mkdir()
    shutil.copyfile(pilot.authority_file, folder / "authority")
    program = REPOSITORY / "tests" / "interlock" / "daemon_process.py"
    process = subprocess.Popen([sys.executable, str(program), str(folder), "1000"])
    try:
        deadline_s = time.monotonic() + 60
        while not started(folder / "socket", lambda wanted: dict.fromkeys(wanted, "active")):
            assert process.poll() is None
            assert time.monotonic() < deadline_s, "the interlock does not answer"
            time.sleep(0.05)
        yield folder / "socket"
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
def machine(tmp_path: Path, interlock: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path, interlock)
    yield machine
    machine.close()


def test_a_device_in_moratorium_is_well_and_its_units_are_on_the_ledger(machine: Machine) -> None:
    found = machine.examine()
    assert found.passed, found.checks
    assert [check.name for check in found.checks] == [
        "interlock-answers",
        "interlock-records",
        "units-up",
        "models-verified",
        "face-recognised",
        "interlock-units-unchanged",
        "ledger-appends",
    ]
    (entry,) = machine.ledger()
    assert entry.passed
    assert entry.units == dict(found.units)
    assert set(entry.units) == set(GUARDS)


def test_an_edited_interlock_unit_is_refused_for_good(machine: Machine) -> None:
    assert machine.examine().passed
    (machine.units / INTERLOCK).write_text("[Unit]\n# nothing of importance\n")
    assert machine.failed() == ["interlock-units-unchanged"]
    assert machine.failed() == ["interlock-units-unchanged"], "what failed never becomes what is held against"
    (machine.units / INTERLOCK).unlink()
    assert machine.failed() == ["interlock-units-unchanged"]
    assert [entry.failed for entry in machine.ledger()] == [(), *3 * [("interlock-units-unchanged",)]]


def test_a_unit_that_is_down_is_named(machine: Machine) -> None:
    machine.states["turnkey-uplink.service"] = "failed"
    found = machine.examine()
    assert [check.found for check in found.checks if not check.holds] == ["turnkey-uplink.service is failed"]


@pytest.mark.parametrize("name", ["turnkey-stopped.path", "turnkey-running.path", "turnkey-restart.path"])
def test_what_ends_the_booth_is_not_only_there_but_up(machine: Machine, name: str) -> None:
    machine.states[name] = "inactive"
    assert machine.failed() == ["units-up"]


def test_the_booth_has_to_be_up_only_where_recognition_is_permitted(machine: Machine) -> None:
    answer = InterlockStatus.model_validate_json(ask(machine.interlock, Request(ask="status")).body)
    active = dict.fromkeys(ALWAYS_UP, "active")
    for state, holds in ((State.RUNNING, False), (State.MORATORIUM, True), (State.FAULT, True)):
        assert units_up(lambda _: active, answer.model_copy(update={"state": state})).holds is holds
    everything = active | {BOOTH: "active"}
    assert units_up(lambda _: everything, answer.model_copy(update={"state": State.RUNNING})).holds


def test_an_interlock_whose_record_nothing_takes_is_not_kept_and_one_with_a_torn_wire_is(machine: Machine) -> None:
    answer = InterlockStatus.model_validate_json(ask(machine.interlock, Request(ask="status")).body)
    assert interlock_records(answer).holds
    assert not interlock_records(None).holds
    for reason, holds in (("record-unwritable", False), ("latch-unwritable", False), ("switch-unreadable", True)):
        assert interlock_records(answer.model_copy(update={"state": State.FAULT, "reason": reason})).holds is holds


def test_a_systemd_that_does_not_answer_is_a_failure(machine: Machine) -> None:
    def silent(_wanted: tuple[str, ...]) -> Mapping[str, str]:
        raise UnitsUnknown("no bus")

    machine.say = silent  # type: ignore[method-assign]
    assert machine.failed() == ["units-up"]


def test_an_interlock_that_does_not_answer_is_a_failure(machine: Machine) -> None:
    machine.interlock = machine.folder / "none"
    assert machine.failed() == ["interlock-answers", "interlock-records"]


def test_a_ledger_that_takes_nothing_is_a_failure(machine: Machine) -> None:
    machine.notary.daemon.close()
    assert machine.failed() == ["interlock-units-unchanged", "ledger-appends"]


def test_an_altered_model_and_a_face_that_is_not_seen_as_it_was_are_failures(machine: Machine, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(MODELS, models)
    portrait = models / "obama-2012.jpg"
    shutil.copyfile(FACES / "obama" / "obama-2012.jpg", portrait)
    machine.models = models
    assert machine.examine().passed
    portrait.write_bytes(b"another picture")
    assert machine.failed() == ["face-recognised"]
    portrait.unlink()
    assert machine.failed() == ["face-recognised"]
    (models / "golden.toml").write_text((models / "golden.toml").read_text().replace("434.11", "454.11"))
    shutil.copyfile(FACES / "obama" / "obama-2012.jpg", portrait)
    assert machine.failed() == ["face-recognised"]
    shutil.copyfile(MODELS / "golden.toml", models / "golden.toml")
    for name in ("sface_2021dec_int8.tflite", "face_mesh.tflite"):
        (models / name).write_bytes((MODELS / name).read_bytes()[:-1] + b"x")
        assert machine.failed() == ["models-verified", "face-recognised"]
        shutil.copyfile(MODELS / name, models / name)
    assert machine.examine().passed
