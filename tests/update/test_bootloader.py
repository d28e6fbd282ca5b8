"""The boot loader in a Raspberry Pi's EEPROM: read as the firmware writes it, and judged before anything is fetched.

The values were recorded on boards: raspberrypi/rpi-eeprom issue 575 (Pi 5), ironsheep/RPi-Reporter-MQTT2HA-Daemon
issue 91 (Pi 4, 2023), rsta2/circle pull request 501 (Pi 400, 2021), raspberrypi/firmware issue 1420 (Pi 4, 2020).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from turnkey.update.bootloader import Bootloader, read_bootloader, refusal_of
from turnkey.update.rauc import RaucInstaller
from turnkey.update.refusals import UpdateError, UpdateReason

PI_5 = b"raspberrypi,5-model-b\0brcm,bcm2712\0"
PI_4 = b"raspberrypi,4-model-b\0brcm,bcm2711\0"
RECORDED = {
    "Pi 5, 2024": (PI_5, bytes.fromhex("66422e75"), b"83b5e5e61a70a93caee65cbd6aea77bdd485e5b0\0", None),
    "Pi 4, 2023": (PI_4, (1673458852).to_bytes(4), b"8ba17717fbcedd4c3b6d4bce7e50c7af4155cba9\0", None),
    "Pi 400, 2021": (
        b"raspberrypi,400\0brcm,bcm2711\0", (1619712685).to_bytes(4), b"c2f8c388c4ee37ad709ace403467d163e8dd91ce\0",
        UpdateReason.BOOTLOADER_OLD,
    ),
    "Pi 4, 2020": (
        PI_4, (1592228179).to_bytes(4), b"c302dea096cc79f102cec12aeeb51abf392bd781\0", UpdateReason.BOOTLOADER_OLD,
    ),
}  # fmt: skip


def make_tree(folder: Path, compatible: bytes, **properties: bytes) -> Path:
    (folder / "chosen/bootloader").mkdir(parents=True)
    (folder / "compatible").write_bytes(compatible)
    for name, value in properties.items():
        (folder / "chosen/bootloader" / name.replace("_", "-")).write_bytes(value)
    return folder


@pytest.mark.parametrize("board", RECORDED)
def test_what_boards_said_is_read_and_judged(tmp_path: Path, board: str) -> None:
    compatible, built, version, reason = RECORDED[board]
    found = read_bootloader(make_tree(tmp_path, compatible, build_timestamp=built, version=version))
    assert found is not None
    assert found.built == datetime.fromtimestamp(int.from_bytes(built), UTC)
    assert found.version == version[:-1].decode()
    refusal = refusal_of(found)
    assert (refusal.reason if refusal else None) == reason


def test_a_board_that_is_no_pi_is_not_asked(tmp_path: Path) -> None:
    assert read_bootloader(make_tree(tmp_path / "virt", b"linux,dummy-virt\0")) is None
    assert read_bootloader(tmp_path / "a machine without a device tree") is None
    assert refusal_of(None) is None


@pytest.mark.parametrize(
    "said", [{}, {"build_timestamp": b""}, {"build_timestamp": b"\0" * 4}, {"build_timestamp": b"1"}]
)
def test_a_pi_that_does_not_say_how_old_its_boot_loader_is_is_refused(tmp_path: Path, said: dict[str, bytes]) -> None:
    refusal = refusal_of(read_bootloader(make_tree(tmp_path, PI_4, **said)))
    assert refusal is not None
    assert refusal.reason is UpdateReason.BOOTLOADER_UNKNOWN
    assert "rpi-eeprom-update" in refusal.message


def test_the_first_release_that_reads_such_a_card_is_enough() -> None:
    assert refusal_of(Bootloader(datetime(2022, 1, 25, tzinfo=UTC))) is None
    assert refusal_of(Bootloader(datetime(2022, 1, 24, 23, 59, 59, tzinfo=UTC))) is not None


def test_the_real_installer_asks_the_board_first(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, PI_4, build_timestamp=(1592228179).to_bytes(4))
    with pytest.raises(UpdateError) as caught:
        RaucInstaller(tmp_path / "os-release", bus="unix:path=/nowhere", device_tree=tree).admit()
    assert caught.value.refusal.reason is UpdateReason.BOOTLOADER_OLD
