"""The Python environment of the device: /opt/turnkey, from the hash-locked file, for a machine that is not this one.

Rules kept here:
1. Wheels only, hash by hash: no code of a package runs while the image is made.
2. Markers of the lock file are judged for the device, not for the machine that builds.
3. The device's own code goes in as the files that git tracks, and no others.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

from pip._vendor.packaging.markers import Marker, default_environment  # the one that pip itself judges with

from turnkey_image.programs import Steps

PYTHON: Final = "3.13"
"""Debian 13's."""

HOME: Final = Path("opt/turnkey")
SITE: Final = HOME / "lib" / f"python{PYTHON}" / "site-packages"
"""Where the image has its packages."""

GLIBC_OF_WHEELS: Final = ("2_34", "2_31", "2_28", "2_27", "2_26", "2_24", "2_17")
"""manylinux tags that Debian 13 (glibc 2.41) can run and that wheels are published for."""

NOT_ON_A_DEVICE: Final = re.compile(
    r"(^|/)(tests?|testing/data|include|benchmarks?)(/|$)|\.(pyi|pxd|h|hpp|a|c|cpp)$|WebGpuAccelerator\.so$"
)
"""Files of packages that run nothing: their tests, headers, type stubs, drivers of a GPU. Licences stay."""

_KEPT: Final = re.compile(r"^numpy/(testing|_core/tests/_natype)|^pydantic/|^unittest/")


def pip_platforms(machine: str) -> list[str]:
    """The `--platform` arguments for a Debian 13 on `machine` (aarch64, x86_64)."""
    tags = [f"manylinux_{glibc}_{machine}" for glibc in GLIBC_OF_WHEELS] + [f"manylinux2014_{machine}"]
    return [word for tag in tags for word in ("--platform", tag)]


def for_the_device(lock: str, machine: str, python: str = PYTHON) -> str:
    """The lock file with the requirements that the device's Python asks for, and without their markers.

    pip judges markers by the Python that runs it, even where it installs for another one.
    """
    device = {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    kept = []
    for entry in re.split(r"(?m)^(?=[A-Za-z0-9])", lock):
        head, _, hashes = entry.partition("\\\n")
        requirement, _, marker = head.partition(";")
        if entry.strip() and (not marker.strip() or Marker(marker.strip()).evaluate(device)):
            kept.append(f"{requirement.strip()} \\\n{hashes}" if hashes else entry)
    return "".join(kept)


def install(root: Path, repository: Path, machine: str, steps: Steps, python: str = PYTHON) -> None:
    """Put the locked packages and the device's own code under `root`. Raises: BuildError."""
    lock = repository / "device.lock"
    wanted = steps.log.with_name("device.lock")
    wanted.write_text(for_the_device(lock.read_text(), machine, python))
    site = root / HOME / "lib" / f"python{python}" / "site-packages"
    site.mkdir(parents=True)
    steps.run(
        "python packages",
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps",
         # Otherwise judged by the Python that runs pip.
         "--ignore-requires-python", "--require-hashes", "--only-binary=:all:", "--implementation", "cp",
         "--python-version", python, "--abi", f"cp{python.replace('.', '')}", "--abi", "abi3", "--abi", "none",
         *pip_platforms(machine), "--platform", "any", "--target", site, "-r", wanted],
    )  # fmt: skip
    trim(site)
    # For a camera by GStreamer; no wheel of it is published. Without Debian's python3-gi it leads nowhere.
    (site / "gi").symlink_to("/usr/lib/python3/dist-packages/gi")
    copy_tracked(repository / "device" / "turnkey", site / "turnkey")
    models = root / "usr/share/turnkey/models"
    copy_tracked(repository / "models", models)
    # The portrait that the device tries its models on when it examines itself.
    portrait = repository / tomllib.loads((models / "golden.toml").read_text())["picture"]
    shutil.copyfile(portrait, models / portrait.name)
    programs = root / HOME / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(f"/usr/bin/python{python}")
    (root / HOME / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n"
    )


def compile_here(root: Path, steps: Steps) -> None:
    """Compile the environment with this machine's Python, where it is the device's version: emulated ones take minutes.

    What is not compiled here, `finish.sh` compiles inside. The files name no time and never look at their source again.
    """
    python = shutil.which(f"python{PYTHON}")
    # A version switcher's stand-in is found, and says only when it is run that it has no such Python.
    if python is None or subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
        steps.say(f"no python{PYTHON} here: the device's own compiles, which is slow where it is emulated")
        return
    steps.run(
        "compiling Python",
        [python, "-m", "compileall", "-q", "-s", root, "-p", "/", "--invalidation-mode", "unchecked-hash",
         root / SITE, root / f"usr/lib/python{PYTHON}", root / "usr/lib/python3"],
        environment={"PYTHONHASHSEED": "0"},
        tolerated=(0, 1),
    )  # fmt: skip


def trim(site: Path) -> None:
    """Take out what runs nothing, and the traces of the machine that installed it."""
    for path in sorted(site.rglob("*"), reverse=True):
        name = str(path.relative_to(site))
        if _KEPT.match(name):
            continue
        if path.is_file() and (NOT_ON_A_DEVICE.search(name) or path.name == "direct_url.json"):
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    shutil.rmtree(site / "bin", ignore_errors=True)


def copy_tracked(source: Path, target: Path) -> None:
    """Copy the files that git tracks below `source`; outside a clone, all but compiled ones."""
    listed = subprocess.run(["git", "-C", source, "ls-files", "-z", "."], capture_output=True, text=True, check=False)
    names = [name for name in listed.stdout.split("\0") if name]
    if listed.returncode or not names:
        names = [
            str(path.relative_to(source)) for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"
        ]
    for name in names:
        if (source / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)
