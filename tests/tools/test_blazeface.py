"""The metadata step of the model build, on a small model with the same input."""

from __future__ import annotations

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from turnkey_tools.models.blazeface import WrongModelError, with_metadata


def small_model(shape: tuple[int, ...] = (1, 128, 128, 3), kind: int = schema.TensorType.FLOAT32) -> bytes:
    """A TFLite model that adds a constant picture to its input."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version = 3
    constant = schema.BufferT()
    constant.data = np.arange(int(np.prod(shape)), dtype=np.float32).view(np.uint8)
    model.buffers = [schema.BufferT(), constant]
    for length in (1, 3, 7, 30):  # odd ones, so that nothing is aligned by chance
        odd = schema.BufferT()
        odd.data = np.arange(length, dtype=np.uint8)
        model.buffers.append(odd)
    graph.tensors = []
    for name, buffer in (("image", 0), ("constant", 1), ("sum", 0)):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), kind, buffer
        graph.tensors.append(tensor)
    code = schema.OperatorCodeT()
    code.builtinCode = schema.BuiltinOperator.ADD
    model.operatorCodes = [code]
    add = schema.OperatorT()
    add.inputs, add.outputs = [0, 1], [2]
    add.builtinOptionsType = schema.BuiltinOptions.AddOptions
    add.builtinOptions = schema.AddOptionsT()
    graph.operators, graph.inputs, graph.outputs = [add], [0], [2]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def metadata_of(model: bytes) -> bytes:
    tree = schema.ModelT.InitFromPackedBuf(model)
    (entry,) = [entry for entry in tree.metadata if entry.name == b"TFLITE_METADATA"]
    return bytes(tree.buffers[entry.buffer].data)


def test_the_same_model_gives_the_same_bytes() -> None:
    assert with_metadata(small_model()) == with_metadata(small_model())


def test_the_metadata_holds_mean_and_deviation_once_each() -> None:
    metadata = metadata_of(with_metadata(small_model()))
    assert metadata[4:8] == b"M001"
    assert metadata.count(np.array([1], "<u4").tobytes() + np.array([127.5], "<f4").tobytes()) == 2


def test_the_network_computes_what_it_did() -> None:
    picture = np.random.default_rng(3).uniform(-1, 1, (1, 128, 128, 3)).astype(np.float32)
    outputs = []
    for model in (small_model(), with_metadata(small_model())):
        interpreter = Interpreter(model_content=model, num_threads=1)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    np.testing.assert_array_equal(*outputs)


def test_every_constant_is_aligned_for_wide_loads() -> None:
    model = with_metadata(small_model())
    root = schema.Model.GetRootAs(model)
    for number in range(root.BuffersLength()):
        data = root.Buffers(number).DataAsNumpy()
        if isinstance(data, np.ndarray):
            start = data.__array_interface__["data"][0] - np.frombuffer(model, np.uint8).__array_interface__["data"][0]
            assert start % 16 == 0


@pytest.mark.parametrize(
    "model",
    [
        b"",
        b"PK\x03\x04 this is a wheel",
        small_model(shape=(1, 64, 64, 3)),
        small_model(kind=schema.TensorType.INT32),
        with_metadata(small_model()),
    ],
    ids=["empty", "not-tflite", "other-size", "other-type", "already-done"],
)
def test_another_file_is_refused(model: bytes) -> None:
    with pytest.raises(WrongModelError):
        with_metadata(model)
