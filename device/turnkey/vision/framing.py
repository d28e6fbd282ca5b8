"""The framing guide: where the faces are in a preview frame, so that the console can say "move closer".

Two engines behind one port. MediaPipe's FaceDetector (BlazeFace short-range; the extra `mediapipe`) is made for a live
preview; YuNet, which every device carries for the picture itself, does it everywhere else.

Rules kept here:
1. Which engine runs is decided once, by `choose_engine`, and the guide says which (`engine`). An engine that was chosen
   and fails to start is an error, not a reason to try the other.
2. MediaPipe runs only in a process that has no network. Its published wheels report each use of a task to Google (see
   "Privacy Notice" in their metadata; no documented setting stops it), and nothing leaves this device but what the
   notary signed. `turnkey-booth` has PrivateNetwork=yes; a process with a network, such as a developer's, gets YuNet.
3. The guide's model is verified like any other: MediaPipe gets the bytes that were hashed, never a path.
4. Looking for a face needs a permit. Nothing seen is kept, and nothing but boxes comes out.
"""

from __future__ import annotations

import errno
import importlib
import socket
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from turnkey.interlock.permit import Permit
from turnkey.vision.advice import FaceBox
from turnkey.vision.detector import Detector
from turnkey.vision.geometry import Box
from turnkey.vision.litert import verified_bytes
from turnkey.vision.manifest import Manifest, ModelError, read_manifest

# Rows and columns are skipped as long as the shorter side keeps this many: four samples for each that BlazeFace sees.
_ENOUGH_PX: Final = 512


class Engine(StrEnum):
    """What does the looking."""

    MEDIAPIPE = "mediapipe"
    YUNET = "yunet"


class FramingGuide(Protocol):
    """The port. For one thread at a time."""

    @property
    def engine(self) -> Engine:
        """Which engine this is, for the health page and the log."""
        ...

    def look(self, pixels: NDArray[np.uint8], permit: Permit) -> tuple[FaceBox, ...]:
        """Find the faces of one preview frame.

        Args:
            pixels: (height, width, 3) uint8 RGB, upright.
            permit: checked before and after.

        Returns:
            Boxes in pixels of that frame, in no particular order; feed them to `advice.advise`.

        Raises:
            Stopped: the permit is dead.
        """
        ...

    def close(self) -> None:
        """Release the engine. Safe to call twice."""
        ...


class MediaPipeGuide:
    """The port over MediaPipe Tasks.

    Args:
        model: the verified bytes of BlazeFace short-range with normalisation metadata.

    Raises:
        ModelError: `guide-has-network`: this process could report to Google (rule 2); `guide-unusable`: MediaPipe is
            not installed, cannot start, or does not take the model.
    """

    def __init__(self, model: bytes) -> None:
        if has_network():
            raise ModelError(
                "guide-has-network", "MediaPipe reports its use over the network: cut the network off first."
            )
        try:
            self._mediapipe: Any = importlib.import_module("mediapipe")
            tasks: Any = importlib.import_module("mediapipe.tasks.python")
            options = tasks.vision.FaceDetectorOptions(base_options=tasks.BaseOptions(model_asset_buffer=model))
            self._detector: Any = tasks.vision.FaceDetector.create_from_options(options)
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            message = f"MediaPipe cannot run the framing guide: {error}. Repair it or remove the package."
            raise ModelError("guide-unusable", message) from error

    @property
    def engine(self) -> Engine:
        return Engine.MEDIAPIPE

    def look(self, pixels: NDArray[np.uint8], permit: Permit) -> tuple[FaceBox, ...]:
        permit.check()
        # BlazeFace sees 128 px of it; MediaPipe would take 100 ms to shrink a 12 MP frame by itself.
        step = max(1, min(pixels.shape[:2]) // _ENOUGH_PX)
        image = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(pixels[::step, ::step])
        )
        found = self._detector.detect(image).detections
        permit.check()
        return tuple(_face_box(detection, step) for detection in found)

    def close(self) -> None:
        if self._detector is not None:
            self._detector.close()
            self._detector = None


def _face_box(detection: Any, step: int) -> FaceBox:
    """A MediaPipe detection, in pixels of a frame of which every `step`th row and column was shown."""
    box = detection.bounding_box
    place = Box(box.origin_x * step, box.origin_y * step, box.width * step, box.height * step)
    return FaceBox(place, detection.categories[0].score)


class YuNetGuide:
    """The port over YuNet: its first pass alone, since a guide needs no landmarks."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    @property
    def engine(self) -> Engine:
        return Engine.YUNET

    def look(self, pixels: NDArray[np.uint8], permit: Permit) -> tuple[FaceBox, ...]:
        permit.check()
        found = self._detector.find(pixels)
        permit.check()
        return tuple(FaceBox(face.box, face.score) for face in found)

    def close(self) -> None:
        """Nothing to release: LiteRT's interpreter goes with the object."""


def choose_engine(*, mediapipe_imports: bool, network: bool, manifest: Manifest) -> Engine:
    """MediaPipe where it can be imported, cannot report to anybody, and has its model in the manifest; else YuNet."""
    usable = mediapipe_imports and not network and manifest.guide is not None
    return Engine.MEDIAPIPE if usable else Engine.YUNET


def has_network() -> bool:
    """Whether this process can reach more than its own loopback interface; yes where that cannot be told."""
    if not any(_may_open(family) for family in (socket.AF_INET, socket.AF_INET6)):
        return False
    try:
        return any(name != "lo" for _, name in socket.if_nameindex())
    except OSError:
        return True


def _may_open(family: socket.AddressFamily) -> bool:
    """False where the service manager forbids the address family (RestrictAddressFamilies=) or the kernel lacks it."""
    try:
        socket.socket(family, socket.SOCK_DGRAM).close()
    except OSError as error:
        return error.errno not in (errno.EAFNOSUPPORT, errno.EPERM, errno.EACCES)
    return True


def framing_guide(models: Path, *, threads: int = 1) -> FramingGuide:
    """The guide for this device.

    Args:
        models: the directory of manifest.toml and the model files.
        threads: for YuNet; MediaPipe has no such setting.

    Raises:
        ModelError: a model or the manifest is missing, altered or unusable.
    """
    manifest = read_manifest(models)
    engine = choose_engine(mediapipe_imports=_mediapipe_imports(), network=has_network(), manifest=manifest)
    if engine is Engine.MEDIAPIPE and manifest.guide is not None:
        return MediaPipeGuide(verified_bytes(models, manifest.guide))
    return YuNetGuide(Detector.load(models, manifest.detector, threads=threads))


def _mediapipe_imports() -> bool:
    try:
        importlib.import_module("mediapipe")
    except ImportError:
        return False
    return True
