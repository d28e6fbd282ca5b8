"""From the frames of one press of the shutter to one template: inspect, embed, fuse.

Rules kept here:
1. The permit is checked before each step and once more before a template is handed out.
2. A frame of poor quality gives no template at all: what was not computed cannot be searched by mistake.
3. Of a burst the bad frames are dropped and the rest fused (`fusion`); a burst without a good frame is refused for what
   ailed most of its frames, one whose good frames show two persons is refused whole.
4. Frames are looked at one by one, as the camera takes them, and not kept: what is kept is the aligned face. No
   template is computed before the burst has ended and whoever asked for it was told (`seen`).
5. A frame that shows what a good one before it showed (`sameness`) is passed over: it would say the same about the
   person, and about whether it is the same person. Each frame that differs is looked at in full.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.capture.camera import Frame
from turnkey.interlock.permit import Permit
from turnkey.vision.detector import Face
from turnkey.vision.embedder import Embedder
from turnkey.vision.fusion import agreement_threshold, fuse, of_one_person
from turnkey.vision.inspector import Inspected, Inspector, StageTimings
from turnkey.vision.limits import QualityLimits
from turnkey.vision.manifest import Manifest, read_manifest
from turnkey.vision.quality import Quality, unified_score
from turnkey.vision.refusals import VisionReason, VisionRefusal
from turnkey.vision.sameness import Glimpse, glimpse, shows_the_same


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
    def load(
        cls,
        models: Path,
        manifest: Manifest | None = None,
        *,
        threads: int = 1,
        limits: QualityLimits = QualityLimits(),  # noqa: B008
    ) -> Analyzer:
        """Load the models after checking their hashes.

        Args:
            models: directory with manifest.toml.
            manifest: that was accepted: only what it names is loaded, whatever has taken its place; None to read it.
            threads: for XNNPACK, fixed for the analyzer's life.
            limits: of quality, where a call names no others.

        Raises:
            ModelError: anything missing, altered or unfit.
        """
        manifest = manifest or read_manifest(models)
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
        self,
        frames: Iterable[Frame],
        permit: Permit,
        limits: QualityLimits | None = None,
        seen: Callable[[int], None] = lambda _frames: None,
    ) -> Analysis | VisionRefusal:
        """The frames of one press of the shutter, at least one, to one template, or the reason why not.

        Args:
            frames: each is asked for when the one before was looked at, and not held on to.
            limits: in place of the device's own: the policy's.
            seen: told how many frames there were, before any template is computed.

        Raises:
            Stopped: the permit died on the way; nothing is kept.
        """
        limits = limits or self.limits
        kept, refused, count = self._looked_at(frames, permit, limits)
        permit.check()
        seen(count)
        good: list[Analysis] = []
        for inspected in kept:
            outcome = self._embedded(inspected, permit, limits)
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

    def _looked_at(
        self, frames: Iterable[Frame], permit: Permit, limits: QualityLimits
    ) -> tuple[list[Inspected], list[VisionReason], int]:
        """What passed, why the others did not, and how many frames there were."""
        kept: list[Inspected] = []
        refused: list[VisionReason] = []
        remembered: list[Glimpse] = []
        count = 0
        for frame in frames:
            count += 1
            permit.check()
            if not any(shows_the_same(frame.pixels, one) for one in remembered):
                # Which way up the camera stands does not change within a press: one good frame has told.
                outcome = self._inspector.inspect(frame.pixels, permit, limits, upright=bool(kept))
                if isinstance(outcome, Inspected):
                    kept.append(outcome)
                    remembered.append(glimpse(frame.pixels, outcome.face.box))
                else:
                    refused.append(outcome)
            del frame  # before the next is asked for: one frame's memory at a time
        return kept, refused, count

    def _embedded(self, inspected: Inspected, permit: Permit, limits: QualityLimits) -> Analysis | VisionReason:
        permit.check()
        began = time.perf_counter()
        embedding = self._embedder.measured(inspected.aligned)
        timings = inspected.timings + StageTimings(embed_ms=1e3 * (time.perf_counter() - began))
        quality = Quality(inspected.components, unified_score(embedding.length))
        if quality.score < limits.min_score:
            return VisionReason.BELOW_FLOOR
        return Analysis(embedding.template, quality, inspected.face, timings)
