"""From the frames of one press of the shutter to one template: inspect, embed, fuse.

Rules kept here:
1. The permit is checked before each step and once more before a template is handed out.
2. A frame of poor quality gives no template at all: what was not computed cannot be searched by mistake.
3. Of a burst the bad frames are dropped and the rest fused (`fusion`); a burst without a good frame is refused for what
   ailed most of its frames, one whose good frames show two persons is refused whole.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.capture.camera import Frame
from turnkey.interlock.permit import Permit
from turnkey.vision.detector import Face
from turnkey.vision.embedder import Embedder
from turnkey.vision.fusion import agreement_threshold, fuse, of_one_person
from turnkey.vision.inspector import Inspector, StageTimings
from turnkey.vision.limits import QualityLimits
from turnkey.vision.manifest import Manifest, read_manifest
from turnkey.vision.quality import Quality, unified_score
from turnkey.vision.refusals import VisionReason, VisionRefusal


@dataclass(frozen=True, eq=False)
class Analysis:
    """What one frame, or the good frames of one press, gave.

    Attributes:
        template: (128,) float32, centred, unit norm.
        quality: of this face; the best frame's where several were fused.
        face: where it is, pixels of that frame.
        timings: of the stages, the good frames together.
        fused: how many frames the template is made of.
    """

    template: NDArray[np.float32]
    quality: Quality
    face: Face
    timings: StageTimings
    fused: int = 1


class Analyzer:
    """The vision room's one door. Not safe for several threads at once."""

    def __init__(self, manifest: Manifest, inspector: Inspector, embedder: Embedder, limits: QualityLimits) -> None:
        self.manifest = manifest
        self.limits = limits
        self._inspector = inspector
        self._embedder = embedder
        self._agreement = agreement_threshold(manifest.calibration)

    @classmethod
    def load(cls, models: Path, *, threads: int = 1, limits: QualityLimits = QualityLimits()) -> Analyzer:  # noqa: B008
        """Load the models after checking their hashes.

        Args:
            models: directory with manifest.toml.
            threads: for XNNPACK, fixed for the analyzer's life.
            limits: of quality, where a call names no others.

        Raises:
            ModelError: anything missing, altered or unfit.
        """
        manifest = read_manifest(models)
        inspector = Inspector.load(models, manifest, threads=threads)
        return cls(manifest, inspector, Embedder.load(models, manifest.embedder, threads=threads), limits)

    def analyze(self, frame: Frame, permit: Permit, limits: QualityLimits | None = None) -> Analysis | VisionRefusal:
        """One frame to one template, or the reason why not.

        Args:
            limits: in place of the device's own: the policy's.

        Raises:
            Stopped: the permit died on the way; nothing is kept.
        """
        return self.analyze_burst((frame,), permit, limits)

    def analyze_burst(
        self, frames: Sequence[Frame], permit: Permit, limits: QualityLimits | None = None
    ) -> Analysis | VisionRefusal:
        """The frames of one press of the shutter, at least one, to one template, or the reason why not.

        Raises:
            Stopped: the permit died on the way; nothing is kept.
        """
        limits = limits or self.limits
        good: list[Analysis] = []
        refused: list[VisionReason] = []
        for frame in frames:
            # Which way up the camera stands does not change within a press: one good frame has told.
            outcome = self._one(frame, permit, limits, upright=bool(good))
            if isinstance(outcome, Analysis):
                good.append(outcome)
            else:
                refused.append(outcome)
        permit.check()
        if not good:
            return VisionRefusal.because(Counter(refused).most_common(1)[0][0])
        templates = [one.template for one in good]
        if not of_one_person(templates, self._agreement):
            return VisionRefusal.because(VisionReason.PERSONS_DIFFER)
        best = max(good, key=lambda one: one.quality.score)
        timings = sum((one.timings for one in good), StageTimings())
        template = fuse(templates, [one.quality.score for one in good])
        permit.check()
        return Analysis(template, best.quality, best.face, timings, fused=len(good))

    def _one(self, frame: Frame, permit: Permit, limits: QualityLimits, *, upright: bool) -> Analysis | VisionReason:
        inspected = self._inspector.inspect(frame.pixels, permit, limits, upright=upright)
        if not isinstance(inspected, VisionReason):
            permit.check()
            began = time.perf_counter()
            embedding = self._embedder.measured(inspected.aligned)
            timings = inspected.timings + StageTimings(embed_ms=1e3 * (time.perf_counter() - began))
            quality = Quality(inspected.components, unified_score(embedding.length))
            if quality.score >= limits.min_score:
                return Analysis(embedding.template, quality, inspected.face, timings)
            inspected = VisionReason.BELOW_FLOOR
        return inspected
