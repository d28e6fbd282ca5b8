"""Facts about the machine and the software that a figure was measured with.

Rules kept here:
1. Nothing that names the machine, its user or its place: model, cores, memory, kernel, versions.
2. What cannot be read is `unknown`, never guessed.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from turnkey import __version__

MEASURED_PACKAGES = ("ai-edge-litert", "numkong", "numpy", "pillow", "usearch")


@dataclass(frozen=True)
class Machine:
    """Where something was measured.

    Attributes:
        processor: as the kernel names it; on a board the device tree's model.
        cores: usable by this process.
        memory_mb: of the machine, 10^6 bytes.
        load_1min: the machine's load when the run began: above the cores used, figures are too slow.
        kernel, python, turnkey: versions.
        packages: version by name; `absent` where not installed.
    """

    processor: str
    cores: int
    memory_mb: int
    load_1min: float
    kernel: str
    python: str
    turnkey: str
    packages: dict[str, str]


def this_machine(packages: Iterable[str] = MEASURED_PACKAGES) -> Machine:
    """This machine, now."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6,
        load_1min=round(os.getloadavg()[0], 2),
        kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        turnkey=__version__,
        packages={name: _version(name) for name in packages},
    )


def _processor() -> str:
    board = _read(Path("/proc/device-tree/model")).strip("\0 ")
    if board:
        return board
    name = re.search(r"(?m)^(?:model name|Model)\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")))
    return name.group(1).strip() if name else "unknown"


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
