"""The root file system: Debian packages, then the overlay, the device's programs, models and units, then `finish.sh`.

Rules kept here:
1. The Debian part is kept as a tar named after everything that it was made from: a change of ours does not make Debian
   install itself again.
2. The same archive, the same clone and the same SOURCE_DATE_EPOCH give the same tree, byte for byte; or
   `image-build/compare` says what differs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from turnkey_image import environment
from turnkey_image.boards import EVERYWHERE, KIOSK, KIOSK_MODULES, NO_KIOSKS_DISPLAY, Board
from turnkey_image.packages import BUILD_ONLY, GSTREAMER, NOT_FOR_A_CAMERA, take_out, take_out_plugins
from turnkey_image.programs import Steps, can_run, need

SUITE: Final = "trixie"

NOT_UNPACKED: Final = tuple(
    [f"/usr/share/{name}/*" for name in
     ("man", "locale", "info", "bash-completion", "lintian", "bug", "zsh", "fish", "pixmaps", "gcc", "i18n/locales")]
    + ["/usr/share/doc/*", "/usr/lib/udev/hwdb.d/*"]
    + [f"/usr/lib/modules/*/kernel/{name}/*" for name in
       ("sound", "drivers/gpu", "drivers/infiniband", "drivers/iio", "drivers/staging", "drivers/net/wireless",
        "drivers/scsi", "drivers/bluetooth", "drivers/mtd", "drivers/nvme", "drivers/ata", "drivers/target",
        "drivers/media", "drivers/net/can", "drivers/net/wwan", "drivers/net/ethernet/mellanox", "drivers/net/dsa",
        "drivers/net/ethernet/intel", "drivers/net/ethernet/chelsio", "drivers/net/ethernet/broadcom/bnx2x",
        "drivers/crypto", "drivers/comedi", "drivers/isdn", "drivers/hwmon", "drivers/power",
        "net/bluetooth", "net/mac80211", "net/wireless", "net/ceph", "net/tipc", "net/sctp", "net/rds",
        "net/batman-adv", "net/openvswitch", "net/can", "net/rxrpc", "fs/btrfs", "fs/xfs", "fs/ocfs2", "fs/gfs2",
        "fs/nfs", "fs/nfsd", "fs/smb", "fs/ceph", "fs/f2fs", "fs/bcachefs", "fs/jfs", "fs/reiserfs", "fs/afs",
        "fs/ntfs3", "fs/ubifs", "fs/jffs2", "fs/nilfs2", "fs/orangefs", "fs/9p", "fs/ufs", "fs/hfsplus", "fs/hfs")]
)  # fmt: skip
"""What dpkg leaves out. A wireless or a Bluetooth driver that is not there cannot be switched on."""

FOR_A_STICK: Final = tuple(f"/usr/lib/modules/*/kernel/drivers/scsi/{name}.ko*" for name in
                           ("scsi_mod", "scsi_common", "sd_mod"))  # fmt: skip
"""What `usb-storage` stands on."""


NOT_ON_A_DEVICE: Final = (
    *(f"usr/lib/python3*/{name}" for name in ("ensurepip", "idlelib", "pydoc_data", "test", "tkinter", "turtledemo")),
    *("usr/include", "usr/share/perl", "usr/share/doc-base", "usr/share/zoneinfo/right", "usr/lib/*/gconv"),
)
"""What Debian's packages bring that nothing on a device reads."""

BUILDS_OWN: Final = (
    "boot/System.map*", "boot/config-*", "boot/firmware/*", "vmlinuz*", "initrd.img*", "finish.sh", "root/.[a-z]*",
    "usr/lib/modules/*/vmlinuz", "usr/lib/modules/*/config", "usr/lib/modules/*/System.map",
)  # fmt: skip
"""What packages and this recipe leave beside the kernel and the initramfs that a slot is started from."""

BOOT_PARTITIONS_OWN: Final = (
    "usr/lib/grub", "usr/share/grub", "usr/bin/grub-*", "usr/sbin/grub-*", "etc/grub.d", "etc/default/grub*",
    "usr/lib/systemd/system/grub-common.service", "usr/lib/raspi-firmware", "usr/lib/u-boot",
)  # fmt: skip
"""Where Debian has the boot loaders and firmware that `disk.boot_files` copies."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a root file system is made from.

    Attributes:
        repository: the clone.
        board: the board.
        mirrors: Debian archives as mmdebstrap takes them, addresses or whole lines of a sources.list; none: its own
            choice, which brings updates and security along.
        epoch: SOURCE_DATE_EPOCH.
        version: of this image.
        bundle_ca: certificate that the device believes bundles from, PEM.
        overlays: folders copied over the tree, last.
        kiosk: whether a browser for a touch screen comes along.
    """

    repository: Path
    board: Board
    mirrors: tuple[str, ...]
    epoch: int
    version: str
    bundle_ca: bytes
    overlays: tuple[Path, ...] = ()
    kiosk: bool = False

    @property
    def packages(self) -> tuple[str, ...]:
        """Debian packages asked for, by name."""
        return tuple(sorted({*EVERYWHERE, *self.board.packages, *(KIOSK if self.kiosk else ())}))

    @property
    def kept_modules(self) -> tuple[str, ...]:
        """Folders of kernel modules that are unpacked although `NOT_UNPACKED` names them or a parent."""
        return (*self.board.has_kernel_modules, *(KIOSK_MODULES if self.kiosk else ()))


