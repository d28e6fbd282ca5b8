"""Whether two builds are the same: what a tree holds, an entry a line, and `image-build/compare`.

Rules kept here:
1. The list that two builds are compared by is the list that the digest is taken of: what the digest sees, a comparison
   can name.
2. Compared are the root file system, entry by entry, the slot's bytes and the boot partition's files. A card is not: it
   holds one device's identity, and its own identifiers.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from turnkey_image.boards import BOARDS
from turnkey_image.bundle import throwaway_keys
from turnkey_image.programs import BuildError, Steps

LISTING: Final = "tree.txt"
"""Beside a build's slot: `listing` of its root file system."""

FIELDS: Final = ("mode", "owner", "group", "time", "content")
_ANSWERS: Final = "0: the same; 1: not; 2: cannot be compared"


@dataclass(frozen=True, slots=True)
class Difference:
    """One entry that is not the same in both.

    Attributes:
        name: below the root.
        what: the fields that differ, or which side lacks it.
    """

    name: str
    what: str


def listing(root: Path, epoch: int) -> list[str]:
    """Every entry below `root`: mode, owner, group, time, SHA-256 or target, name. No time stays later than `epoch`.

    Earlier ones stay: Debian's compiled Python files name the time of their source.
    """
    lines = []
    for path in sorted(root.rglob("*")):
        state = path.lstat()
        content = "-"
        if stat.S_ISLNK(state.st_mode):
            content = f"-> {path.readlink()}"
        elif stat.S_ISREG(state.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        written = min(int(state.st_mtime), epoch)
        os.utime(path, (epoch, written), follow_symlinks=False)
        lines.append(
            f"{state.st_mode:o}\t{state.st_uid}\t{state.st_gid}\t{written}\t{content}\t{path.relative_to(root)}"
        )
    os.utime(root, (epoch, epoch))
    return lines


def digest(lines: Iterable[str]) -> str:
    """SHA-256 of a listing: what two builds are compared by."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def differences(one: Iterable[str], other: Iterable[str]) -> list[Difference]:
    """What differs between two listings, by name."""
    first, second = _by_name(one), _by_name(other)
    found = []
    for name in sorted(first.keys() | second.keys()):
        here, there = first.get(name), second.get(name)
        if here is None or there is None:
            found.append(Difference(name, "only in the second" if here is None else "only in the first"))
        elif here != there:
            which = [field for field, a, b in zip(FIELDS, here, there, strict=True) if a != b]
            found.append(Difference(name, ", ".join(which)))
    return found


def compare(one: Path, other: Path) -> list[Difference]:
    """What differs between two builds' folders (OUT/BOARD). Raises: OSError where there is no build."""
    found = differences((one / LISTING).read_text().splitlines(), (other / LISTING).read_text().splitlines())
    if _sha256(one / "slot.ext4") != _sha256(other / "slot.ext4"):
        found.append(Difference("slot.ext4", "content"))
    boots = [{path.relative_to(each / "boot"): _sha256(path) for path in (each / "boot").rglob("*") if path.is_file()}
             for each in (one, other)]  # fmt: skip
    for name in sorted(boots[0].keys() | boots[1].keys()):
        if boots[0].get(name) != boots[1].get(name):
            found.append(Difference(f"boot partition: {name}", "content"))
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _by_name(lines: Iterable[str]) -> dict[str, list[str]]:
    entries = (line.split("\t", len(FIELDS)) for line in lines)
    return {entry[-1]: entry[:-1] for entry in entries}


def main() -> int:
    """Entry point of image-build/compare."""
    parser = argparse.ArgumentParser(
        prog="image-build/compare",
        description="Compare two builds: the folders OUT/BOARD that image-build/build left. With --make BOARD both are "
        "built first, one after the other, into A and B, and nothing is shared: each installs Debian's packages itself "
        f"unless they lie in its cache/. Exit status {_ANSWERS}.",
    )
    parser.add_argument("a", type=Path, help="folder of the first build (OUT/BOARD; with --make: OUT)")
    parser.add_argument("b", type=Path, help="folder of the second")
    parser.add_argument("--make", choices=sorted(BOARDS), metavar="BOARD", help="build this board twice first")
    parser.add_argument("--most", type=int, default=40, help="how many differences to name (default: 40)")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    one, other = given.a.resolve(), given.b.resolve()
    if given.make:
        try:
            _make_both(given.make, one, other)
        except BuildError as error:
            print(f"image-build: {error}", file=sys.stderr)
            return 2
        one, other = one / given.make, other / given.make
    try:
        found = compare(one, other)
        report = json.loads((one / "report.json").read_text())
    except (OSError, ValueError) as error:
        print(f"image-build: {error}: both folders must hold a build", file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps({"same": not found, "tree_sha256": report["tree_sha256"], "slot_sha256": report["slot_sha256"],
                          "differences": {each.name: each.what for each in found}}))  # fmt: skip
        return 1 if found else 0
    for each in found[: given.most]:
        print(f"{each.what:18} {each.name}")
    if len(found) > given.most:
        print(f"... and {len(found) - given.most} more (--most)")
    print(f"{len(found)} differences" if found else f"the same: tree sha256 {report['tree_sha256']}, "
          f"slot sha256 {report['slot_sha256']}")  # fmt: skip
    return 1 if found else 0


def _make_both(board: str, one: Path, other: Path) -> None:
    """Build the board into two folders. Raises: BuildError.

    Both get the first one's throw-away CA: the certificate that devices believe is input, not outcome.
    """
    one.mkdir(parents=True, exist_ok=True)
    ca = throwaway_keys(one / "throwaway-keys", Steps(one / "keys.log")).ca
    for out in (one, other):
        program = Path(__file__).parents[1] / "build"
        made = subprocess.run(
            [sys.executable, program, board, "--out", out, "--root-only", "--bundle-ca", ca], check=False
        )
        if made.returncode:
            raise BuildError(f"the build into {out} failed")
