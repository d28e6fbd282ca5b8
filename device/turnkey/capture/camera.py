"""The camera port: what the booth asks of any camera, and what it gets.

Adapters: `folder.FolderCamera` (a directory of pictures). A contract suite, tests/capture/test_camera_contract.py, runs
over every one of them.

Rules kept here:
1. A frame is taken only under a live permit.
2. Pixels stay in memory: no adapter writes a frame anywhere.
3. Every failure is a `CameraError` with a reason code that says what to do.
4. A preview takes nothing: the frame that a press of the shutter would have got is still to be had.
5. A press gives its frames one at a time: 12 MP are 37 MB, and five of them were half of a booking's memory. An adapter
   may take them all into the same memory, each over the one before, and then says so (`Frame.lent`).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from turnkey.interlock.permit import Permit

PREVIEW_SIDE_PX: Final = 640
"""Longest side of a preview frame: enough for the framing guide, little enough to be sent 15 times a second."""


class CameraError(Exception):
    """A frame could not be had. `reason` is a code for the ledger, the message is for a person."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture.

    Attributes:
        pixels: (height, width, 3) uint8, RGB, upright (EXIF orientation applied), C-contiguous, read-only; in memory of
            their own that nothing else holds, for whoever uses the frame up overwrites it (`overwriting`).
        taken_ns: monotonic clock at the shutter, nanoseconds.
        source: what produced it, for messages; never stored and never reported.
        lent: the press's next frame is taken into the same memory, over these pixels, so that only the last of them has
            to be overwritten by whoever used them up.
    """

    pixels: NDArray[np.uint8]
    taken_ns: int
    source: str
    lent: bool = False


def read_only(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same pixels, not to be changed through what is handed out."""
    view = pixels.view()
    view.flags.writeable = False
    return view


class Camera(Protocol):
    """The port."""

    def capture(self, permit: Permit) -> Frame:
        """Take one picture.

        Raises:
            Stopped: the permit is dead.
            CameraError: no picture could be had. `camera-closed` after `close`; an adapter names its other reasons.
        """
        ...

    def burst(self, permit: Permit, most: int) -> Generator[Frame]:
        """Press the shutter once: the frames it gives, in the order they are taken, at least 1 and at most `most`.

        Each frame is taken when it is asked for and kept by nobody but who asked, so that one frame's memory serves
        for a whole burst. Exposure, white balance and focus stay as they are from the first frame to the last, where
        the camera lets them; they are let go when the burst has ended or its iterator is dropped.

        Raises, at any frame:
            Stopped: the permit is dead; no further frame is handed out.
            CameraError: as `capture`. A burst of which one frame failed is a failed burst.
        """
        ...

    def preview(self, permit: Permit) -> Frame:
        """What the camera sees now, for a person to aim by: upright RGB, its longer side `PREVIEW_SIDE_PX` at most.

        Raises:
            Stopped: the permit is dead.
            CameraError: as `capture`.
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

    def burst(self, permit: Permit, most: int) -> Generator[Frame]:
        """Raises: as `capture`."""
        for _ in range(most):
            yield self.capture(permit)

    def preview(self, permit: Permit) -> Frame:
        """Raises: as `capture`."""
        return self.capture(permit)

    def close(self) -> None:
        """Nothing is open."""
