"""Write a graph as a TFLite flatbuffer: float32, or int8 with uint8 pixels in and float32 out.

Written with the schema classes LiteRT ships, not with TensorFlow's converter: the same graph gives the same bytes on
any machine, every scale in the file was chosen by `quantise.py`, and the operators are those of `graph.py` and no
others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from turnkey_tools.models.aligned import aligned_buffer
from turnkey_tools.models.graph import Graph, Kind, Op
from turnkey_tools.models.quantise import Affine, affine_from_range, quantise_bias, quantise_weights
from turnkey_tools.models.quantise import Range as Span

_FILE_IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
# The operator versions TFLite's own converter writes for what is used here.
_VERSIONS = {"int8": {"FULLY_CONNECTED": 4, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "QUANTIZE": 1}, "float": {}}


@dataclass(frozen=True)
class _Placed:
    """An activation in the file: its tensor index, and its quantisation where it is int8."""

    index: int
    affine: Affine | None


class _File:
    """Collects tensors, buffers and operators; knows nothing of networks."""

    def __init__(self, name: str) -> None:
        self.model = schema.ModelT()
        self.model.version = _SCHEMA_VERSION
        self.model.description = name
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.name = name
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]
        self._codes: dict[tuple[str, int], int] = {}

    def tensor(
        self, name: str, shape: tuple[int, ...], kind: int, quantisation: Any = None, data: NDArray[Any] | None = None
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.hasRank = name, list(shape), kind, True
        tensor.quantization = quantisation
        if data is not None:
            content = np.frombuffer(np.ascontiguousarray(data).tobytes(), dtype=np.uint8)
            self.model.buffers.append(aligned_buffer(content))
            tensor.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(self, builtin: str, inputs: list[int], output: int, options: Any = None, *, version: int = 1) -> None:
        key = (builtin, version)
        if key not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, builtin)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = version
            self.model.operatorCodes.append(code)
            self._codes[key] = len(self.model.operatorCodes) - 1
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = self._codes[key], inputs, [output]
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            operator.builtinOptions = options
        self.graph.operators.append(operator)

    def finish(self, inputs: list[int], outputs: list[int]) -> bytes:
        self.graph.inputs, self.graph.outputs = inputs, outputs
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
        return bytes(builder.Output())


def write_float(graph: Graph, *, every_activation: bool = False) -> bytes:
    """The float32 twin: pixels in as float32 in the network's own scaling.

    Args:
        every_activation: list every activation as an output (for calibration).
    """
    return _Writer(graph, None).write(every_activation=every_activation)


def write_int8(graph: Graph, activations: dict[str, Affine]) -> bytes:
    """The int8 model: uint8 pixels in, float32 out; operators marked wide stay float32."""
    return _Writer(graph, activations).write(every_activation=False)


class _Writer:
    def __init__(self, graph: Graph, activations: dict[str, Affine] | None) -> None:
        self.graph = graph
        self.activations = activations
        self.file = _File(graph.name)
        self.placed: dict[tuple[str, bool], _Placed] = {}

    def write(self, *, every_activation: bool) -> bytes:
        graph, file = self.graph, self.file
        if self.activations is None:
            door = file.tensor(graph.input_name, graph.input_shape, schema.TensorType.FLOAT32)
            self.placed[graph.input_name, True] = _Placed(door, None)
        else:
            affine = self.activations[graph.input_name]
            pixels = _quantisation([affine.scale], [affine.zero + 128])
            door = file.tensor(graph.input_name, graph.input_shape, schema.TensorType.UINT8, pixels)
            inner = self._int8_tensor(f"{graph.input_name}_int8", graph.input_shape, affine)
            self.placed[graph.input_name, False] = inner
            file.operator("QUANTIZE", [door], inner.index, schema.QuantizeOptionsT())
        for op in graph.ops:
            self._write_op(op)
        names = tuple(op.output for op in graph.ops) if every_activation else graph.outputs
        return file.finish([door], [self._activation(name, wide=True).index for name in names])

    def _write_op(self, op: Op) -> None:
        wide = op.wide or self.activations is None
        inputs = [self._activation(name, wide=wide) for name in op.inputs]
        if wide:
            output = _Placed(self.file.tensor(op.output, op.shape, schema.TensorType.FLOAT32), None)
        else:
            assert self.activations is not None  # noqa: S101 -- narrows for mypy: not wide means int8
            # An output's plain name belongs to its float form, which the caller sees.
            name = f"{op.output}_int8" if op.output in self.graph.outputs else op.output
            output = self._int8_tensor(name, op.shape, self.activations[op.output])
        self.placed[op.output, wide] = output
        indices = [placed.index for placed in inputs] + self._parameters(op, inputs[0].affine)
        versions = _VERSIONS["float" if wide else "int8"]
        self.file.operator(op.kind.value, indices, output.index, _options(op), version=versions.get(op.kind.value, 1))

    def _activation(self, name: str, *, wide: bool) -> _Placed:
        """The activation in the wanted precision, with a DEQUANTIZE or QUANTIZE where it stands in the other."""
        if (name, wide) in self.placed:
            return self.placed[name, wide]
        other = self.placed[name, not wide]
        shape = self.graph.shape_of(name)
        if wide:
            label = name if name in self.graph.outputs else f"{name}_float"
            here = _Placed(self.file.tensor(label, shape, schema.TensorType.FLOAT32), None)
            self.file.operator("DEQUANTIZE", [other.index], here.index, schema.DequantizeOptionsT())
        else:
            assert self.activations is not None  # noqa: S101 -- as above
            here = self._int8_tensor(f"{name}_int8", shape, self.activations[name])
            self.file.operator("QUANTIZE", [other.index], here.index, schema.QuantizeOptionsT())
        self.placed[name, wide] = here
        return here

    def _int8_tensor(self, name: str, shape: tuple[int, ...], affine: Affine) -> _Placed:
        quantisation = _quantisation([affine.scale], [affine.zero])
        return _Placed(self.file.tensor(name, shape, schema.TensorType.INT8, quantisation), affine)

    def _parameters(self, op: Op, source: Affine | None) -> list[int]:
        """Indices of the operator's constants, written in the precision of its input."""
        file = self.file
        if op.kind is Kind.PAD:
            margins = np.array([[0, 0], [1, 1], [1, 1], [0, 0]], dtype=np.int32)
            return [file.tensor(f"{op.output}_margins", (4, 2), schema.TensorType.INT32, None, margins)]
        if op.kind is Kind.RESHAPE:
            shape = np.array(op.shape, dtype=np.int32)
            return [file.tensor(f"{op.output}_shape", shape.shape, schema.TensorType.INT32, None, shape)]
        if op.weights is None:
            return []
        label = f"{op.output}_weights"
        if source is None:
            indices = [file.tensor(label, op.weights.shape, schema.TensorType.FLOAT32, None, op.weights)]
            if op.bias is not None:
                bias = file.tensor(f"{op.output}_bias", op.bias.shape, schema.TensorType.FLOAT32, None, op.bias)
                indices.append(bias)
            return indices
        if op.kind is Kind.MUL:
            affine = affine_from_range(Span(min(0.0, float(op.weights.min())), max(0.0, float(op.weights.max()))))
            steps = np.clip(np.rint(op.weights / affine.scale) + affine.zero, -128, 127).astype(np.int8)
            quantisation = _quantisation([affine.scale], [affine.zero])
            return [file.tensor(label, steps.shape, schema.TensorType.INT8, quantisation, steps)]
        axis = 3 if op.kind is Kind.DEPTHWISE else 0
        steps, scales = quantise_weights(op.weights, axis)
        quantisation = _quantisation(scales.tolist(), [0] * len(scales), axis)
        indices = [file.tensor(label, steps.shape, schema.TensorType.INT8, quantisation, steps)]
        if op.bias is not None:
            bias_steps = quantise_bias(op.bias, source.scale, scales)
            bias_scales = (np.float32(source.scale) * scales).tolist()
            quantisation = _quantisation(bias_scales, [0] * len(scales), 0)
            name = f"{op.output}_bias"
            indices.append(file.tensor(name, op.bias.shape, schema.TensorType.INT32, quantisation, bias_steps))
        return indices


