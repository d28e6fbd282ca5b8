"""What one board needs beside what every board has. A new board is one more entry in `BOARDS`.

Rules kept here:
1. A board adds; it takes nothing away: overlay, units, users and the Python environment are the same on all.
2. `compatible` goes into each bundle: a device refuses a bundle for another kind of board.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

EVERYWHERE: Final = (
    "systemd",
    "systemd-sysv",
    "systemd-timesyncd",
    "systemd-resolved",
    "dbus",
    "udev",
    "python3",
    "rauc",
    "rauc-service",
    "libubootenv-tool",
    "iproute2",
    "kmod",
    "e2fsprogs",
    "initramfs-tools",
    "zstd",
    "util-linux",
)
"""Debian packages of every image; nothing that they do not need themselves comes along."""

KIOSK: Final = ("cage", "seatd", "chromium", "fonts-dejavu-core", "libinput-bin")
"""What a touch screen on the device needs beside that."""

KIOSK_MODULES: Final = ("drivers/gpu/drm",)
NO_KIOSKS_DISPLAY: Final = tuple(
    f"drivers/gpu/drm/{name}"
    for name in ("amd", "nouveau", "i915", "radeon", "xe", "gma500", "mgag200", "ast", "msm", "etnaviv", "lima",
                 "panfrost", "panthor", "tegra", "rockchip", "sun4i", "meson", "exynos", "imx", "hisilicon", "mediatek",
                 "renesas", "tidss", "armada", "rcar-du", "vmwgfx", "qxl", "bridge", "panel")
)  # fmt: skip
"""Kernel modules of a screen, and those of displays that no board here has."""


KIOSK_SLOT_MIB: Final = 1536
"""A browser is larger than everything else together."""


@dataclass(frozen=True, slots=True)
class Board:
    """One kind of board.

    Attributes:
        name: as on the command line.
        architecture: Debian's name.
        machine: the machine as Python wheels and the kernel name it.
        compatible: RAUC's name for everything that the same bundle runs on.
        packages: Debian packages beside `EVERYWHERE`.
        components: of the Debian archive.
        backported: what apt takes from the archive's backports, as apt_preferences(5) names packages; nothing else.
        modules: kernel modules that the initramfs carries, so that the slot's file system is found.
        bootloader: RAUC's name of it.
        console: kernel console; None: none, which is what a device in a booking room has.
        ramdisk_address: where U-Boot puts the initramfs; None: where U-Boot itself would.
        efi: the boot partition is an EFI system partition.
        device_trees: kernel's names of the device trees on the boot partition.
        card_slot: the card's controller in those trees; U-Boot reads its environment from the disk that comes first,
            and of itself takes the wireless chip's controller for that.
        has_kernel_modules: folders under kernel/ that stay although the other boards do without.
        boots_here: whether QEMU can boot it, so that `tests/appliance` can say something about it.
        slot_mib: size of each of the two slots.
    """

    name: str
    architecture: str
    machine: str
    compatible: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    bootloader: str
    console: str | None = None
    components: tuple[str, ...] = ("main",)
    backported: tuple[str, ...] = ()
    ramdisk_address: str | None = None
    efi: bool = False
    device_trees: tuple[str, ...] = ()
    card_slot: str = ""
    has_kernel_modules: tuple[str, ...] = ()
    boots_here: bool = False
    slot_mib: int = 450

    def with_kiosk(self) -> Board:
        """The same board with a screen. Its slots are larger: it and the other do not take each other's bundles."""
        return replace(self, name=f"{self.name}-kiosk", compatible=f"{self.compatible}-kiosk", slot_mib=KIOSK_SLOT_MIB)


_PI_RAMDISK: Final = "0x06000000"
"""U-Boot's own address for it on a Pi, 0x02700000, is in the middle of a kernel of 50 MiB."""

_PI5_CARD: Final = ("sdhci_brcmstb", "pinctrl_brcmstb_bcm2712", "gpio_brcmstb")
_PI_REGULATORS: Final = ("fixed", "gpio_regulator")
"""Without them the card's controller waits for its supply, and the root file system never comes."""

_PI_PACKAGES: Final = ("linux-image-arm64", "raspi-firmware", "u-boot-rpi", "systemd-repart", "python3-gi",
                       "gir1.2-gstreamer-1.0", "gstreamer1.0-plugins-base", "gstreamer1.0-plugins-good")  # fmt: skip

_USB_CAMERA: Final = (
    "drivers/media/mc", "drivers/media/v4l2-core", "drivers/media/common", "drivers/media/usb/uvc",
)  # fmt: skip
"""A camera on USB, by GStreamer's v4l2src. For one on the board's own connector Debian's kernels lack drivers: of the
Pi 4's receiver, and of every sensor that Raspberry Pi sells (7.3 has the Pi 5's receiver, 6.12 neither)."""

BOARDS: Final = {
    board.name: board
    for board in (
        Board(
            name="qemu-arm64",
            architecture="arm64",
            machine="aarch64",
            compatible="turnkey-qemu-arm64",
            packages=("linux-image-arm64",),
            modules=("virtio_pci", "virtio_mmio", "virtio_blk", "ext4"),
            bootloader="uboot",
            console="ttyAMA0",
            boots_here=True,
        ),
        Board(
            name="rpi4",
            architecture="arm64",
            machine="aarch64",
            compatible="turnkey-rpi4",
            packages=_PI_PACKAGES,
            components=("main", "non-free-firmware"),
            modules=("sdhci_iproc", "bcm2835", *_PI_REGULATORS, "bcm2835_wdt", "reset_raspberrypi", "ext4"),
            bootloader="uboot",
            ramdisk_address=_PI_RAMDISK,
            device_trees=("broadcom/bcm2711-rpi-4-b.dtb", "broadcom/bcm2711-rpi-400.dtb"),
            card_slot="/emmc2bus/mmc@7e340000",
            has_kernel_modules=_USB_CAMERA,
        ),
        Board(
            name="rpi5",
            architecture="arm64",
            machine="aarch64",
            compatible="turnkey-rpi5",
            packages=_PI_PACKAGES,
            components=("main", "non-free-firmware"),
            backported=("src:linux", "src:linux-signed-arm64", "src:linux-base"),
            modules=(*_PI5_CARD, *_PI_REGULATORS, "bcm2835_wdt", "ext4"),
            bootloader="uboot",
            ramdisk_address=_PI_RAMDISK,
            device_trees=("broadcom/bcm2712-rpi-5-b.dtb", "broadcom/bcm2712-d-rpi-5-b.dtb"),
            card_slot="/soc@107c000000/mmc@fff000",
            has_kernel_modules=_USB_CAMERA,
        ),
        Board(
            name="qemu-amd64",
            architecture="amd64",
            machine="x86_64",
            compatible="turnkey-qemu-amd64",
            packages=("linux-image-amd64", "grub-efi-amd64-bin", "grub-common", "systemd-repart"),
            modules=("virtio_pci", "virtio_blk", "ext4"),
            bootloader="grub",
            console="ttyS0,115200",
            efi=True,
        ),
    )
}
