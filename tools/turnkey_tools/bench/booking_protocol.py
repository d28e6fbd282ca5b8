"""What `turnkeyctl bench booking` and the processes that book for it say to each other, one line of JSON each."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel


class Scene(StrEnum):
    """Who is booked: somebody who holds still, or somebody who moves between the frames."""

    STILL = "still"
    MOVING = "moving"


class Ready(BaseModel):
    """It can book: after so many seconds, with so much memory (10^6 bytes)."""

    ready_s: float
    peak_mb: float


class Booked(BaseModel):
    """One booking: wall clock, CPU seconds of all threads, peak memory of the process so far, milliseconds by stage."""

    ms: float
    cpu_s: float
    peak_mb: float
    stages: dict[str, float]


class Spec(BaseModel):
    """What a worker is told.

    Attributes:
        root: the pilot's, with a folder for each scene and `burst/` and `raw/` in it.
        source: `raw`: pixels as a sensor hands them over; `jpeg`: files to decode.
        templates, seed: of the synthetic gallery.
        weights: folder with `yunet.onnx` and `sface.onnx`, for OpenCV.
        lease_ms: how long the device's lease is valid.
    """

    root: Path
    source: str
    templates: int
    seed: int
    weights: Path
    lease_ms: int
