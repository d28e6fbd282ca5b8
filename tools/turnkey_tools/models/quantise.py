"""Post-training quantisation: from what the float network does on real faces to scales and zero points.

The scheme is TFLite's own (https://ai.google.dev/edge/litert/models/quantization_spec): activations int8, one scale
and zero point a tensor; weights int8, symmetric, one scale an output channel; biases int32 at (input scale x weight
scale).

Rules kept here:
1. Ranges come from running the float graph on the calibration faces with LiteRT itself, every activation made an
   output.
2. Scales are rounded to 12 significant bits, so that the last bit of a sum on some other processor changes no byte.
3. Operators that only move values pass their input's quantisation on; XNNPACK insists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnkey_tools.models.graph import MOVES, Graph

Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Affine:
    """real = (q - zero) * scale, q in [-128, 127]."""

    scale: float
    zero: int


@dataclass(frozen=True)
class Range:
    """What an activation was seen to span, widened to hold zero."""

    low: float
    high: float


Probe = Callable[[NDArray[np.float32]], dict[str, NDArray[np.float32]]]


def observe(probe: Probe, inputs: Iterable[NDArray[np.float32]], *, tail: float) -> dict[str, Range]:
    """Run the float network over the calibration inputs and note what each activation spans.

    Args:
        probe: runs one input, returns every activation by name.
        inputs: (1, h, w, 3) float32 in the network's own scaling.
        tail: which quantile of the inputs' extremes to span, in (0, 0.5): 0 spans the most extreme input, 0.05 lets the
            extremes of one input in twenty saturate in exchange for finer steps.
    """
    lows: dict[str, list[float]] = {}
    highs: dict[str, list[float]] = {}
    for value in inputs:
        for name, activation in probe(value).items():
            lows.setdefault(name, []).append(float(activation.min()))
            highs.setdefault(name, []).append(float(activation.max()))
    return {
        name: Range(
            min(0.0, float(np.quantile(lows[name], tail))),
            max(0.0, float(np.quantile(highs[name], 1 - tail))),
        )
        for name in lows
    }


def affine_from_range(span: Range) -> Affine:
    """Asymmetric int8 quantisation of a range that holds zero."""
    width = max(span.high - span.low, 1e-6)
    scale = round_scale(width / 255)
    zero = int(np.clip(np.rint(-128 - span.low / scale), -128, 127))
    return Affine(scale, zero)


def activation_quantisation(graph: Graph, ranges: dict[str, Range]) -> dict[str, Affine]:
    """Scale and zero point of every activation of `graph`."""
    # A uint8 pixel q becomes int8 q - 128 at the graph's door.
    chosen = {graph.input_name: Affine(graph.input_scale, graph.input_zero - 128)}
    for op in graph.ops:
        chosen[op.output] = chosen[op.inputs[0]] if op.kind in MOVES else affine_from_range(ranges[op.output])
    return chosen


def quantise_weights(weights: Weights, axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8, one scale for each index of `axis`.

    Returns:
        The weights in [-127, 127] and (channels,) float32 scales.
    """
    others = tuple(i for i in range(weights.ndim) if i != axis)
    peaks = np.abs(weights).max(axis=others)
    scales = np.array([round_scale(max(float(p), 1e-9) / 127) for p in peaks], dtype=np.float32)
    shape = [1] * weights.ndim
    shape[axis] = -1
    quantised = np.clip(np.rint(weights / scales.reshape(shape)), -127, 127).astype(np.int8)
    return quantised, scales


def quantise_bias(bias: Weights, input_scale: float, weight_scales: NDArray[np.float32]) -> NDArray[np.int32]:
    """int32 at the accumulator's scale."""
    steps = bias.astype(np.float64) / (np.float64(np.float32(input_scale)) * weight_scales.astype(np.float64))
    limit = 2**31 - 1
    return np.clip(np.rint(steps), -limit, limit).astype(np.int32)


def round_scale(scale: float) -> float:
    """Round up to 12 significant bits."""
    mantissa, exponent = np.frexp(scale)
    return float(np.ldexp(np.ceil(mantissa * 4096) / 4096, exponent))
