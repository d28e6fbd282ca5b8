"""YuNet (face detector with five landmarks) as a graph XNNPACK takes whole.

Source: Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 2023; weights
`face_detection_yunet_2023mar` of the OpenCV model zoo (MIT).

What is done to the published graph, all exact in float:
1. The channel order of the first convolution is turned round: every model here takes RGB, where the published one
   takes BGR.
2. The four heads of a level (class, objectness, box, landmarks) become one pair of convolutions with 16 output
   channels. They are marked wide: in the int8 model they run in float32 on the dequantised features, for landmark
   offsets and scores need more than the 8 bits that one tensor of 16 such different channels would leave them. They
   are 3 % of the work.
3. The two nearest-neighbour enlargements become a concatenation and a depth-to-space, which XNNPACK has.
4. The sigmoids are left to the decoder, which needs few of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from turnkey_tools.models.graph import Graph, Kind, Op
from turnkey_tools.models.onnx_weights import Network, Node

STRIDES_PX = (8, 16, 32)
HEADS = ("cls", "obj", "bbox", "kps")
HEAD_CHANNELS = 16

Weights = NDArray[np.float32]


def build_yunet(network: Network, side_px: int, *, wide_heads: bool = True) -> Graph:
    """Lower the dequantised ONNX network.

    Args:
        side_px: of the square input, a multiple of 32.
        wide_heads: keep the heads in float32 in the int8 model.

    Returns:
        A graph with the outputs `level_8`, `level_16`, `level_32`, each (1, side/stride, side/stride, 16): class logit,
        objectness logit, box (dx, dy, log w, log h), five landmarks (dx, dy), offsets in strides.
    """
    if side_px % 32:
        raise ValueError("YuNet's input must be a multiple of 32 px")
    build = _Lowering(network, side_px)
    heads: dict[str, list[tuple[Weights, Weights]]] = {}
    source: dict[str, str] = {}
    chain: dict[str, tuple[str, str]] = {}
    for node in network.nodes:
        name = next((n for n in node.inputs if n.startswith("bbox_head")), None)
        if name is not None and node.op == "Conv":
            _, head, level, layer = name.split(".")[:4]
            key = f"{head.removeprefix('multi_level_')}.{level}"
            heads.setdefault(key, []).append(build.parameters(node))
            if layer == "conv1":
                source[level] = build.names[node.inputs[0]]
            chain[node.outputs[0]] = (key, layer)
        elif any(n in chain for n in node.inputs) or node.op in {"Transpose", "Sigmoid"} or _is_shape_only(node):
            continue
        else:
            build.lower(node)
    outputs = []
    for index, stride in enumerate(STRIDES_PX):
        parts = [heads[f"{head}.{index}"] for head in HEADS]
        outputs.append(build.head(source[str(index)], stride, parts, wide=wide_heads))
    return replace(build.graph, outputs=tuple(outputs))


def _is_shape_only(node: Node) -> bool:
    return node.op == "Reshape"


class _Lowering:
    def __init__(self, network: Network, side_px: int) -> None:
        self.constants = network.constants
        self.graph = Graph("yunet", "image", (1, side_px, side_px, 3), 1.0, 0)
        self.names = {"input": "image"}
        self.relu_of = {n.inputs[0]: n.outputs[0] for n in network.nodes if n.op == "Relu"}

    def parameters(self, node: Node) -> tuple[Weights, Weights]:
        """Weights (out, h, w, in) and bias."""
        weights = self.constants[node.inputs[1]].astype(np.float32).transpose(0, 2, 3, 1)
        return weights, self.constants[node.inputs[2]].astype(np.float32)

    def lower(self, node: Node) -> None:
        output = node.outputs[0]
        match node.op:
            case "Conv":
                self._convolution(node)
            case "Relu":
                self.names[output] = self.names[node.inputs[0]]
            case "MaxPool":
                _, h, w, c = self._shape(node.inputs[0])
                self._append(Op(Kind.MAX_POOL, self._inputs(node), output, (1, h // 2, w // 2, c)))
            case "Resize":
                source = self.names[node.inputs[0]]
                _, h, w, c = self.graph.shape_of(source)
                self._append(Op(Kind.CONCAT, (source,) * 4, f"{output}_four", (1, h, w, 4 * c)))
                self._append(Op(Kind.DEPTH_TO_SPACE, (f"{output}_four",), output, (1, 2 * h, 2 * w, c)))
            case "Add":
                self._append(Op(Kind.ADD, self._inputs(node), output, self._shape(node.inputs[0])))
            case _:
                raise ValueError(f"YuNet has no {node.op}: this is not the network this file knows")

    def _convolution(self, node: Node) -> None:
        weights, bias = self.parameters(node)
        source = self.names[node.inputs[0]]
        _, height, width, channels = self.graph.shape_of(source)
        stride = int(node.attributes["strides"][0])
        if source == "image":
            weights = weights[..., ::-1]
        if stride == 2:
            self._append(Op(Kind.PAD, (source,), f"{source}_padded", (1, height + 2, width + 2, channels)))
            source = f"{source}_padded"
        depthwise = int(node.attributes["group"]) > 1
        output = node.outputs[0]
        self._append(
            Op(
                Kind.DEPTHWISE if depthwise else Kind.CONV,
                (source,),
                output,
                (1, height // stride, width // stride, len(bias)),
                np.ascontiguousarray(weights.transpose(3, 1, 2, 0) if depthwise else weights),
                bias,
                stride,
                relu=output in self.relu_of,
            )
        )

    def head(self, source: str, stride: int, parts: list[list[tuple[Weights, Weights]]], *, wide: bool) -> str:
        """One level's four heads as a pointwise and a depthwise convolution of 16 channels."""
        _, height, width, _ = self.graph.shape_of(source)
        shape = (1, height, width, HEAD_CHANNELS)
        point = np.concatenate([p[0][0] for p in parts])
        point_bias = np.concatenate([p[0][1] for p in parts])
        # Each 3x3 layer reads only its own channel: (out, 3, 3, 1), stacked and laid out (1, 3, 3, out).
        spread = np.concatenate([p[1][0] for p in parts]).transpose(3, 1, 2, 0)
        spread_bias = np.concatenate([p[1][1] for p in parts])
        middle, output = f"level_{stride}_point", f"level_{stride}"
        self._append(Op(Kind.CONV, (source,), middle, shape, point, point_bias, wide=wide))
        self._append(Op(Kind.DEPTHWISE, (middle,), output, shape, np.ascontiguousarray(spread), spread_bias, wide=wide))
        return output

    def _inputs(self, node: Node) -> tuple[str, ...]:
        return tuple(self.names[name] for name in node.inputs if name in self.names)

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.graph.shape_of(self.names[name])

    def _append(self, op: Op) -> None:
        self.graph.ops.append(op)
        self.names[op.output] = op.output
