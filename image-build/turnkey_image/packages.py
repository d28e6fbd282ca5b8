"""dpkg's list in a root file system: reading it, and taking out what only the build needed.

Rules kept here:
1. A package goes with every file that no other package has, its own configuration too. No script of it runs: what it
   set up beside its files is below /var, which the image does not carry.
2. The list says afterwards what is there, so that the SBOM is true.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

BUILD_ONLY: Final = (
    "adduser",
    "apt",
    "apt-utils",
    "busybox",
    "cpio",
    "debconf",
    "debian-archive-keyring",
    "dracut-install",
    "gpgv",
    "initramfs-tools",
    "initramfs-tools-bin",
    "initramfs-tools-core",
    "klibc-utils",
    "libapt-pkg7.0",
    "libklibc",
    "perl-base",
    "sqv",
    "tzdata",
    "ucf",
)
"""What installs packages and makes initramfs images, and the language that is written in: a device does neither."""

_INFO: Final = Path("var/lib/dpkg/info")
_STATUS: Final = Path("var/lib/dpkg/status")


def take_out(root: Path, names: tuple[str, ...] = BUILD_ONLY) -> str:
    """Remove packages from a tree. Returns: dpkg's status file without them."""
    lists = {path: path.name.removesuffix(".list").split(":")[0] for path in (root / _INFO).glob("*.list")}
    going, kept = set[str](), set[str]()
    for path, name in lists.items():
        (going if name in names else kept).update(path.read_text().splitlines())
    for name in sorted(going - kept, reverse=True):
        path = root / name.lstrip("/")
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    stanzas = (root / _STATUS).read_text().split("\n\n")
    return "\n\n".join(stanza for stanza in stanzas if _name(stanza) not in names)


def _name(stanza: str) -> str:
    found = re.search(r"(?m)^Package: (\S+)$", stanza)
    return found.group(1) if found else ""
