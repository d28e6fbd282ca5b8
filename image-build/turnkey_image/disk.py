"""The card: GPT with `boot`, `rootA`, `rootB`, `data`, put together by genimage from files.

Rules kept here:
1. rootB is empty and has no tries: RAUC must not take it for a good slot before something was installed there.
2. The data partition holds what provisioning gave this device, and nothing that was not given.
3. The boot partition is written by the boot loader and by RAUC only in files of a fixed size.
"""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from turnkey_image.boards import Board
from turnkey_image.programs import BuildError, Steps, need

BOOT_MIB: Final = 64
COUNTERS: Final = "turnkey.env"
PI_ENVIRONMENT: Final = "uboot.env"
"""What U-Boot on a Pi takes for its own whole environment, in place of the one that is built in."""
UBOOT_ENV_BYTES: Final = 0x4000
GRUB_MODULES: Final = ("normal", "part_gpt", "fat", "ext2", "linux", "loadenv", "regexp", "probe", "test", "configfile",
                       "echo", "sleep", "reboot", "boot")  # fmt: skip
DATA_TYPE: Final = "4d21b016-b534-45c2-a9fb-5c16e091fd2d"
"""Variable data (UAPI's discoverable partitions): how systemd-repart tells it from the slots, and lets it grow."""

PI_STARTS: Final = {
    "bootcmd": "if load mmc 0:1 ${scriptaddr} boot.scr; then "
    "setenv devtype mmc; setenv devnum 0; source ${scriptaddr}; fi; reset",
    "bootdelay": "-2",
    "stdin": "nulldev",
    "stdout": "serial,vidconsole",
    "stderr": "serial,vidconsole",
    "baudrate": "115200",
    "scriptaddr": "0x02400000",
    "kernel_addr_r": "0x00080000",
    "fdt_high": "ffffffffffffffff",
    "initrd_high": "ffffffffffffffff",
}
"""Addresses are those that U-Boot has built in. What else is built in is left out: keys that stop the start, keyboards
on USB, and other disks and the network where the card gives nothing. No key is looked for, and none can come."""

QUIET: Final = "quiet loglevel=3 systemd.show_status=false rd.udev.log_level=3 vt.global_cursor_default=0"

_PI_CONFIG: Final = """\
# U-Boot chooses the slot; the firmware only starts U-Boot.
arm_64bit=1
kernel=u-boot.bin
enable_uart=0
disable_splash=1
upstream_kernel=1
"""


def kernel_arguments(board: Board, loud: bool) -> str:
    """What the kernel is told beside its root: silent, but for the console of a board in QEMU or of a test."""
    console = f"console={board.console}" if board.console else "console=tty1"
    return console if loud else f"{console} {QUIET}"


def uboot_environment(names: Mapping[str, str]) -> bytes:
    """U-Boot's form of it: CRC-32 of the rest, then NAME=VALUE strings, each ended by a zero byte, zeros to the end."""
    body = b"".join(f"{name}={value}\0".encode() for name, value in names.items()).ljust(UBOOT_ENV_BYTES - 4, b"\0")
    return struct.pack("<I", zlib.crc32(body)) + body


def counters(order: str, left: Mapping[str, int]) -> bytes:
    """What boot script and RAUC count in: the slots in the order of trying, and how many tries each has left."""
    return uboot_environment({"BOOT_ORDER": order, **{f"BOOT_{slot}_LEFT": str(tries) for slot, tries in left.items()}})


def boot_files(board: Board, root: Path, recipe: Path, work: Path, loud: bool, epoch: int, steps: Steps) -> Path:
    """Make the folder that becomes the boot partition. Raises: BuildError."""
    folder = work / "boot"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    arguments = kernel_arguments(board, loud)
    if board.bootloader == "grub":
        _grub(folder, root, recipe, work, arguments, steps)
        return folder
    need("mkimage")
    script = work / "boot.cmd"
    text = (recipe / "boot/boot.cmd.in").read_text().replace("@ARGUMENTS@", arguments)
    script.write_text(text.replace("@RAMDISK@", board.ramdisk_address or "${ramdisk_addr_r}"))
    steps.run(
        "boot script",
        ["mkimage", "-A", "arm64", "-T", "script", "-O", "linux", "-C", "none", "-n", "turnkey", "-d", script,
         folder / "boot.scr"],
        environment={"SOURCE_DATE_EPOCH": str(epoch)},
    )  # fmt: skip
    (folder / COUNTERS).write_bytes(counters("A B", {"A": 3, "B": 0}))
    if board.device_trees:
        _pi_firmware(board, folder, root, steps)
    return folder


