"""Measure the vision room: int8 against float against OpenCV, the partitions, and a 12 MP frame start to end.

Rules kept here:
1. Everything that is compared is measured in one run, one thread, interleaved (`timing.py`).
2. What could not be measured is named with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from turnkey.vision.align import align
from turnkey.vision.detector import Detector
from turnkey.vision.embedder import Embedder
from turnkey.vision.litert import Delegation, Model
from turnkey.vision.manifest import read_manifest
from turnkey_tools.bench.peers import missing_peers, opencv_steps
from turnkey_tools.bench.timing import medians_ms
from turnkey_tools.models.build import DETECTOR_TWIN, EMBEDDER_TWIN
from turnkey_tools.models.golden import read_golden, read_portrait

TWELVE_MEGAPIXELS = (4032, 3024)


@dataclass(frozen=True)
class VisionBench:
    """What was measured.

    Attributes:
        medians_ms: by step.
        ratios: how many times as fast int8 embeds as each peer.
        delegation: partitions by model.
        absent: what was not measured, and why.
    """

    medians_ms: dict[str, float]
    ratios: dict[str, float]
    delegation: dict[str, Delegation]
    absent: tuple[str, ...] = field(default=())


def bench_vision(
    models: Path, repository: Path, *, twins: Path | None, wheels: Path | None, with_peers: bool, rounds: int
) -> VisionBench:
    """Measure.

    Args:
        models: the models directory.
        repository: where the golden portrait's path starts.
        twins: folder with the float twins, or None.
        wheels: folder with the wheels for the OpenCV peers, or None for pip.
        with_peers: measure OpenCV too, where it is installed.
        rounds: of each step.

    Raises:
        ModelError, GoldenError, SourceError, OSError.
    """
    manifest = read_manifest(models)
    detector = Model.load(models, manifest.detector)
    embedder = Model.load(models, manifest.embedder)
    golden = read_golden(models)
    portrait = read_portrait(golden, repository)
    face = align(portrait, golden.points())
    side = manifest.detector.input_px
    scene = np.asarray(Image.fromarray(portrait).resize((side, side)))
    steps: dict[str, Callable[[], object]] = {
        "embed, int8": lambda: embedder.run(face),
        "detect (one pass), int8": lambda: detector.run(scene),
    }
    absent = []
    if twins is not None:
        float_detector = Model((twins / DETECTOR_TWIN).read_bytes())
        float_embedder = Model((twins / EMBEDDER_TWIN).read_bytes(), float_scale=1 / 128, float_zero=128)
        steps["embed, float TFLite"] = lambda: float_embedder.run(face)
        steps["detect (one pass), float TFLite"] = lambda: float_detector.run(scene)
    else:
        absent.append("float TFLite: give --twins (made by `turnkeyctl models build --only-twins --float-twins DIR`)")
    lacking = missing_peers() if with_peers else "not asked for"
    if lacking is None:
        steps.update(opencv_steps(wheels, face, scene))
    else:
        absent.append(f"OpenCV: {lacking}")
    medians = medians_ms(steps, rounds)
    whole = Detector(detector)
    medians.update(
        _twelve_megapixels(portrait, whole, Embedder(embedder, manifest.embedder.centre()), max(5, rounds // 3))
    )
    return VisionBench(
        medians_ms=medians,
        ratios={
            name: value / medians["embed, int8"]
            for name, value in medians.items()
            if name.startswith("embed,") and name != "embed, int8"
        },
        delegation={manifest.detector.id: detector.delegation(), manifest.embedder.id: embedder.delegation()},
        absent=tuple(absent),
    )


def _twelve_megapixels(
    portrait: NDArray[np.uint8], detector: Detector, embedder: Embedder, rounds: int
) -> dict[str, float]:
    """Detect, align and embed on a decoded 12 MP frame: the portrait filling the height, as at a booking desk."""
    width, height = TWELVE_MEGAPIXELS
    shown = Image.fromarray(portrait)
    scale = min(width / shown.width, height / shown.height)
    shown = shown.resize((round(shown.width * scale), round(shown.height * scale)))
    canvas = Image.new("RGB", TWELVE_MEGAPIXELS, (118, 122, 126))
    canvas.paste(shown, ((width - shown.width) // 2, (height - shown.height) // 2))
    frame = np.asarray(canvas)

    def start_to_end() -> object:
        found = max(detector.find(frame), key=lambda face: face.box.area)
        return embedder.embed(align(frame, detector.refine(frame, found).landmarks))

    return medians_ms({"12 MP frame: detect + align + embed, int8": start_to_end}, rounds)
