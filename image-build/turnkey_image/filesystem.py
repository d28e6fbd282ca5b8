"""One slot's file system: ext4 made from a folder, without a loop device, the same bytes for the same tree.

Rules kept here:
1. Identifiers and times come from the tree's own digest and SOURCE_DATE_EPOCH. mke2fs copies each file's change time,
   which nobody can set; debugfs writes the epoch over it afterwards.
2. U-Boot must read it (it loads kernel and initramfs from the slot): no feature that its ext4 does not know.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from turnkey_image.programs import BuildError, Steps, need

FEATURES: Final = "^has_journal,^metadata_csum_seed,^orphan_file,^resize_inode"
"""No journal: the slot is only ever mounted read-only, and written as a whole."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A file system that was made.

    Attributes:
        sha256: of the image.
        taken_mib: of its blocks, its own tables among them; blocks of zeros take none.
    """

    sha256: str
    taken_mib: int


def make_ext4(root: Path, image: Path, label: str, digest: str, epoch: int, steps: Steps, mib: int) -> Slot:
    """Make `image` from `root`. Raises: BuildError, also where the tree does not fit."""
    need("mke2fs", "debugfs")
    identifier = str(uuid.UUID(digest[:32]))
    image.unlink(missing_ok=True)
    fixed = {"E2FSPROGS_FAKE_TIME": str(epoch), "SOURCE_DATE_EPOCH": str(epoch), "MKE2FS_CONFIG": "/dev/null"}
    steps.run(
        f"file system {image.name}",
        ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-O",
         f"extents,filetype,dir_index,sparse_super,large_file,huge_file,extra_isize,64bit,{FEATURES}",
         "-E", f"hash_seed={identifier},lazy_itable_init=0,root_owner=0:0", "-U", identifier, "-L", label,
         "-d", root, image, f"{mib}M"],
        environment=fixed,
    )  # fmt: skip
    count = image.with_suffix(".counts")
    steps.run("counting inodes", ["sh", "-c", f"dumpe2fs -h '{image}' 2>/dev/null > '{count}'"])
    described = count.read_text()
    count.unlink()
    steps.run(
        f"times of {image.name}",
        ["debugfs", "-w", "-f", "-", image],
        environment=fixed,
        text_in=set_times(range(1, in_use(described, "inodes") + 1), epoch),
    )
    taken_mib = -(-in_use(described, "blocks") * 4096 // 2**20)
    return Slot(hashlib.sha256(image.read_bytes()).hexdigest(), taken_mib)


def in_use(described: str, what: Literal["inodes", "blocks"]) -> int:
    """How many `dumpe2fs -h` says are taken; mke2fs hands out inodes from the first on. Raises: BuildError."""
    counts = dict(line.split(":", 1) for line in described.splitlines() if ":" in line)
    try:
        return int(counts[f"{what[:-1].capitalize()} count"]) - int(counts[f"Free {what}"])
    except (KeyError, ValueError) as error:
        raise BuildError(f"dumpe2fs says nothing of {what}: {error}") from error


def set_times(inodes: range, epoch: int) -> str:
    """debugfs's commands that put each inode's times at `epoch`, but for the content's, which is the tree's."""
    at = f"@{epoch}"
    fields = ("atime", "ctime", "crtime", "atime_extra", "ctime_extra", "mtime_extra", "crtime_extra")
    return "".join(
        f"set_inode_field <{number}> {field} {'0' if field.endswith('extra') else at}\n"
        for number in inodes
        for field in fields
    )