def _pi_firmware(board: Board, folder: Path, root: Path, steps: Steps) -> None:
    try:
        for name in ("start4.elf", "fixup4.dat"):
            shutil.copyfile(root / "usr/lib/raspi-firmware" / name, folder / name)
        shutil.copyfile(root / "usr/lib/u-boot/rpi_arm64/u-boot.bin", folder / "u-boot.bin")
        (kernel,) = (root / "usr/lib").glob("linux-image-*")
        for tree in board.device_trees:
            shutil.copyfile(kernel / tree, folder / Path(tree).name)
    except (OSError, ValueError) as error:
        raise BuildError(f"the firmware of {board.name} is not where Debian's packages have it: {error}") from error
    for described in sorted(folder.glob("*.dtb")):
        # A path that is not in the tree would be taken, and only the board would find out.
        steps.run("the card's slot", ["fdtget", described, board.card_slot, "compatible"])
        steps.run("the card comes first", ["fdtput", "-t", "s", described, "/aliases", "mmc0", board.card_slot])
    (folder / "config.txt").write_text(_PI_CONFIG)
    (folder / PI_ENVIRONMENT).write_bytes(uboot_environment(PI_STARTS))


def _grub(folder: Path, root: Path, recipe: Path, work: Path, arguments: str, steps: Steps) -> None:
    need("grub-mkimage", "grub-editenv")
    home = folder / "EFI/BOOT"
    home.mkdir(parents=True)
    first = work / "first.cfg"
    (home / "turnkey.cfg").write_text((recipe / "boot/grub.cfg.in").read_text().replace("@ARGUMENTS@", arguments))
    # Its root is the partition that it was started from. No grub-mkstandalone: what that packs carries the day's time.
    first.write_text("configfile /EFI/BOOT/turnkey.cfg\n")
    steps.run(
        "boot loader",
        ["grub-mkimage", "-d", root / "usr/lib/grub/x86_64-efi", "-O", "x86_64-efi", "-p", "/EFI/BOOT", "-c", first,
         "-o", home / "BOOTX64.EFI", *GRUB_MODULES],
    )  # fmt: skip
    steps.run("boot counters", ["grub-editenv", home / "grubenv", "create"])
    steps.run(
        "boot counters",
        ["grub-editenv", home / "grubenv", "set", "ORDER=A B", "A_OK=1", "A_TRY=0", "B_OK=0", "B_TRY=0"],
    )


def make_card(board: Board, slot: Path, boot: Path, data: Path, card: Path, data_mib: int, steps: Steps) -> None:
    """Put the parts together. Raises: BuildError."""
    need("genimage", "mke2fs", "mkfs.vfat", "mcopy")
    work = card.parent / "genimage"
    shutil.rmtree(work, ignore_errors=True)
    for name in ("input", "tmp", "root"):
        (work / name).mkdir(parents=True)
    slot_mib = -(-slot.stat().st_size // 2**20)
    files = "\n".join(
        f'    file "{path.relative_to(boot)}" {{ image = "{path}" }}'
        for path in sorted(boot.rglob("*"))
        if path.is_file()
    )
    steps.run("data partition", ["mke2fs", "-q", "-F", "-t", "ext4", "-m", "1", "-L", "data", "-O", "^orphan_file",
                                 "-d", data, work / "input/data.ext4", f"{data_mib}M"])  # fmt: skip
    kind = 'partition-type-uuid = "U"\n    bootable = true' if board.efi else 'partition-type-uuid = "U"'
    config = work / "genimage.cfg"
    config.write_text(
        f"""\
image boot.vfat {{
  vfat {{
    label = "TURNKEY"
{files}
  }}
  size = {BOOT_MIB}M
}}
image {card.name} {{
  hdimage {{
    partition-table-type = "gpt"
    align = 1M
  }}
  partition boot {{
    image = "boot.vfat"
    {kind}
  }}
  partition rootA {{
    image = "{slot}"
    partition-type-uuid = "L"
    size = {slot_mib}M
  }}
  partition rootB {{
    partition-type-uuid = "L"
    size = {slot_mib}M
  }}
  partition data {{
    image = "data.ext4"
    partition-type-uuid = "{DATA_TYPE}"
  }}
}}
"""
    )
    steps.run("card", ["genimage", "--config", config, "--rootpath", work / "root", "--tmppath", work / "tmp",
                       "--inputpath", work / "input", "--outputpath", card.parent])  # fmt: skip
    shutil.rmtree(work)
    (card.parent / "boot.vfat").unlink(missing_ok=True)
