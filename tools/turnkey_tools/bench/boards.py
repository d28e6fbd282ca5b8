"""What the steps of a booking would cost on the boards: a model of operations and bytes, beside what was measured here.

Each step needs so many multiply-accumulates (counted in the model files) and reads so many bytes. On a processor it
takes the longer of both, at a share of what its maker publishes (a roofline: Williams, Waterman & Patterson, CACM
2009). A prediction is a range: from `GOOD_SHARE`, which good kernels reach on simple cores, to the share that the
quickest run reached on this machine, whose wide vectors are harder to fill.

Sources: Arm's software optimisation guides (Cortex-A72: 8 multiply-accumulates of 8 bits a cycle, no dot product;
Cortex-A76 and A78AE: two dot products of 16 a cycle), Raspberry Pi's and NVIDIA's product briefs (clocks, memory).

Rules kept here:
1. A prediction is called one. On a board the same command prints what was measured, in its own lines.
2. One thread, no accelerator: what the device uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from turnkey.vision.litert import Model
from turnkey.vision.manifest import read_manifest
from turnkey_tools.bench.results import BenchReport, bench_report, figure
from turnkey_tools.bench.timing import times_ms


@dataclass(frozen=True)
class Board:
    """Published figures of one board, one core.

    Attributes:
        macs_per_cycle: 8-bit multiply-accumulates a cycle.
        ghz: clock.
        memory_gb_s: of the whole memory, 10^9 bytes a second.
    """

    name: str
    macs_per_cycle: int
    ghz: float
    memory_gb_s: float


BOARDS = (
    Board("Raspberry Pi 4", macs_per_cycle=8, ghz=1.8, memory_gb_s=12.8),
    Board("Raspberry Pi 5", macs_per_cycle=32, ghz=2.4, memory_gb_s=17.1),
    Board("Jetson Orin Nano", macs_per_cycle=32, ghz=1.5, memory_gb_s=68.0),
)
GOOD_SHARE = 0.6


@dataclass(frozen=True)
class Step:
    """What a step needs: multiply-accumulates of 8 bits, and bytes read from memory at least once."""

    name: str
    macs: int
    bytes: int


def predicted_ms(step: Step, board: Board, share: float) -> float:
    """The longer of computing and reading, at `share` (0 to 1) of the published figures."""
    computing_s = step.macs / (board.macs_per_cycle * board.ghz * 1e9)
    reading_s = step.bytes / (board.memory_gb_s * 1e9)
    return 1e3 * max(computing_s, reading_s) / share


def model_step(name: str, model: Model) -> Step:
    """Count a network's convolutions and fully connected layers, from the shapes in its graph.

    Bytes are those of every constant and every activation, once.
    """
    interpreter = model._interpreter
    tensors: dict[int, Any] = {int(tensor["index"]): tensor for tensor in interpreter.get_tensor_details()}
    macs, touched = 0, set()
    for operator in interpreter._get_ops_details():
        if operator["op_name"] == "DELEGATE":
            continue
        touched |= {int(index) for index in (*operator["inputs"], *operator["outputs"]) if int(index) in tensors}
        out = [int(n) for n in tensors[int(operator["outputs"][0])]["shape"]]
        if operator["op_name"] in ("CONV_2D", "FULLY_CONNECTED"):
            weights = [int(n) for n in tensors[int(operator["inputs"][1])]["shape"]]
            macs += prod(out) * prod(weights[1:])
        elif operator["op_name"] == "DEPTHWISE_CONV_2D":
            _, high, wide, _ = (int(n) for n in tensors[int(operator["inputs"][1])]["shape"])
            macs += prod(out) * high * wide
    size = sum(prod(int(n) for n in tensors[i]["shape"]) * np.dtype(tensors[i]["dtype"]).itemsize for i in touched)
    return Step(name, macs, size)


def bench_boards(models: Path, *, templates: int, rounds: int, here: Board) -> BenchReport:
    """Measure here, and predict the boards.

    Args:
        templates: of the scanned gallery.
        rounds: of each step.
        here: this machine's own published figures, for the share.

    Raises:
        ModelError.
    """
    manifest = read_manifest(models)
    random = np.random.default_rng(1)
    steps: list[Step] = []
    runs: dict[str, Any] = {}
    for name, entry in (("detect, one pass", manifest.detector), ("embed, one view", manifest.embedder)):
        model = Model.load(models, entry)
        pixels = random.integers(0, 256, model.input_shape[1:]).astype(np.uint8)
        steps.append(model_step(name, model))
        runs[name] = lambda model=model, pixels=pixels: model.run(pixels)
    rows = random.integers(-127, 128, (templates, manifest.embedder.dimension)).astype(np.int8)
    scan = f"read {templates:,} templates"
    steps.append(Step(scan, 0, rows.nbytes))
    runs[scan] = lambda: rows.view(np.int64).sum()
    times = times_ms(runs, rounds)
    figures = [figure(f"{name}: measured on this machine", "ms", values) for name, values in times.items()]
    for step in steps:
        figures.append(figure(f"{step.name}: operations", "million MAC", [step.macs / 1e6]))
        figures.append(figure(f"{step.name}: memory read", "MB", [step.bytes / 1e6]))
        share = min(GOOD_SHARE, predicted_ms(step, here, 1.0) / min(times[step.name]))
        figures.append(figure(f"{step.name}: share of this machine's published figures", "share", [share]))
        for board in BOARDS:
            ends = [predicted_ms(step, board, one) for one in (GOOD_SHARE, share)]
            figures.append(figure(f"{step.name}: PREDICTED for {board.name}, range", "ms", ends))
    settings: dict[str, str | float | bool] = {"templates": templates, "rounds": rounds, "ghz": here.ghz}
    return bench_report("boards", settings, figures, packages=("ai-edge-litert", "numpy"))