def debian(source: Source, cache: Path, steps: Steps) -> Path:
    """Make, or find, the tar with the Debian part. Raises: BuildError."""
    board = source.board
    recipe = "\n".join([SUITE, board.architecture, *source.mirrors, str(source.epoch), *source.packages, *NOT_UNPACKED,
                        *FOR_A_STICK, *board.components, *board.modules, *source.kept_modules,
                        *board.backported])  # fmt: skip
    made = cache / f"debian-{board.architecture}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.tar"
    if made.exists():
        steps.say(f"Debian packages: those of {made.name}")
        return made
    need("mmdebstrap", "zstd")
    can_run(board.machine)
    options = [f"--dpkgopt=path-exclude={name}" for name in NOT_UNPACKED]
    # dpkg goes by the last pattern that fits.
    options += [f"--dpkgopt=path-include=/usr/lib/modules/*/kernel/{name}/*" for name in source.kept_modules]
    options += [f"--dpkgopt=path-include={name}" for name in FOR_A_STICK]
    if source.kiosk:
        options += [f"--dpkgopt=path-exclude=/usr/lib/modules/*/kernel/{name}/*" for name in NO_KIOSKS_DISPLAY]
    options += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    # No initramfs is made while packages are installed: it is made once, in the end, from a list of modules. The
    # default would ask the build machine which it has, and takes ten minutes where it is emulated.
    options += ["--dpkgopt=path-exclude=/etc/kernel/postinst.d/initramfs-tools"]
    early = (
        'mkdir -p "$1/etc/initramfs-tools/conf.d" && '
        'printf "MODULES=list\\nRESUME=none\\n" > "$1/etc/initramfs-tools/conf.d/turnkey" && '
        'printf "update_initramfs=no\\n" > "$1/etc/initramfs-tools/update-initramfs.conf"'
    )
    # initramfs-tools brings that last file too: what lies there stays, and dpkg has nobody to ask.
    options += ["--dpkgopt=force-confold"]
    if board.backported:
        options += [f"--setup-hook={with_backports(board.backported)}"]
    unfinished = made.with_suffix(".unfinished.tar")
    steps.run(
        "Debian packages",
        ["mmdebstrap", "--variant=minbase", f"--architectures={board.architecture}",
         f"--include={','.join(source.packages)}", "--aptopt=Acquire::Languages \"none\"",
         "--aptopt=APT::Install-Recommends \"false\"", f"--components={','.join(board.components)}", *options,
         f"--essential-hook={early}", SUITE, unfinished, *source.mirrors],
        environment={"SOURCE_DATE_EPOCH": str(source.epoch)},
    )  # fmt: skip
    unfinished.rename(made)
    return made


def with_backports(packages: tuple[str, ...]) -> str:
    """Shell words for mmdebstrap's set-up: the archive's backports too, for these packages and for no others.

    They come from where the suite itself comes from, a dated snapshot included.
    """
    wanted = f"Package: {' '.join(packages)}\\nPin: release n={SUITE}-backports\\nPin-Priority: 990\\n"
    return (
        f'cd "$1/etc/apt" && sed -n "s/^\\(deb .*\\) {SUITE} /\\1 {SUITE}-backports /p" sources.list '
        f"> sources.list.d/backports.list && test -s sources.list.d/backports.list && "
        f"printf '{wanted}' > preferences.d/backports"
    )


def assemble(source: Source, tar: Path, root: Path, steps: Steps) -> str:
    """Make the tree at `root`, which must not exist. Returns: dpkg's status, for the SBOM. Raises: BuildError."""
    root.mkdir(parents=True)
    steps.run("unpacking", ["tar", "-C", root, "--numeric-owner", "-xf", tar])
    repository, board = source.repository, source.board
    (root / "etc/initramfs-tools/update-initramfs.conf").unlink(missing_ok=True)
    # It would fill a boot partition of its own making with every new initramfs.
    (root / "etc/initramfs/post-update.d/z50-raspi-firmware").unlink(missing_ok=True)
    _copy(repository / "image-build/overlay", root)
    if source.kiosk:
        _copy(repository / "image-build/kiosk", root)
    environment.install(root, repository, board.machine, steps)
    lay_out_units(repository, root)
    _write(root / "etc/initramfs-tools/modules", "\n".join(board.modules) + "\n")
    _write(root / "etc/fw_env.config", "/boot/firmware/turnkey.env 0x0000 0x4000\n")
    _write(root / "etc/rauc/system.conf", rauc_system(board))
    _write(root / "etc/rauc/bundle-ca.pem", source.bundle_ca.decode())
    release = (root / "usr/lib/os-release").read_text()
    _write(root / "usr/lib/os-release", release + image_release(board, source.version))
    for overlay in source.overlays:
        _copy(overlay, root)
    for name in NOT_ON_A_DEVICE:
        for path in root.glob(name):
            shutil.rmtree(path)
    environment.compile_here(root, steps)
    (kernel,) = (root / "usr/lib/modules").iterdir()
    need("depmod")
    steps.run("module dependencies", ["depmod", "-b", root / "usr", "-a", kernel.name])
    shutil.copyfile(repository / "image-build/finish.sh", root / "finish.sh")
    can_run(board.machine)
    steps.run(
        "finishing inside",
        ["chroot", root, "/bin/sh", "/finish.sh", str(source.epoch)],
        environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "TMPDIR": "/tmp"},  # noqa: S108
    )
    only_a_camera = GSTREAMER in source.packages and not source.kiosk
    if only_a_camera:
        take_out_plugins(root)
    status = take_out(root, (*BUILD_ONLY, *(NOT_FOR_A_CAMERA if only_a_camera else ())))
    _clear(root, board)
    return status


