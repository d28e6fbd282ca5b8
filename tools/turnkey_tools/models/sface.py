"""SFace (128-d face embedding) as a graph of plain convolutions.

Source: Zhong et al., "SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition", IEEE TIP 2021; weights
`face_recognition_sface_2021dec` of the OpenCV model zoo (Apache-2.0).

What is done to the published graph, each step exact in float but the last:
1. Every batch norm is folded into the convolution or dense layer beside it.
2. PReLU becomes `x + relu((a - 1) x)` for each channel: with the PRELU operator the int8 graph falls apart into dozens
   of XNNPACK partitions. That form holds for a <= 1 only. A channel with a > 1 is turned round first:
   `prelu_a(x) = -prelu_{1/a}(-a x)`, the -a folded into the layer before it and the -1 into the layer after.
3. `(x - 127.5) / 128` becomes the input's quantisation. A uint8 pixel q then reads (q - 128) / 128; the missing half
   step is put into the first bias, which differs from the published graph at the outermost row of padding only, by
   0.004.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from turnkey_tools.models.graph import Graph, Kind, Op
from turnkey_tools.models.onnx_weights import Network, Node

INPUT_PX = 112
EMBEDDING = 128
_HALF_STEP = 0.5 / 128

Weights = NDArray[np.float32]
Doubles = NDArray[np.float64]


class _Builder:
    """Lowers the chain node by node; `pending` is the convolution that waits for its batch norm and PReLU."""

    def __init__(self, network: Network) -> None:
        self.constants = network.constants
        self.graph = Graph("sface", "image", (1, INPUT_PX, INPUT_PX, 3), 1 / 128, 128)
        self.current = "image"
        self.size = INPUT_PX
        self.signs: Doubles = np.ones(3)
        self.weights: Doubles = np.zeros(0)
        self.bias: Doubles = np.zeros(0)
        self.depthwise = False
        self.stride = 1
        self.label = ""

    def constant(self, name: str) -> Doubles:
        return self.constants[name].astype(np.float64)

    def convolution(self, node: Node) -> None:
        weights = self.constant(node.inputs[1])
        out = weights.shape[0]
        self.depthwise = int(node.attributes["group"]) > 1
        # (out, in, h, w) -> (out, h, w, in); a depthwise layer has in == 1.
        self.weights = weights.transpose(0, 2, 3, 1)
        self.weights = self.weights * (self.signs.reshape(-1, 1, 1, 1) if self.depthwise else self.signs)
        self.bias = np.zeros(out)
        if self.current == "image":
            self.bias = _HALF_STEP * self.weights.sum(axis=(1, 2, 3))
        self.signs = np.ones(out)
        self.stride = int(node.attributes["strides"][0])
        self.label = node.outputs[0]

    def batch_norm(self, node: Node) -> tuple[Doubles, Doubles]:
        """Scale and shift, for each channel."""
        gamma, beta, mean, variance = (self.constant(name) for name in node.inputs[1:5])
        scale = gamma / np.sqrt(variance + float(node.attributes["epsilon"]))
        return scale, beta - mean * scale

    def activation(self, node: Node) -> None:
        """Write the pending convolution and its PReLU."""
        slope = self.constant(node.inputs[1]).ravel()
        steep = slope > 1
        turn = np.where(steep, -slope, 1.0)
        self.weights = self.weights * turn.reshape(-1, 1, 1, 1)
        self.bias = self.bias * turn
        self.signs = np.where(steep, -1.0, 1.0)
        slope = np.divide(1.0, slope, out=slope.copy(), where=steep)
        self._write_convolution()
        self._write_prelu(slope)

    def _write_convolution(self) -> None:
        ops = self.graph.ops
        if self.stride == 2:
            padded = f"{self.label}_padded"
            channels = self.graph.shape_of(self.current)[3]
            ops.append(Op(Kind.PAD, (self.current,), padded, (1, self.size + 2, self.size + 2, channels)))
            self.current = padded
            self.size //= 2
        channels = len(self.bias)
        weights = self.weights.transpose(3, 1, 2, 0) if self.depthwise else self.weights
        ops.append(
            Op(
                Kind.DEPTHWISE if self.depthwise else Kind.CONV,
                (self.current,),
                self.label,
                (1, self.size, self.size, channels),
                weights.astype(np.float32),
                self.bias.astype(np.float32),
                self.stride,
            )
        )
        self.current = self.label

    def _write_prelu(self, slope: Doubles) -> None:
        shape = self.graph.shape_of(self.current)
        negative, output = f"{self.label}_negative", f"{self.label}_prelu"
        factor = (slope - 1).astype(np.float32)
        self.graph.ops.append(Op(Kind.MUL, (self.current,), negative, shape, factor, relu=True))
        self.graph.ops.append(Op(Kind.ADD, (self.current, negative), output, shape))
        self.current = output


def build_sface(network: Network) -> Graph:
    """Lower the dequantised ONNX network.

    Returns:
        A graph with one output `embedding`, (1, 128) float32, not normalised.
    """
    build = _Builder(network)
    before: tuple[Doubles, Doubles] | None = None
    dense: tuple[Doubles, Doubles] | None = None
    for node in network.nodes:
        match node.op:
            case "Conv":
                build.convolution(node)
            case "BatchNormalization" if dense is not None:
                scale, shift = build.batch_norm(node)
                dense = dense[0] * scale[:, None], dense[1] * scale + shift
            case "BatchNormalization" if build.current == f"{build.label}_prelu":
                before = build.batch_norm(node)
            case "BatchNormalization":
                scale, shift = build.batch_norm(node)
                build.weights = build.weights * scale.reshape(-1, 1, 1, 1)
                build.bias = build.bias * scale + shift
            case "PRelu":
                build.activation(node)
            case "Gemm":
                dense = _dense(build, node, before)
            case "Sub" | "Mul" | "Dropout" | "Flatten":
                pass  # the input's scaling, nothing at inference, and the layout the dense layer's weights take in
            case _:
                raise ValueError(f"SFace has no {node.op}: this is not the network this file knows")
    if dense is None:
        raise ValueError("the network has no dense layer")
    return _finish(build, dense)


def _dense(build: _Builder, node: Node, before: tuple[Doubles, Doubles] | None) -> tuple[Doubles, Doubles]:
    """The dense layer over (height, width, channel), the batch norm and turned channels before it folded in."""
    channels = build.graph.shape_of(build.current)[3]
    weights = build.constant(node.inputs[1]).reshape(EMBEDDING, channels, build.size, build.size)
    bias = build.constant(node.inputs[2])
    if before is not None:
        scale, shift = before
        bias = bias + np.einsum("oc,c->o", weights.sum(axis=(2, 3)), shift)
        weights = weights * scale.reshape(1, -1, 1, 1)
    weights = weights * build.signs.reshape(1, -1, 1, 1)
    return weights.transpose(0, 2, 3, 1).reshape(EMBEDDING, -1), bias


def _finish(build: _Builder, dense: tuple[Doubles, Doubles]) -> Graph:
    weights, bias = dense
    ops = build.graph.ops
    ops.append(Op(Kind.RESHAPE, (build.current,), "features", (1, weights.shape[1])))
    ops.append(
        Op(
            Kind.DENSE,
            ("features",),
            "embedding",
            (1, EMBEDDING),
            weights.astype(np.float32),
            bias.astype(np.float32),
        )
    )
    graph = build.graph
    return Graph(
        graph.name, graph.input_name, graph.input_shape, graph.input_scale, graph.input_zero, ops, ("embedding",)
    )
