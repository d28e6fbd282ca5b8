"""Units as measured on disk: what changes a unit changes its measure, and what stops recognition may not change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from booking_room import REPOSITORY

from turnkey.update.units import INTERLOCK, changed_guards, measure

UNITS = REPOSITORY / "systemd"


class System:
    """A root file system's unit directories, with the product's own units installed."""

    def __init__(self, folder: Path) -> None:
        self.etc, self.run, self.usr = (folder / name for name in ("etc", "run", "usr"))
        for each in (self.etc, self.run, self.usr):
            each.mkdir()
        for unit in UNITS.iterdir():
            if unit.suffix in (".service", ".target", ".path", ".timer", ".socket"):
                shutil.copyfile(unit, self.usr / unit.name)

    def measured(self) -> dict[str, str]:
        return measure((self.etc, self.run, self.usr))


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def test_every_unit_of_the_device_is_measured(system: System) -> None:
    (system.usr / "ssh.service").write_text("[Service]\n")
    assert set(system.measured()) == {path.name for path in system.usr.iterdir()} - {"ssh.service"}
    assert changed_guards(None, system.measured()) == ()
    assert changed_guards(system.measured(), system.measured()) == ()


@pytest.mark.parametrize("name", [INTERLOCK, "moratorium.target", "turnkey-stopped.path", "turnkey-running.path"])
def test_a_guard_that_is_removed_edited_masked_or_overridden_is_found(system: System, name: str) -> None:
    first, text = system.measured(), (system.usr / name).read_text()
    changes = {
        "removed": lambda: (system.usr / name).unlink(),
        "edited": lambda: (system.usr / name).write_text(text + "\n# one word more\n"),
        "masked": lambda: (system.etc / name).symlink_to("/dev/null"),
        "overridden": lambda: (system.run / name).write_text(text.replace("yes", "no") + "#"),
    }
    for change in changes.values():
        change()
        assert changed_guards(first, system.measured()) == (name,)
        for folder in (system.etc, system.run):
            (folder / name).unlink(missing_ok=True)
        (system.usr / name).write_text(text)
        assert changed_guards(first, system.measured()) == ()


@pytest.mark.parametrize("folder", [f"{INTERLOCK}.d", "turnkey-.service.d", "service.d"])
def test_a_drop_in_of_any_directory_that_systemd_reads_is_found(system: System, folder: str) -> None:
    first = system.measured()
    (system.etc / folder).mkdir()
    (system.etc / folder / "10-more.conf").write_text("[Service]\nExecStart=\nExecStart=/bin/true\n")
    assert INTERLOCK in changed_guards(first, system.measured())


def test_a_second_interlock_unit_is_found_and_another_units_change_is_not_refused(system: System) -> None:
    first = system.measured()
    (system.usr / "turnkey-uplink.service").write_text("[Service]\n")
    assert changed_guards(first, system.measured()) == ()
    assert first["turnkey-uplink.service"] != system.measured()["turnkey-uplink.service"]
    (system.usr / "turnkey-interlock.socket").write_text("[Socket]\n")
    assert changed_guards(first, system.measured()) == ("turnkey-interlock.socket",)


def test_before_the_first_good_examination_it_is_enough_that_the_guards_are_there(system: System) -> None:
    (system.usr / "moratorium.target").unlink()
    assert changed_guards(None, system.measured()) == ("moratorium.target",)
