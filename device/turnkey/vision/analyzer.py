"""From a frame to a template: detect, choose the one face, align, measure, embed, centre.

Rules kept here:
1. The permit is checked before each step and once more before a template is handed out.
2. Exactly one face, or a named refusal. Faces much smaller than the largest are scenery
   (`QualityLimits.second_face_share`).
3. A frame of poor quality gives no template at all: what was not computed cannot be searched by mistake.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.capture.camera import Frame
from turnkey.interlock.permit import Permit
from turnkey.vision.align import align
from turnkey.vision.detector import Detector, Face
from turnkey.vision.embedder import Embedder
from turnkey.vision.manifest import Manifest, read_manifest
from turnkey.vision.quality import (
    Quality,
    QualityLimits,
    VisionReason,
    VisionRefusal,
    measure,
    placement_refusal,
    quality_refusal,
)


@dataclass(frozen=True)
class StageTimings:
    """Wall-clock time of each stage, milliseconds. `detect_ms` holds all passes."""

    detect_ms: float
    quality_ms: float
    align_ms: float
    embed_ms: float


@dataclass(frozen=True, eq=False)
class Analysis:
    """What one frame gave.

    Attributes:
        template: (128,) float32, centred, unit norm.
        quality: of this face.
        face: where it is, frame pixels.
        timings: of the stages.
    """

    template: NDArray[np.float32]
    quality: Quality
    face: Face
    timings: StageTimings


class Analyzer:
    """The vision room's one door. Not safe for several threads at once."""

    def __init__(self, manifest: Manifest, detector: Detector, embedder: Embedder, limits: QualityLimits) -> None:
        self.manifest = manifest
        self._detector = detector
        self._embedder = embedder
        self._limits = limits

    @classmethod
    def load(cls, models: Path, *, threads: int = 1, limits: QualityLimits = QualityLimits()) -> Analyzer:  # noqa: B008
        """Load both models after checking their hashes.

        Args:
            models: directory with manifest.toml.
            threads: for XNNPACK, fixed for the analyzer's life.

        Raises:
            ModelError: anything missing, altered or unfit.
        """
        manifest = read_manifest(models)
        detector = Detector.load(models, manifest.detector, threads=threads)
        embedder = Embedder.load(models, manifest.embedder, threads=threads)
        return cls(manifest, detector, embedder, limits)

    def analyze(self, frame: Frame, permit: Permit) -> Analysis | VisionRefusal:
        """One frame to one template, or the reason why not.

        Raises:
            Stopped: the permit died on the way; nothing is kept.
        """
        permit.check()
        began = time.perf_counter()
        faces = self._detector.find(frame.pixels)
        refused = placement_refusal(faces, frame.pixels.shape, self._limits)
        if refused is not None:
            return VisionRefusal.because(refused)
        permit.check()
        largest = max(faces, key=lambda found: found.box.area)
        if self._detector.quarter_turns(frame.pixels, largest):
            return VisionRefusal.because(VisionReason.NOT_UPRIGHT)
        permit.check()
        face = self._detector.refine(frame.pixels, largest)
        detected = time.perf_counter()
        permit.check()
        if face.inter_eye_px < 1:
            return VisionRefusal.because(VisionReason.FACE_TOO_SMALL)
        aligned = align(frame.pixels, face.landmarks)
        cut = time.perf_counter()
        quality = measure(face, aligned, frame.pixels.shape, self._limits)
        refused = quality_refusal(quality, self._limits)
        judged = time.perf_counter()
        if refused is not None:
            return VisionRefusal.because(refused)
        permit.check()
        template = self._embedder.embed(aligned)
        embedded = time.perf_counter()
        permit.check()
        timings = StageTimings(
            detect_ms=1e3 * (detected - began),
            quality_ms=1e3 * (judged - cut),
            align_ms=1e3 * (cut - detected),
            embed_ms=1e3 * (embedded - judged),
        )
        return Analysis(template, quality, face, timings)
