"""The camera port: what the booth asks of any camera, and what it gets.

Adapters: `folder.FolderCamera` (a directory of pictures). A contract suite, tests/capture/test_camera_contract.py, runs
over every one of them.

Rules kept here:
1. A frame is taken only under a live permit.
2. Pixels stay in memory: no adapter writes a frame anywhere.
3. Every failure is a `CameraError` with a reason code that says what to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from turnkey.interlock.permit import Permit


class CameraError(Exception):
    """A frame could not be had. `reason` is a code for the ledger, the message is for a person."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture.

    Attributes:
        pixels: (height, width, 3) uint8, RGB, upright (EXIF orientation applied), C-contiguous, read-only.
        taken_ns: monotonic clock at the shutter, nanoseconds.
        source: what produced it, for messages; never stored and never reported.
    """

    pixels: NDArray[np.uint8]
    taken_ns: int
    source: str


class Camera(Protocol):
    """The port."""

    def capture(self, permit: Permit) -> Frame:
        """Take one picture.

        Raises:
            Stopped: the permit is dead.
            CameraError: no picture could be had. `camera-closed` after `close`; an adapter names its other reasons.
        """
        ...

    def close(self) -> None:
        """Release the device. Safe to call twice."""
        ...


class AbsentCamera:
    """Stands where a camera could not be opened: captures say why; orders and expungements work all the same."""

    def __init__(self, error: CameraError) -> None:
        self._error = error

    def capture(self, permit: Permit) -> Frame:
        """Raises: Stopped, or the CameraError that opening the camera raised."""
        permit.check()
        raise self._error

    def close(self) -> None:
        """Nothing is open."""