def _clear(root: Path, board: Board) -> None:
    """Take out what the build left, and lead the device's own places to the data partition."""
    for tree in root.glob("usr/lib/linux-image-*/**/*.dtb*"):
        if not str(tree).endswith(board.device_trees or ("no tree",)):
            tree.unlink()
    for name in ("etc/apt", "etc/dpkg", "etc/kernel", "etc/initramfs-tools", "usr/share/initramfs-tools"):
        shutil.rmtree(root / name, ignore_errors=True)
    for pattern in BUILDS_OWN:
        for path in root.glob(pattern):
            _remove(path)
    for folder in ("var", "run", "tmp"):
        for path in (root / folder).iterdir():
            _remove(path)
    _write(root / "etc/machine-id", "")
    _write(root / "etc/hostname", "turnkey\n")
    for name, target in (
        ("etc/turnkey", "/var/lib/turnkey-site"),
        ("etc/credstore", "/var/lib/turnkey-site/credstore"),
        ("etc/credstore.encrypted", "/var/lib/turnkey-site/credstore.encrypted"),
        ("etc/resolv.conf", "/run/systemd/resolve/resolv.conf"),
    ):
        path = root / name
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    (root / "boot/firmware").mkdir(parents=True, exist_ok=True)


def drop_boot_loader(root: Path) -> None:
    """Take out what is on the boot partition by now: boot loader, firmware, and the programs that install them.

    RAUC keeps its counters with grub-editenv, which stays.
    """
    for pattern in BOOT_PARTITIONS_OWN:
        for path in root.glob(pattern):
            if path.name != "grub-editenv":
                _remove(path)


def lay_out_units(repository: Path, root: Path) -> None:
    """Put the units and what belongs to them where systemd and udev look; the same in the image and in the package."""
    for path in sorted((repository / "systemd").iterdir()):
        if path.suffix in (".service", ".socket", ".target", ".path", ".timer", ".mount"):
            target = root / "usr/lib/systemd/system" / path.name
        elif path.name == "turnkey-rauc.conf":
            target = root / "usr/share/dbus-1/system.d" / path.name
        elif path.name in ("turnkey.sysusers", "turnkey.tmpfiles"):
            target = root / "usr/lib" / f"{path.suffix[1:]}.d" / "turnkey.conf"
        elif path.suffix == ".rules":
            target = root / "usr/lib/udev/rules.d" / f"60-{path.name}"
        else:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def image_release(board: Board, version: str) -> str:
    """What os-release(5) says of the image beside what it says of Debian; the updater reads IMAGE_VERSION."""
    return f'IMAGE_ID=turnkey\nIMAGE_VERSION="{version}"\nVARIANT_ID={board.name}\n'


def rauc_system(board: Board) -> str:
    """RAUC's system.conf: two slots on the disk that the device started from (see the initramfs script)."""
    grubenv = "grubenv=/boot/firmware/EFI/BOOT/grubenv\n" if board.bootloader == "grub" else ""
    slots = "\n".join(
        f"[slot.rootfs.{number}]\ndevice=/dev/turnkey/root{name}\ntype=raw\nbootname={name}\n"
        for number, name in enumerate("AB")
    )
    return f"""\
# Only verity bundles, only from this CA; nothing is believed because it lies on a stick.
[system]
compatible={board.compatible}
bootloader={board.bootloader}
{grubenv}bundle-formats=-plain
data-directory=/var/lib/rauc
mountprefix=/run/rauc

[keyring]
path=/etc/rauc/bundle-ca.pem

{slots}"""


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _copy(source: Path, root: Path) -> None:
    """Copy a folder's files over the tree: owned by root, and either programs or readable by everybody."""
    for path in sorted(source.rglob("*")):
        target = root / path.relative_to(source)
        if path.is_dir():
            target.mkdir(exist_ok=True, mode=0o755)
        elif "__pycache__" not in path.parts:
            target.unlink(missing_ok=True)
            shutil.copyfile(path, target, follow_symlinks=False)
            if not path.is_symlink():
                target.chmod(0o755 if os.access(path, os.X_OK) else 0o644)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
