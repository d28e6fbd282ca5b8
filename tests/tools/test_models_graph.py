"""The rebuilt networks compute what the published ones do: on a small network with every trick in it, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from turnkey.vision.litert import Model
from turnkey_tools.models.graph import Graph, Kind, Op
from turnkey_tools.models.onnx_weights import Network, Node, _dequantise
from turnkey_tools.models.sface import build_sface
from turnkey_tools.models.tflite import write_float

SIDE = 112
Array = NDArray[np.float64]


def convolve(x: Array, weights: Array, stride: int, groups: int) -> Array:
    """(c, h, w) with (out, in, 3, 3), one pixel of zero padding."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((weights.shape[0], x.shape[1] // stride, x.shape[2] // stride))
    for o in range(weights.shape[0]):
        channels = [o] if groups > 1 else range(x.shape[0])
        for place, c in enumerate(channels):
            for i in range(3):
                for j in range(3):
                    window = padded[c, i : i + x.shape[1] : stride, j : j + x.shape[2] : stride]
                    out[o] += weights[o, place, i, j] * window
    return out


def small_sface(random: np.random.Generator) -> Network:
    """A convolution, a strided depthwise one, a batch norm each, slopes below zero and above one, and the dense end."""
    constants: dict[str, NDArray[Any]] = {
        "w1": random.normal(0, 0.4, (6, 3, 3, 3)),
        "w2": random.normal(0, 0.4, (6, 1, 3, 3)),
        "fc": random.normal(0, 0.01, (128, 6 * 56 * 56)),
        "fc_bias": random.normal(0, 0.1, 128),
        "slope1": np.array([0.25, -0.4, 1.0, 1.6, 2.5, 0.0]).reshape(6, 1, 1),
        "slope2": np.array([1.2, 0.9, -0.1, 3.0, 0.3, 1.0]).reshape(6, 1, 1),
    }
    for name, width in (("b1", 6), ("b2", 6), ("b3", 6), ("b4", 128)):
        constants[f"{name}g"] = random.uniform(0.5, 1.5, width)
        constants[f"{name}b"] = random.normal(0, 0.3, width)
        constants[f"{name}m"] = random.normal(0, 0.3, width)
        constants[f"{name}v"] = random.uniform(0.5, 2, width)

    def norm(name: str, source: str, out: str) -> Node:
        return Node("BatchNormalization", (source, *(f"{name}{k}" for k in "gbmv")), (out,), {"epsilon": 1e-3})

    nodes = [
        Node("Sub", ("data", "c"), ("s",), {}),
        Node("Mul", ("s", "c"), ("m",), {}),
        Node("Conv", ("m", "w1"), ("x1",), {"group": 1, "strides": [1, 1]}),
        norm("b1", "x1", "n1"),
        Node("PRelu", ("n1", "slope1"), ("p1",), {}),
        Node("Conv", ("p1", "w2"), ("x2",), {"group": 6, "strides": [2, 2]}),
        norm("b2", "x2", "n2"),
        Node("PRelu", ("n2", "slope2"), ("p2",), {}),
        norm("b3", "p2", "n3"),
        Node("Dropout", ("n3",), ("d",), {}),
        Node("Flatten", ("d",), ("f",), {}),
        Node("Gemm", ("f", "fc", "fc_bias"), ("e",), {}),
        norm("b4", "e", "fc1"),
    ]
    return Network(nodes, constants, ("fc1",))


def reference(network: Network, pixels: NDArray[np.uint8]) -> Array:
    c = {name: value.astype(np.float64) for name, value in network.constants.items()}

    def norm(name: str, x: Array) -> Array:
        shape = (-1, 1, 1) if x.ndim == 3 else (-1,)
        g, b, m, v = (c[f"{name}{k}"].reshape(shape) for k in "gbmv")
        return np.asarray((x - m) / np.sqrt(v + 1e-3) * g + b)

    x = (pixels.astype(np.float64).transpose(2, 0, 1) - 127.5) / 128
    for conv, bn, slope, stride, groups in (("w1", "b1", "slope1", 1, 1), ("w2", "b2", "slope2", 2, 6)):
        x = norm(bn, convolve(x, c[conv], stride, groups))
        x = np.where(x > 0, x, x * c[slope])
    return norm("b4", norm("b3", x).ravel() @ c["fc"].T + c["fc_bias"])


def test_folded_batch_norms_and_turned_prelus_are_exact_in_float() -> None:
    random = np.random.default_rng(7)
    network = small_sface(random)
    pixels = random.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    graph = build_sface(network)
    model = Model(write_float(graph), float_scale=graph.input_scale, float_zero=graph.input_zero)
    found, wanted = model.run(pixels)["embedding"], reference(network, pixels)
    # What is left is the half step of padding at the picture's edge (sface.py, 3).
    np.testing.assert_allclose(found, wanted, atol=0.02 * np.abs(wanted).max())
    assert found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted) > 0.9999


def test_an_unknown_operator_is_refused() -> None:
    network = Network([Node("Gelu", ("x",), ("y",), {})], {}, ("y",))
    with pytest.raises(ValueError, match="Gelu"):
        build_sface(network)


def test_block_dequantisation_uses_each_blocks_scale() -> None:
    constants: dict[str, NDArray[Any]] = {
        "q": np.array([[1, 2, 3, 4, 5]], np.int8),
        "s": np.array([[0.5, 2.0, 10.0]], np.float32),
        "z": np.array([[0, 1, 0]], np.int8),
    }
    node = Node("DequantizeLinear", ("q", "s", "z"), ("y",), {"block_size": 2, "axis": 1})
    np.testing.assert_allclose(_dequantise(node, constants), [[0.5, 1.0, 4.0, 6.0, 50.0]])


def test_nearest_enlargement_is_a_concatenation_and_a_depth_to_space() -> None:
    ops = [
        Op(Kind.CONCAT, ("image",) * 4, "four", (1, 4, 4, 12)),
        Op(Kind.DEPTH_TO_SPACE, ("four",), "out", (1, 8, 8, 3)),
    ]
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    out = Model(write_float(Graph("up", "image", (1, 4, 4, 3), 1.0, 0, ops, ("out",)))).run(pixels)["out"]
    np.testing.assert_array_equal(out, pixels.repeat(2, axis=0).repeat(2, axis=1))
