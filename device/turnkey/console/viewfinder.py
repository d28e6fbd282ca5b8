"""What the camera sees, small, with the one thing to do about it: the booth's side of the live preview.

Rules kept here:
1. A look is a step like any other: it needs a permit, before the camera and after the last computation.
2. The guide's advice comes first (is there one face, of the right size, in the middle), and only then what the checks
   of the picture itself would refuse, so that green means: press the shutter now.
3. Nothing is kept but the last advice and where the face was: not the frame, not its landmarks.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from turnkey.capture.camera import Camera, CameraError
from turnkey.console.room import Dark, Seen
from turnkey.interlock.permit import Permit, Stopped
from turnkey.vision.advice import Advice, FaceBox, advise
from turnkey.vision.framing import FramingGuide
from turnkey.vision.inspector import Inspector
from turnkey.vision.limits import QualityLimits
from turnkey.vision.refusals import VisionReason

JPEG_QUALITY: Final = 80
GUIDE_EVERY: Final = 2
"""The guide looks at each second frame: ten times a second, between pictures that come twenty times a second."""
JUDGE_EVERY: Final = 3
"""The picture's own checks run on each third of those that is framed well: three times a second is faster than anybody
moves, and leaves the processor to the shutter."""

LIMITS_S: Final = 2.0


class Viewfinder:
    """Looks through a camera. For one thread at a time, like the camera.

    Args:
        camera: the booth's.
        guide: finds the faces of a preview frame.
        inspector: measures the one face; its own, since the booth's may be at work.
        permit: gives a live permit, or raises Stopped.
        limits: of the picture's own checks; asked anew each `LIMITS_S`, since a policy may be replaced.
    """

    def __init__(
        self,
        camera: Camera,
        guide: FramingGuide,
        inspector: Inspector,
        permit: Callable[[], Permit],
        limits: Callable[[], QualityLimits],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._camera = camera
        self._guide = guide
        self._inspector = inspector
        self._permit = permit
        self._ask_limits = limits
        self._monotonic_s = monotonic_s
        self._limits = QualityLimits()
        self._asked_s = -LIMITS_S
        self._looks = 0
        self._framed = 0
        self._judged = Advice.GOOD.value
        self._last = Seen(b"", Advice.NO_FACE.value)

    def look(self) -> Seen | Dark:
        """One frame, looked at now."""
        try:
            permit = self._permit()
            pixels = self._camera.preview(permit).pixels
            if self._looks % GUIDE_EVERY == 0:
                faces = self._guide.look(pixels, permit)
                self._last = Seen(b"", self._advice(pixels, faces, permit), _place(faces, pixels.shape))
            self._looks += 1
            jpeg = encoded(pixels)
            permit.check()
        except Stopped as stopped:
            self._looks = 0
            return Dark("stopped", stopped.reason)
        except CameraError as error:
            self._looks = 0
            return Dark("camera", error.reason)
        return replace(self._last, jpeg=jpeg)

    def _advice(self, pixels: NDArray[np.uint8], faces: tuple[FaceBox, ...], permit: Permit) -> str:
        height, width = pixels.shape[:2]
        framing = advise(faces, width, height)
        if framing is not Advice.GOOD:
            self._framed = 0
            return framing.value
        if self._framed % JUDGE_EVERY == 0:
            self._judged = self._verdict(pixels, permit)
        self._framed += 1
        return self._judged

    def _verdict(self, pixels: NDArray[np.uint8], permit: Permit) -> str:
        """What the checks of a picture would say to this frame: a `VisionReason`, or `good`."""
        now_s = self._monotonic_s()
        if now_s - self._asked_s >= LIMITS_S:
            self._limits, self._asked_s = self._ask_limits(), now_s
        outcome = self._inspector.inspect(pixels, permit, self._limits)
        return outcome.value if isinstance(outcome, VisionReason) else Advice.GOOD.value


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """The frame as a JPEG. `pixels`: (height, width, 3) uint8 RGB."""
    picture = io.BytesIO()
    Image.fromarray(pixels).save(picture, "JPEG", quality=JPEG_QUALITY)
    return picture.getvalue()


def _place(faces: tuple[FaceBox, ...], shape: tuple[int, ...]) -> tuple[float, float, float, float] | None:
    if len(faces) != 1:
        return None
    box, (height, width) = faces[0].box, shape[:2]
    return box.left / width, box.top / height, box.width / width, box.height / height
