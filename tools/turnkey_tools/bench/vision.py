"""Measure the vision room: int8 against float against OpenCV, the partitions, and a 12 MP frame start to end.

Rules kept here:
1. Everything that is compared is measured in one run, one thread, interleaved (`timing.py`).
2. What could not be measured is named with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from turnkey.vision.align import align
from turnkey.vision.detector import Detector
from turnkey.vision.embedder import Embedder
from turnkey.vision.litert import Delegation, Model
from turnkey.vision.manifest import read_manifest
from turnkey_tools.bench.landmarks import LandmarkRow
from turnkey_tools.bench.peers import ONNXRUNTIME, OPENCV, Weights, missing, peer_steps
from turnkey_tools.bench.results import BenchReport, Figure, bench_report, figure
from turnkey_tools.bench.timing import times_ms
from turnkey_tools.models.build import DETECTOR_TWIN, EMBEDDER_TWIN
from turnkey_tools.models.golden import read_golden, read_portrait

TWELVE_MEGAPIXELS = (4032, 3024)


@dataclass(frozen=True)
class VisionBench:
    """What was measured.

    Attributes:
        times_ms: of every round, by step.
        ratios: how many times as fast int8 embeds as each peer.
        delegation: partitions by model.
        absent: what was not measured, and why.
    """

    times_ms: dict[str, list[float]]
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
        with_peers: measure OpenCV and onnxruntime too, where they are installed.
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
    lacking = {peer: missing(peer) if with_peers else "not asked for" for peer in (OPENCV, ONNXRUNTIME)}
    absent += [f"{peer}: {reason}" for peer, reason in lacking.items() if reason is not None]
    if None in lacking.values():
        weights = Weights.read(wheels)
        for peer in (peer for peer, reason in lacking.items() if reason is None):
            steps.update(peer_steps(peer, weights, face, scene))
    times = times_ms(steps, rounds)
    whole = Detector(detector)
    whole_embedder = Embedder(embedder, manifest.embedder.centre(), mirrored=manifest.embedder.mirrored)
    times.update(_twelve_megapixels(portrait, whole, whole_embedder, max(5, rounds // 3)))
    return VisionBench(
        times_ms=times,
        ratios={
            name: median(values) / median(times["embed, int8"])
            for name, values in times.items()
            if name.startswith("embed,") and name != "embed, int8"
        },
        delegation={manifest.detector.id: detector.delegation(), manifest.embedder.id: embedder.delegation()},
        absent=tuple(absent),
    )


def _twelve_megapixels(
    portrait: NDArray[np.uint8], detector: Detector, embedder: Embedder, rounds: int
) -> dict[str, list[float]]:
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

    return times_ms({"12 MP frame: detect + align + embed, int8": start_to_end}, rounds)


PACKAGES = ("ai-edge-litert", "numpy", "pillow", "opencv-contrib-python", "onnxruntime")


def vision_report(result: VisionBench, rows: list[LandmarkRow], settings: dict[str, str | float | bool]) -> BenchReport:
    """The bench's report; `rows` are those of `--landmarks`."""
    figures: list[Figure] = [figure(name, "ms", values) for name, values in result.times_ms.items()]
    for name, delegation in result.delegation.items():
        outside = ", ".join(delegation.left_over) or "nothing"
        figures.append(figure(f"XNNPACK partitions of {name}; outside: {outside}", "count", [delegation.partitions]))
    for row in rows:
        for what, value in (("found", row.found_share), ("landmark error, mean", row.mean), ("p95", row.p95)):
            figures.append(figure(f"faces of {row.face_px} px: {what}", "share", [value]))
    ratios = {f"{name} over int8": ratio for name, ratio in result.ratios.items()}
    peers = [peer for peer in (OPENCV, ONNXRUNTIME) if any(peer in name for name in result.times_ms)]
    return bench_report(
        "vision", settings, figures, packages=PACKAGES, peers=peers, ratios=ratios, absent=result.absent
    )
