"""`image-build/build BOARD`: from a clone and a Debian archive to a card, a slot, a bill of materials and a report.

Rules kept here:
1. What is unfinished has another name until it is whole; a build that fails leaves the last good one alone.
2. Sizes and digests in the report are those of the files that lie there.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from turnkey_image import bundle as bundles
from turnkey_image import disk, filesystem, identity, root, sameness, sbom
from turnkey_image.boards import BOARDS, Board
from turnkey_image.programs import BuildError, Steps, need, need_root

REPOSITORY: Final = Path(__file__).resolve().parents[2]
EPOCH: Final = 1795305600
"""SOURCE_DATE_EPOCH where none is given: 2026-11-22. A newer date where Debian's packages are newer than that."""

VERSION_FORM: Final = r"[0-9]{1,9}(\.[0-9]{1,9}){0,3}"
"""What devices compare, number by number (`turnkey.leads.upkeep`)."""

BUNDLE_BAR_MIB: Final = 160


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for on the command line."""

    board: Board
    out: Path
    version: str
    epoch: int
    identity: Path | None
    overlays: tuple[Path, ...]
    mirrors: tuple[str, ...]
    data_mib: int
    kiosk: bool
    loud: bool
    like: Path | None
    ca: Path | None
    root_only: bool
    debian_only: bool


def build(request: Request, steps: Steps) -> dict[str, Any] | None:
    """Make everything. Returns: the report, also in report.json; None where only the Debian part was asked for.

    Raises:
        BuildError: a step failed.
    """
    if not re.fullmatch(VERSION_FORM, request.version):
        raise BuildError(f"{request.version!r} is no version: one to four numbers, as in 1.4.2")
    need_root()
    boot_programs = ["grub-mkimage", "grub-editenv"] if request.board.efi else ["mkimage"]
    boot_programs += ["fdtget", "fdtput"] if request.board.device_trees else []
    card_programs = () if request.root_only else ("genimage", "mkfs.vfat", "mcopy")
    need("mmdebstrap", "zstd", "depmod", "mke2fs", "debugfs", "openssl", *boot_programs, *card_programs)
    began = time.monotonic()
    board, out = request.board, request.out
    cache, work = out.parent / "cache", out / "work"
    cache.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    source_of = partial(
        root.Source, REPOSITORY, board, request.mirrors, request.epoch, request.version, overlays=request.overlays,
        kiosk=request.kiosk,
    )  # fmt: skip
    debian = root.debian(source_of(b""), cache, steps)
    if request.debian_only:
        return None
    ca = request.ca or bundles.throwaway_keys(out.parent / "throwaway-keys", steps).ca
    tree = work / "root"
    status = root.assemble(source_of(ca.read_bytes()), debian, tree, steps)
    boot = disk.boot_files(board, tree, REPOSITORY / "image-build", work, request.loud, request.epoch, steps)
    root.drop_boot_loader(tree)
    bill = sbom.bill(tree, f"turnkey-{board.name}", request.version, status, request.epoch)
    if request.like is not None and (found := sbom.differences(json.loads(request.like.read_text()), bill)):
        raise BuildError(f"not what {request.like} lists:\n  " + "\n  ".join(found))
    bill_text = json.dumps(bill, indent=1) + "\n"
    (tree / "usr/share/turnkey/sbom.cdx.json").write_text(bill_text)
    steps.say("digest of the tree ...")
    entries = sameness.listing(tree, request.epoch)
    tree_digest = sameness.digest(entries)
    slot = work / "slot.ext4"
    made = filesystem.make_ext4(tree, slot, "turnkey", tree_digest, request.epoch, steps, board.slot_mib)
    report: dict[str, Any] = {
        "board": board.name,
        "compatible": board.compatible,
        "version": request.version,
        "tree_sha256": tree_digest,
        "slot_sha256": made.sha256,
        "taken_mib": made.taken_mib,
        "slot_mib": slot.stat().st_size // 2**20,
        "largest": largest(tree),
        "debian_packages": sum("pkg:deb" in item["bom-ref"] for item in bill["components"]),
        "python_packages": sum("pkg:pypi" in item["bom-ref"] for item in bill["components"]),
    }
    (out / "sbom.cdx.json").write_text(bill_text)
    (out / sameness.LISTING).write_text("".join(f"{line}\n" for line in entries))
    shutil.rmtree(out / "boot", ignore_errors=True)
    shutil.copytree(boot, out / "boot")
    slot.replace(out / "slot.ext4")
    if not request.root_only:
        report["card_mib"] = make_card(board, out, request.identity, out / "card.img", request.data_mib, steps)
    shutil.rmtree(work)
    report["seconds"] = {name: round(took) for name, took in steps.seconds.items()}
    report["total_s"] = round(time.monotonic() - began)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def make_card(board: Board, out: Path, device: Path | None, card: Path, data_mib: int, steps: Steps) -> int:
    """Make a card from what a build left in `out`, for the device whose identity is in a folder. Returns: MiB.

    A device's card is its maker's to read and nobody else's: its private keys are on it, not yet sealed.

    Raises:
        BuildError: nothing is built there, or the identity is not whole; or another than root asks, whom the files on
            the device would belong to.
    """
    need_root()
    if not (out / "slot.ext4").exists():
        raise BuildError(f"nothing is built in {out}: run image-build/build {board.name} first")
    work = out / "card-work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    try:
        identity.lay_out(device, work / "data")
        disk.make_card(board, out / "slot.ext4", out / "boot", work / "data", work / "card.img", data_mib, steps)
        if device is not None:
            (work / "card.img").chmod(0o600)
        (work / "card.img").replace(card)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return card.stat().st_size // 2**20


def mib(tree: Path) -> int:
    """MiB of the files below `tree`, each counted once, in blocks of 4 KiB."""
    seen = {}
    for path in tree.rglob("*"):
        state = path.lstat()
        if not path.is_symlink() and path.is_file():
            seen[(state.st_dev, state.st_ino)] = -(-state.st_size // 4096) * 4096
    return sum(seen.values()) // 2**20


def largest(tree: Path, most: int = 12) -> dict[str, int]:
    """The folders that take most, in MiB: packages of the environment, kernel modules, libraries."""
    folders = [*tree.glob("opt/turnkey/lib/python3*/site-packages/*/"), *tree.glob("usr/lib/*/"), *tree.glob("usr/*/"),
               tree / "boot", *tree.glob("usr/lib/python3*/"), *tree.glob("usr/share/*/")]  # fmt: skip
    sizes = {str(path.relative_to(tree)): mib(path) for path in folders if path.is_dir() and not path.is_symlink()}
    return dict(sorted(sizes.items(), key=lambda item: -item[1])[:most])


def shown(report: dict[str, Any]) -> str:
    """The report for a person."""
    lines = [f"{report['board']} {report['version']}: {report['debian_packages']} Debian and "
             f"{report['python_packages']} Python packages, made in {report['total_s']} s"]  # fmt: skip
    lines.append(f"root file system  {report['taken_mib']} of the slot's {report['slot_mib']} MiB are taken")
    lines += [f"  {size:5d} MiB  {name}" for name, size in report["largest"].items()]
    lines.append(f"tree sha256 {report['tree_sha256']}")
    lines.append(f"slot sha256 {report['slot_sha256']}")
    return "\n".join(lines)


def arguments(words: list[str] | None = None) -> tuple[Request, bool]:
    """The request, and whether the report is asked for as JSON."""
    parser = argparse.ArgumentParser(
        prog="image-build/build",
        description="Make a card image of the appliance: GPT with boot, rootA, rootB and data; the root read-only, the "
        "Python environment from device.lock, all units. Debian packages are kept in OUT/cache. Run as root or under "
        "`unshare --map-auto --map-root-user --mount`. Afterwards: image-build/bundle BOARD.",
    )
    parser.add_argument("board", choices=sorted(BOARDS), help="rpi4 and rpi5 have not been started on a board yet")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build", help="folder for images (default: build/)")
    parser.add_argument("--version", default=None, help="of the image (default: the software's)")
    parser.add_argument("--identity", type=Path, help="folder with one device's identity, put on the data partition")
    parser.add_argument("--overlay", type=Path, action="append", default=[], help="folder copied over the root, last")
    parser.add_argument("--bundle-ca", type=Path, help="CA that the device believes bundles from, PEM")
    parser.add_argument("--mirror", action="append", default=[], help="Debian archive, or a line of a sources.list "
                        "(repeat it for updates and security); a dated snapshot pins every version. Default: "
                        "mmdebstrap's own choice")  # fmt: skip
    parser.add_argument("--epoch", type=int, default=EPOCH, help="SOURCE_DATE_EPOCH")
    parser.add_argument("--like", type=Path, help="SBOM of an earlier build: refuse any other package or version")
    parser.add_argument("--data-mib", type=int, default=512, help="size of the data partition")
    parser.add_argument(
        "--kiosk", action="store_true", help="with cage and Chromium, for a touch screen: OUT/BOARD-kiosk"
    )
    parser.add_argument("--loud", action="store_true", help="kernel and systemd speak on the console (tests)")
    parser.add_argument("--root-only", action="store_true", help="no card: only slot, SBOM and report")
    parser.add_argument("--debian-only", action="store_true", help="only install Debian's packages, into OUT/cache")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    given = parser.parse_args(words)
    board = BOARDS[given.board].with_kiosk() if given.kiosk else BOARDS[given.board]
    out = given.out.resolve() / board.name
    out.mkdir(parents=True, exist_ok=True)
    request = Request(
        board, out, given.version or software_version(), given.epoch, given.identity,
        tuple(given.overlay),
        tuple(given.mirror), given.data_mib, given.kiosk, given.loud, given.like, given.bundle_ca,
        given.root_only, given.debian_only,
    )  # fmt: skip
    return request, given.json


def software_version() -> str:
    """The version of the device's software in this clone."""
    text = (REPOSITORY / "device/turnkey/__init__.py").read_text()
    found = re.search(r'__version__ = "([^"]+)"', text)
    return found.group(1) if found else "0"


