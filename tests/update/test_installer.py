"""The installer's contract, over the simulated one and over RAUC's adapter with a service on a real bus."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from booking_room import REPOSITORY
from jeepney import DBusErrorResponse, new_method_call
from jeepney.io.blocking import open_dbus_connection
from jeepney.wrappers import unwrap_msg
from update.rauc_service import PrivateBus, RaucService, real_service

from turnkey.update.installer import SIMULATED_MAGIC, Installer, SimulatedInstaller
from turnkey.update.rauc import SERVICE, RaucInstaller
from turnkey.update.refusals import UpdateError, UpdateReason

sys.path.insert(0, str(REPOSITORY / "image-build"))

from turnkey_image.boards import BOARDS
from turnkey_image.bundle import make_bundle, throwaway_keys
from turnkey_image.programs import Steps

RUNNING = "1.0"


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[PrivateBus]:
    bus = PrivateBus(tmp_path)
    yield bus
    bus.close()


@pytest.fixture
def service(bus: PrivateBus) -> Iterator[RaucService]:
    service = RaucService(bus.address, RUNNING)
    yield service
    service.close()


def rauc(folder: Path, bus: str) -> RaucInstaller:
    release = folder / "os-release"
    release.write_text(f'NAME="Debian"\nIMAGE_ID=turnkey\nIMAGE_VERSION="{RUNNING}"\n')
    return RaucInstaller(release, bus)


@pytest.fixture(params=["simulated", "rauc"])
def installer(request: pytest.FixtureRequest, tmp_path: Path) -> Installer:
    if request.param == "simulated":
        return SimulatedInstaller(tmp_path / "slots.json", RUNNING)
    request.getfixturevalue("service")
    return rauc(tmp_path, request.getfixturevalue("bus").address)


def bundle(folder: Path, version: str) -> Path:
    path = folder / "system.raucb"
    path.write_bytes(SIMULATED_MAGIC + version.encode() + b"\n" + b"payload" * 100)
    return path


class TestContract:
    def test_a_bundle_goes_into_the_slot_that_does_not_run(self, installer: Installer, tmp_path: Path) -> None:
        told: list[int] = []
        installer.install(bundle(tmp_path, "1.2"), "1.2", lambda percent, _doing: told.append(percent))
        running, other = installer.slots()
        assert (running.booted, running.version) == (True, RUNNING)
        assert (other.booted, other.good, other.version) == (False, True, "1.2")
        assert installer.running_version() == RUNNING
        assert told[-1] == 100
        assert told == sorted(told)

    def test_a_bundle_that_is_refused_changes_no_slot(self, installer: Installer, tmp_path: Path) -> None:
        before = installer.slots()
        bad = tmp_path / "bad.raucb"
        bad.write_bytes(b"theirs")
        with pytest.raises(UpdateError) as caught:
            installer.install(bad, "1.2", lambda _percent, _doing: None)
        assert caught.value.refusal.reason is UpdateReason.NOT_INSTALLED
        assert installer.slots() == before

    def test_a_bundle_of_another_version_than_it_is_offered_as_changes_no_slot(
        self, installer: Installer, tmp_path: Path
    ) -> None:
        before = installer.slots()
        with pytest.raises(UpdateError) as caught:
            installer.install(bundle(tmp_path, "0.9"), "1.2", lambda _percent, _doing: None)
        assert caught.value.refusal.reason is UpdateReason.ANOTHER_VERSION
        assert installer.slots() == before

    def test_it_says_what_runs_before_anything_was_installed(self, installer: Installer) -> None:
        assert installer.running_version() == RUNNING
        assert [slot.booted for slot in installer.slots()] == [True, False]


class TestRauc:
    def test_the_real_service_says_its_slots_and_refuses_what_is_no_bundle(
        self, bus: PrivateBus, tmp_path: Path
    ) -> None:
        with real_service(tmp_path, bus.address):
            installer = rauc(tmp_path, bus.address)
            assert [(slot.name, slot.booted, slot.good) for slot in installer.slots()] == [
                ("rootfs.0", True, True),
                ("rootfs.1", False, True),
            ]
            with pytest.raises(UpdateError) as caught:
                installer.install(bundle(tmp_path, "1.2"), "1.2", lambda _percent, _doing: None)
        assert caught.value.refusal.reason is UpdateReason.NOT_INSTALLED
        assert "bundle" in caught.value.refusal.message.lower()

    def test_rauc_that_is_at_something_already_is_left_to_it(
        self, bus: PrivateBus, service: RaucService, tmp_path: Path
    ) -> None:
        service.operation = "installing"
        with pytest.raises(UpdateError) as caught:
            rauc(tmp_path, bus.address).install(bundle(tmp_path, "1.2"), "1.2", lambda _percent, _doing: None)
        assert caught.value.refusal.reason is UpdateReason.BUSY
        assert "InstallBundle" not in service.asked

    def test_the_real_service_says_of_a_signed_bundle_that_it_is_yesterdays(
        self, bus: PrivateBus, tmp_path: Path
    ) -> None:
        steps = Steps(tmp_path / "log", quiet=True)
        keys = throwaway_keys(tmp_path / "keys", steps)
        slot, made = tmp_path / "slot", tmp_path / "system.raucb"
        slot.write_bytes(os.urandom(1 << 16))
        make_bundle(replace(BOARDS["rpi5"], compatible="rpi5"), slot, "0.9", keys, made, steps, 1)
        with real_service(tmp_path, bus.address, keys.ca.read_bytes()):
            installer = rauc(tmp_path, bus.address)
            before = installer.slots()
            with pytest.raises(UpdateError, match=r"offered as 1\.2 and says that it is '0\.9'"):
                installer.install(made, "1.2", lambda _percent, _doing: None)
            assert installer.slots() == before

    def test_its_own_words_are_in_the_refusal(self, bus: PrivateBus, service: RaucService, tmp_path: Path) -> None:
        installer = rauc(tmp_path, bus.address)
        bad = tmp_path / "bad.raucb"
        for content, words in (
            (b"theirs", "no bundle, or not signed for this device"),
            (SIMULATED_MAGIC + b"1.2\nbroken payload", "block 1 is corrupted"),
        ):
            bad.write_bytes(content)
            with pytest.raises(UpdateError, match=words):
                installer.install(bad, "1.2", lambda _percent, _doing: None)

    def test_a_bus_without_rauc_and_no_bus_at_all(self, bus: PrivateBus, tmp_path: Path) -> None:
        for address in (bus.address, f"unix:path={tmp_path}/none"):
            with pytest.raises(UpdateError) as caught:
                rauc(tmp_path, address).slots()
            assert caught.value.refusal.reason is UpdateReason.NO_INSTALLER

    @pytest.mark.parametrize("text", ["", "IMAGE_ID=turnkey\n", "IMAGE_VERSION=dev\n", "IMAGE_VERSION=\n"])
    def test_a_system_that_does_not_say_its_version_has_none(self, tmp_path: Path, text: str) -> None:
        release = tmp_path / "os-release"
        release.write_text(text)
        assert RaucInstaller(release).running_version() is None
        assert RaucInstaller(tmp_path / "none").running_version() is None


def test_the_bus_takes_the_devices_policy_for_rauc(tmp_path: Path) -> None:
    with_policy = PrivateBus(tmp_path, include=REPOSITORY / "systemd" / "turnkey-rauc.conf")
    try:
        assert with_policy.address.startswith("unix:")
    finally:
        with_policy.close()
    broken = tmp_path / "broken.conf"
    broken.write_text("<busconfig><policy user='root'>")
    assert PrivateBus(tmp_path, include=broken).address == ""


def test_the_updater_may_install_and_look_and_not_mark_a_slot(tmp_path: Path) -> None:
    """The device's policy with this user for the updater's, and nobody for root."""
    policy, me = tmp_path / "policy.conf", pwd.getpwuid(os.getuid()).pw_name
    text = (REPOSITORY / "systemd" / "turnkey-rauc.conf").read_text()
    policy.write_text(text.replace('user="root"', 'user="nobody"').replace('user="turnkey-update"', f'user="{me}"'))
    bus = PrivateBus(tmp_path, include=policy)
    service = RaucService(bus.address, RUNNING)
    try:
        installer = rauc(tmp_path, bus.address)
        installer.install(bundle(tmp_path, "1.2"), "1.2", lambda _percent, _doing: None)
        assert [slot.version for slot in installer.slots()] == [RUNNING, "1.2"]
        with open_dbus_connection(bus.address) as connection:
            for member, words in (("Mark", ("active", "other")), ("Install", ("/x",))):
                call = new_method_call(SERVICE, member, "s" * len(words), words)
                with pytest.raises(DBusErrorResponse, match="AccessDenied"):
                    unwrap_msg(connection.send_and_get_reply(call, timeout=60))
        assert not {"Mark", "Install"} & set(service.asked)
    finally:
        service.close()
        bus.close()


class TestSimulated:
    def test_a_system_that_is_not_healthy_is_left_again(self, tmp_path: Path) -> None:
        installer = SimulatedInstaller(tmp_path / "slots.json", RUNNING)
        installer.install(bundle(tmp_path, "1.2"), "1.2", lambda _percent, _doing: None)
        installer.restart(healthy=False)
        assert installer.running_version() == RUNNING
        assert [slot.good for slot in installer.slots()] == [True, False]

    def test_a_power_cut_while_it_writes_leaves_the_running_slot_to_start_from(self, tmp_path: Path) -> None:
        installer = SimulatedInstaller(tmp_path / "slots.json", RUNNING)

        class PowerCut(Exception):
            pass

        def cut(percent: int, _doing: str) -> None:
            if percent == 50:
                raise PowerCut

        with pytest.raises(PowerCut):
            installer.install(bundle(tmp_path, "1.2"), "1.2", cut)
        again = SimulatedInstaller(tmp_path / "slots.json")
        again.restart()
        assert again.running_version() == RUNNING
        assert [slot.good for slot in again.slots()] == [True, False]
