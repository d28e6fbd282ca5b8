"""Whether a Raspberry Pi's own boot loader, in its EEPROM, is one that a new system may be tried with.

The slot is chosen by U-Boot, from a GPT card with a small FAT partition. The EEPROM has to start U-Boot from that, and
again after a start that failed; an EEPROM that is too old for it, or that does not say how old it is, would make an
update a visit with a screwdriver. The firmware's own start that is tried once (tryboot) is not used: no bundle carries
firmware or U-Boot.

Rules kept here:
1. A board that is no Raspberry Pi has none, and is not asked. A Pi that does not answer is refused.
2. Read is the device tree, which the firmware fills in: no tool, no device node, no privilege.
3. The limits are release notes of the EEPROM, named beside each.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from turnkey.update.refusals import UpdateReason, UpdateRefusal

DEVICE_TREE: Final = Path("/sys/firmware/devicetree/base")
"""The kernel's; /proc/device-tree leads there, and is out of the update unit's sight."""

NOT_BEFORE: Final = datetime(2022, 1, 25, tzinfo=UTC)
"""rpi-eeprom, release notes of the Pi 4, 2022-01-25: the first default release that reads a FAT16 boot partition on GPT
(in beta since 2021-10-04). Each EEPROM of a Pi 5 is newer."""

_PI: Final = b"raspberrypi,"


@dataclass(frozen=True)
class Bootloader:
    """What the firmware says of the boot loader in the EEPROM.

    Attributes:
        built: when; None where it does not say.
        version: git's; for the message.
    """

    built: datetime | None
    version: str = ""


def read_bootloader(tree: Path = DEVICE_TREE) -> Bootloader | None:
    """The Pi's boot loader, as far as the device tree tells; None on a board that is no Pi.

    Numbers there are 32 bits, big-endian; texts end in a zero byte (Devicetree Specification, 2.2.4).
    """
    if not any(name.startswith(_PI) for name in _property(tree, "compatible").split(b"\0")):
        return None
    chosen = tree / "chosen/bootloader"
    built = _number(_property(chosen, "build-timestamp"))
    return Bootloader(
        built=datetime.fromtimestamp(built, UTC) if built else None,
        version=_property(chosen, "version").rstrip(b"\0").decode("ascii", "replace")[:40],
    )


def refusal_of(found: Bootloader | None) -> UpdateRefusal | None:
    """Why no system may be installed on this board; None: it may."""
    if found is None:
        return None
    if found.built is None:
        return UpdateRefusal(
            UpdateReason.BOOTLOADER_UNKNOWN,
            "this Raspberry Pi does not say how old the boot loader in its EEPROM is, nor so whether it comes back "
            "from a system that does not start. Start Raspberry Pi OS on it once and run rpi-eeprom-update",
        )
    if found.built < NOT_BEFORE:
        return UpdateRefusal(
            UpdateReason.BOOTLOADER_OLD,
            f"the boot loader in this Raspberry Pi's EEPROM is of {found.built:%Y-%m-%d}, and has to be of "
            f"{NOT_BEFORE:%Y-%m-%d} or later. Start Raspberry Pi OS on it once and run rpi-eeprom-update",
        )
    return None


def _property(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError:
        return b""


def _number(cells: bytes) -> int | None:
    return int.from_bytes(cells, "big") if len(cells) == 4 else None
