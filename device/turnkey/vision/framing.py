"""The framing guide: where the faces are in a preview frame, so that the console can say "move closer".

Two engines behind one port. MediaPipe's FaceDetector (BlazeFace short-range; the extra `mediapipe`) is made for a live
preview; YuNet, which every device carries for the picture itself, does it where MediaPipe is not installed.

Rules kept here:
1. Which engine runs is decided once, by `choose_engine`, from what is installed, and the guide says which (`engine`).
   An engine that was chosen and fails to start is an error, not a reason to try the other.
2. The guide's model is verified like any other: MediaPipe gets the bytes that were hashed, never a path.
3. Looking for a face needs a permit. Nothing seen is kept, and nothing but boxes comes out.
"""

from __future__ import annotations

import importlib
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from turnkey.interlock.permit import Permit
from turnkey.vision.advice import FaceBox
from turnkey.vision.detector import Detector
from turnkey.vision.geometry import Box
from turnkey.vision.litert import verified_bytes
from turnkey.vision.manifest import Manifest, ModelError, read_manifest


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
        ModelError: `guide-unusable`: MediaPipe is not installed, cannot start, or does not take the model.
    """

    def __init__(self, model: bytes) -> None:
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
        image = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(pixels, dtype=np.uint8)
        )
        found = self._detector.detect(image).detections
        permit.check()
        return tuple(
            FaceBox(Box(box.origin_x, box.origin_y, box.width, box.height), detection.categories[0].score)
            for detection in found
            for box in (detection.bounding_box,)
        )

    def close(self) -> None:
        if self._detector is not None:
            self._detector.close()
            self._detector = None


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


def choose_engine(*, mediapipe_imports: bool, manifest: Manifest) -> Engine:
    """MediaPipe where it can be imported and the manifest carries its model; else YuNet."""
    return Engine.MEDIAPIPE if mediapipe_imports and manifest.guide is not None else Engine.YUNET


def framing_guide(models: Path, *, threads: int = 1) -> FramingGuide:
    """The guide for this device.

    Args:
        models: the directory of manifest.toml and the model files.
        threads: for YuNet; MediaPipe has no such setting.

    Raises:
        ModelError: a model or the manifest is missing, altered or unusable.
    """
    manifest = read_manifest(models)
    engine = choose_engine(mediapipe_imports=_mediapipe_imports(), manifest=manifest)
    if engine is Engine.MEDIAPIPE and manifest.guide is not None:
        return MediaPipeGuide(verified_bytes(models, manifest.guide))
    return YuNetGuide(Detector.load(models, manifest.detector, threads=threads))


def _mediapipe_imports() -> bool:
    try:
        importlib.import_module("mediapipe")
    except ImportError:
        return False
    return True
