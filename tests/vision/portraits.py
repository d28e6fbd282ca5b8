"""Portraits and permits for the vision tests: real pictures, a real permit."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.capture.camera import Frame
from turnkey.capture.picture import decode_picture
from turnkey.interlock.permit import Permit

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = REPOSITORY / "models"
PORTRAIT = REPOSITORY / "tests/faces/obama/obama-2012.jpg"
OTHER_DAY = REPOSITORY / "tests/faces/obama/obama-senate.jpg"
OTHER_PERSON = REPOSITORY / "tests/faces/ardern/ardern-2018.jpg"


def pixels_of(path: Path) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB."""
    return decode_picture(path.read_bytes(), path.name)


def frame_of(pixels: NDArray[np.uint8]) -> Frame:
    """A frame as a camera would hand it on."""
    return Frame(np.ascontiguousarray(pixels), time.monotonic_ns(), "test")


def live_permit() -> Permit:
    """Good for ten minutes."""
    return Permit(time.monotonic_ns, time.monotonic_ns() + 600 * 10**9)


def every_portrait() -> list[Path]:
    """Each picture below tests/faces."""
    return sorted(p for p in (REPOSITORY / "tests/faces").glob("*/*") if p.suffix in {".jpg", ".jpeg", ".png"})