def _quantisation(scales: list[float], zeros: list[int], axis: int = 0) -> Any:
    parameters = schema.QuantizationParametersT()
    parameters.scale = np.array(scales, dtype=np.float32)
    parameters.zeroPoint = np.array(zeros, dtype=np.int64)
    parameters.quantizedDimension = axis
    return parameters


def _options(op: Op) -> Any:
    activation = schema.ActivationFunctionType.RELU if op.relu else schema.ActivationFunctionType.NONE
    padding = schema.Padding.VALID if op.stride == 2 else schema.Padding.SAME
    match op.kind:
        case Kind.CONV:
            options: Any = schema.Conv2DOptionsT()
            options.padding, options.strideW, options.strideH = padding, op.stride, op.stride
        case Kind.DEPTHWISE:
            options = schema.DepthwiseConv2DOptionsT()
            options.padding, options.strideW, options.strideH = padding, op.stride, op.stride
            options.depthMultiplier = 1
        case Kind.MAX_POOL:
            options = schema.Pool2DOptionsT()
            options.padding, options.strideW, options.strideH = schema.Padding.VALID, 2, 2
            options.filterWidth = options.filterHeight = 2
        case Kind.CONCAT:
            options = schema.ConcatenationOptionsT()
            options.axis = 3
        case Kind.DEPTH_TO_SPACE:
            options = schema.DepthToSpaceOptionsT()
            options.blockSize = 2
            return options
        case Kind.DENSE:
            options = schema.FullyConnectedOptionsT()
        case Kind.MUL:
            options = schema.MulOptionsT()
        case Kind.ADD:
            options = schema.AddOptionsT()
        case Kind.PAD:
            return schema.PadOptionsT()
        case Kind.RESHAPE:
            options = schema.ReshapeOptionsT()
            options.newShape = list(op.shape)
            return options
    options.fusedActivationFunction = activation
    return options
