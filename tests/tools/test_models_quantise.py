"""Quantisation: the rules of TFLite's int8 scheme, and a written int8 model that computes like its float twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkey.vision.litert import Model
from turnkey_tools.models.graph import Graph, Kind, Op
from turnkey_tools.models.quantise import (
    Affine,
    Range,
    activation_quantisation,
    affine_from_range,
    observe,
    quantise_bias,
    quantise_weights,
    round_scale,
)
from turnkey_tools.models.tflite import write_float, write_int8

SIDE = 16


def small_graph(*, wide: bool) -> Graph:
    random = np.random.default_rng(11)
    weights = random.normal(0, 0.2, (8, 3, 3, 3)).astype(np.float32)
    depth = random.normal(0, 0.3, (1, 3, 3, 8)).astype(np.float32)
    dense = random.normal(0, 0.05, (5, 4 * 4 * 8)).astype(np.float32)
    bias = random.normal(0, 0.1, 8).astype(np.float32)
    slope = random.uniform(-1.5, 0, 8).astype(np.float32)
    ops = [
        Op(Kind.CONV, ("image",), "conv", (1, SIDE, SIDE, 8), weights, bias),
        Op(Kind.MUL, ("conv",), "negative", (1, SIDE, SIDE, 8), slope, relu=True),
        Op(Kind.ADD, ("conv", "negative"), "prelu", (1, SIDE, SIDE, 8)),
        Op(Kind.PAD, ("prelu",), "padded", (1, SIDE + 2, SIDE + 2, 8)),
        Op(Kind.DEPTHWISE, ("padded",), "depth", (1, 8, 8, 8), depth, bias, 2, relu=True),
        Op(Kind.MAX_POOL, ("depth",), "pooled", (1, 4, 4, 8)),
        Op(Kind.RESHAPE, ("pooled",), "flat", (1, 128)),
        Op(Kind.DENSE, ("flat",), "out", (1, 5), dense, np.zeros(5, np.float32), wide=wide),
    ]
    return Graph("small", "image", (1, SIDE, SIDE, 3), 1 / 128, 128, ops, ("out",))


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(12).integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)


def int8_bytes(graph: Graph) -> bytes:
    probe = Model(write_float(graph, every_activation=True), float_scale=1 / 128, float_zero=128)
    shown = iter(pictures(50))

    def run(_: np.ndarray) -> dict[str, np.ndarray]:
        return {name: value[np.newaxis] for name, value in probe.run(next(shown)).items()}

    ranges = observe(run, (np.zeros((1, 1)) for _ in range(50)), tail=0.0)
    return write_int8(graph, activation_quantisation(graph, ranges))


@pytest.mark.parametrize("wide", [False, True])
def test_int8_computes_like_its_float_twin(wide: bool) -> None:
    graph = small_graph(wide=wide)
    twin = Model(write_float(graph), float_scale=1 / 128, float_zero=128)
    model = Model(int8_bytes(graph))
    found = np.array([model.run(picture)["out"] for picture in pictures(20)])
    wanted = np.array([twin.run(picture)["out"] for picture in pictures(20)])
    assert np.abs(found - wanted).mean() < 0.05 * wanted.std()


def test_the_same_graph_gives_the_same_bytes() -> None:
    assert int8_bytes(small_graph(wide=True)) == int8_bytes(small_graph(wide=True))


def test_a_written_int8_model_is_one_partition() -> None:
    delegation = Model(int8_bytes(small_graph(wide=True))).delegation()
    assert delegation.partitions == 1
    assert delegation.left_over == ("QUANTIZE",)


@given(low=st.floats(-1000, 0), high=st.floats(0, 1000))
def test_zero_has_a_value_of_its_own_and_the_range_fits(low: float, high: float) -> None:
    affine = affine_from_range(Range(low, high))
    assert -128 <= affine.zero <= 127
    assert (-128 - affine.zero) * affine.scale <= low + affine.scale
    assert (127 - affine.zero) * affine.scale >= high - affine.scale


@given(scale=st.floats(1e-9, 1e9))
def test_rounded_scales_grow_by_less_than_a_two_thousandth(scale: float) -> None:
    assert scale <= round_scale(scale) <= scale * (1 + 1 / 2000)
    assert round_scale(round_scale(scale)) == round_scale(scale)


def test_weights_are_symmetric_with_a_scale_each_channel() -> None:
    weights = np.random.default_rng(1).normal(0, [[1.0], [100.0]], (2, 50)).astype(np.float32)
    steps, scales = quantise_weights(weights, 0)
    assert np.abs(steps).max(axis=1).tolist() == [127, 127]
    assert np.abs(steps * scales[:, np.newaxis] - weights).max() <= scales.max() / 2 + 1e-6


def test_bias_is_at_the_accumulators_scale() -> None:
    steps = quantise_bias(np.array([1.0, -2.0], np.float32), 0.5, np.array([0.1, 0.2], np.float32))
    assert steps.tolist() == [20, -20]


def test_operators_that_only_move_values_pass_the_quantisation_on() -> None:
    graph = small_graph(wide=False)
    spans = {op.output: Range(-1.0 - index, 2.0 + index) for index, op in enumerate(graph.ops)}
    chosen = activation_quantisation(graph, spans)
    assert chosen["padded"] == chosen["prelu"]
    assert chosen["pooled"] == chosen["flat"] == chosen["depth"]
    assert chosen["image"] == Affine(1 / 128, 0)


def test_tails_leave_out_the_rare_extremes() -> None:
    values = iter([np.array([-1.0, 1.0])] * 99 + [np.array([-50.0, 90.0])])
    ranges = observe(lambda _: {"a": next(values)}, (np.zeros(1) for _ in range(100)), tail=0.05)
    assert ranges["a"] == Range(-1.0, 1.0)
