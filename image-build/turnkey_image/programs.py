"""The programs of the machine that builds, and running them: each step named, timed and logged.

Rules kept here:
1. What is missing is said at once, all of it, with the Debian packages that bring it.
2. A step that fails shows the end of its log and stops the build; nothing after it runs.
3. Nothing outside the folders that the build was given is changed, but for one: the kernel is told once that
   qemu-aarch64-static runs arm64 programs, which only root can do, and the build says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

BINFMT: Final = Path("/proc/sys/fs/binfmt_misc")
BINFMT_FILE: Final = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")

PACKAGE_OF: Final = {
    "mmdebstrap": "mmdebstrap",
    "genimage": "genimage",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "depmod": "kmod",
    "grub-mkimage": "grub-common",
    "grub-editenv": "grub-common",
    "mkimage": "u-boot-tools",
    "fdtget": "device-tree-compiler",
    "fdtput": "device-tree-compiler",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "rauc": "rauc",
    "mksquashfs": "squashfs-tools",
    "zstd": "zstd",
    "openssl": "openssl",
    "dpkg-deb": "dpkg",
    "qemu-aarch64-static": "qemu-user-static",
}
"""Program, and the Debian package that has it."""

LAST_LINES: Final = 25


class BuildError(Exception):
    """The image cannot be made; the message says why and what to do."""


@dataclass
class Steps:
    """Runs the steps of one build.

    Attributes:
        log: everything that the programs said.
        quiet: no progress on standard error.
        seconds: how long each step took.
    """

    log: Path
    quiet: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    def run(
        self,
        step: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        text_in: str | None = None,
        tolerated: Sequence[int] = (0,),
    ) -> None:
        """Run a program to its end. Raises: BuildError where it ends with a code that is not tolerated."""
        words = [str(word) for word in command]
        self.say(f"{step} ...")
        began = time.monotonic()
        with self.log.open("a") as log:
            log.write(f"\n== {step}\n$ {' '.join(words)}\n")
            log.flush()
            done = subprocess.run(
                words,
                stdout=log,
                stderr=log,
                input=text_in or "",
                text=True,
                cwd=cwd,
                env={**os.environ, **(environment or {})},
                check=False,
            )
        took = time.monotonic() - began
        self.seconds[step] = self.seconds.get(step, 0.0) + took
        if done.returncode not in tolerated:
            end = "\n".join(self.log.read_text(errors="replace").splitlines()[-LAST_LINES:])
            raise BuildError(f"{step}: {words[0]} ended with {done.returncode}. The end of {self.log}:\n{end}")
        self.say(f"{step}: {took:.0f} s")

    def say(self, words: str) -> None:
        """Progress, for whoever watches."""
        if not self.quiet:
            print(f"image-build: {words}", file=sys.stderr, flush=True)


def need(*programs: str) -> None:
    """Check that the programs are there. Raises: BuildError, naming the packages."""
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        packages = " ".join(sorted({PACKAGE_OF.get(name, name) for name in missing}))
        raise BuildError(f"missing: {', '.join(missing)}; as root: apt-get install --no-install-recommends {packages}")


def need_root() -> None:
    """Only root may give files to other users in the root file system. Raises: BuildError."""
    if os.geteuid():
        raise BuildError(
            "the root file system holds files of several users: run this as root, in a container, or as\n"
            "  unshare --map-auto --map-root-user --mount image-build/build ..."
        )


def can_run(machine: str) -> None:
    """Make sure that this kernel runs programs of `machine`. Raises: BuildError."""
    if machine == os.uname().machine:
        return
    need("qemu-aarch64-static")
    if not (BINFMT / "status").exists():
        with suppress(OSError):
            subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], check=False, capture_output=True)
    if (BINFMT / f"qemu-{machine}").exists():
        return
    try:
        (BINFMT / "register").write_text(BINFMT_FILE.read_text())
    except OSError as error:
        raise BuildError(
            f"this kernel does not run {machine} programs and cannot be told to ({error}); on the machine itself, as "
            "root: apt-get install qemu-user-static binfmt-support"
        ) from error
