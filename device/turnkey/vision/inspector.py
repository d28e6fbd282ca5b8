"""Is there one face in this frame, and is it good enough? Everything that comes before a template, and no template.

Rules kept here:
1. The permit is checked before each step.
2. Exactly one face in a frame, or a named refusal. Faces much smaller than the largest are scenery
   (`QualityLimits.second_face_share`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.interlock.permit import Permit
from turnkey.vision.align import align
from turnkey.vision.detector import Detector, Face
from turnkey.vision.limits import QualityLimits
from turnkey.vision.manifest import Manifest
from turnkey.vision.mesh import FaceMesh
from turnkey.vision.quality import Components, measure, placement_refusal, quality_refusal
from turnkey.vision.refusals import VisionReason


@dataclass(frozen=True)
class StageTimings:
    """Wall-clock time of each stage over all frames, milliseconds. `detect_ms` holds all passes."""

    detect_ms: float = 0.0
    align_ms: float = 0.0
    quality_ms: float = 0.0
    embed_ms: float = 0.0

    def __add__(self, other: StageTimings) -> StageTimings:
        return StageTimings(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


@dataclass(frozen=True, eq=False)
class Inspected:
    """A face that passed.

    Attributes:
        face: where it is, frame pixels.
        aligned: (112, 112, 3) uint8 RGB, what the embedder sees.
        components: of its quality.
        timings: of the stages so far.
    """

    face: Face
    aligned: NDArray[np.uint8]
    components: Components
    timings: StageTimings


class Inspector:
    """Detector and face mesh. Not safe for several threads at once."""

    def __init__(self, detector: Detector, mesh: FaceMesh) -> None:
        self._detector = detector
        self._mesh = mesh

    @classmethod
    def load(cls, models: Path, manifest: Manifest, *, threads: int = 1) -> Inspector:
        """Verify and load both. Raises ModelError."""
        detector = Detector.load(models, manifest.detector, threads=threads)
        return cls(detector, FaceMesh.load(models, manifest.mesh, threads=threads))

    def inspect(
        self, pixels: NDArray[np.uint8], permit: Permit, limits: QualityLimits, *, upright: bool = False
    ) -> Inspected | VisionReason:
        """One frame.

        Args:
            pixels: (height, width, 3) uint8 RGB.
            limits: to hold it to.
            upright: the camera is known to stand upright, so that need not be looked at.

        Raises:
            Stopped: the permit died on the way.
        """
        permit.check()
        began = time.perf_counter()
        faces = self._detector.find(pixels)
        refused = placement_refusal(faces, pixels.shape, limits)
        if refused is not None:
            return refused
        permit.check()
        largest = max(faces, key=lambda found: found.box.area)
        if not upright and self._detector.quarter_turns(pixels, largest):
            return VisionReason.NOT_UPRIGHT
        permit.check()
        face = self._detector.refine(pixels, largest)
        detected = time.perf_counter()
        permit.check()
        if face.inter_eye_px < 1:
            return VisionReason.FACE_TOO_SMALL
        aligned = align(pixels, face.landmarks)
        cut = time.perf_counter()
        permit.check()
        components = measure(face, aligned, self._mesh.find(pixels, face.landmarks), pixels)
        refused = quality_refusal(components, limits)
        if refused is not None:
            return refused
        timings = StageTimings(
            detect_ms=1e3 * (detected - began),
            align_ms=1e3 * (cut - detected),
            quality_ms=1e3 * (time.perf_counter() - cut),
        )
        return Inspected(face, aligned, components, timings)