def main() -> int:
    """Entry point."""
    request, as_json = arguments()
    steps = Steps(request.out / "build.log")
    steps.log.write_text("")
    try:
        report = build(request, steps)
    except BuildError as error:
        print(f"image-build: {error}", file=sys.stderr)
        return 1
    if report is not None:
        print(json.dumps(report) if as_json else shown(report))
    return 0


def card_main() -> int:
    """Entry point of image-build/card."""
    parser = argparse.ArgumentParser(
        prog="image-build/card",
        description="Make one device's card from the slot that image-build/build made: seconds, not minutes. "
        "The identity is the folder that `turnkeyctl provision` wrote for the device.",
    )
    parser.add_argument("board", choices=sorted(BOARDS))
    parser.add_argument("--identity", type=Path, help="folder with the device's identity (default: nobody's card)")
    parser.add_argument("--card", type=Path, required=True, help="the image file to write; flash it with any tool")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build", help="folder of the builds (default: build/)")
    parser.add_argument("--data-mib", type=int, default=512, help="size of the data partition; it grows with the card")
    parser.add_argument("--kiosk", action="store_true", help="the image that was built with --kiosk")
    given = parser.parse_args()
    board = BOARDS[given.board].with_kiosk() if given.kiosk else BOARDS[given.board]
    out = given.out.resolve() / board.name
    steps = Steps(out / "card.log")
    try:
        size = make_card(board, out, given.identity, given.card.resolve(), given.data_mib, steps)
    except BuildError as error:
        print(f"image-build: {error}", file=sys.stderr)
        return 1
    print(f"{given.card}: {size} MiB")
    return 0
