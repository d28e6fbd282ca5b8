"""BlazeFace short-range, made acceptable to MediaPipe Tasks.

The published file is a float model that says nothing of its input, and MediaPipe's FaceDetector refuses a float image
model without normalisation parameters. This step adds them, as TFLite model metadata: a flatbuffer of its own schema
(identifier M001, `ModelMetadata`) in a buffer of the model, named TFLITE_METADATA. Weights and graph are not touched.

Rules kept here:
1. Same bytes in, same bytes out: no clock, no path, nothing of the machine.
2. Built only with what the device already carries (LiteRT's schema classes) and `flatbuffers`, not with MediaPipe.
3. A model that is not the one meant (input other than 1x128x128x3 float32, or metadata already there) is refused.

Source of the numbers: the model takes RGB scaled to [-1, 1], that is (v - 127.5) / 127.5 (BlazeFace, Bazarevsky et al.
2019, arXiv:1907.05047; the MediaPipe graph `face_detection_short_range`, output tensor range -1 to 1).
"""

from __future__ import annotations

from typing import Any, Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from turnkey_tools.models.aligned import aligned_buffer

MEAN: Final = 127.5
STD: Final = 127.5
INPUT_SHAPE: Final = (1, 128, 128, 3)

_MODEL_IDENTIFIER: Final = b"TFL3"
_METADATA_IDENTIFIER: Final = b"M001"
_METADATA_NAME: Final = "TFLITE_METADATA"
# The first version of the metadata parser: nothing written here is newer.
_MIN_PARSER_VERSION: Final = "1.0.0"

# Members of the unions and enumerations of metadata_schema.fbs that are used.
_IMAGE_PROPERTIES: Final = 2
_NORMALIZATION_OPTIONS: Final = 1
_RGB: Final = 1


class WrongModelError(ValueError):
    """The file is not the model this step is for."""


def with_metadata(model: bytes) -> bytes:
    """Add the image-normalisation metadata that MediaPipe wants.

    Args:
        model: `face_detection_short_range.tflite` as published.

    Returns:
        The model with metadata; deterministic.

    Raises:
        WrongModelError: not a TFLite file, another input than expected, or metadata already there.
    """
    if model[4:8] != _MODEL_IDENTIFIER:
        raise WrongModelError("not a TFLite file")
    tree = schema.ModelT.InitFromPackedBuf(model)
    _check(tree)
    tree.buffers = [aligned_buffer(buffer.data) for buffer in tree.buffers]
    tree.buffers.append(aligned_buffer(np.frombuffer(_metadata(), np.uint8)))
    entry = schema.MetadataT()
    entry.name = _METADATA_NAME
    entry.buffer = len(tree.buffers) - 1
    tree.metadata = [*(tree.metadata or []), entry]
    builder = flatbuffers.Builder(len(model) + 4096)
    builder.Finish(tree.Pack(builder), _MODEL_IDENTIFIER)
    return bytes(builder.Output())


def _check(tree: Any) -> None:
    if any(entry.name == _METADATA_NAME.encode() for entry in tree.metadata or []):
        raise WrongModelError("the model has metadata already")
    if len(tree.subgraphs) != 1 or len(tree.subgraphs[0].inputs) != 1:
        raise WrongModelError("the model has not exactly one input")
    tensor = tree.subgraphs[0].tensors[tree.subgraphs[0].inputs[0]]
    if tuple(tensor.shape) != INPUT_SHAPE or tensor.type != schema.TensorType.FLOAT32:
        raise WrongModelError(f"the input is not float32 {INPUT_SHAPE}")


def _metadata() -> bytes:
    """The `ModelMetadata` flatbuffer. The numbers are field positions, in the order of metadata_schema.fbs."""
    builder = flatbuffers.Builder(512)
    name = builder.CreateString("BlazeFace short-range face detector")
    licence = builder.CreateString("Apache-2.0")
    parser = builder.CreateString(_MIN_PARSER_VERSION)
    image = builder.CreateString("image")
    mean, std = _floats(builder, MEAN), _floats(builder, STD)

    builder.StartObject(2)  # NormalizationOptions
    builder.PrependUOffsetTRelativeSlot(0, mean, 0)
    builder.PrependUOffsetTRelativeSlot(1, std, 0)
    normalisation = builder.EndObject()
    builder.StartObject(2)  # ProcessUnit
    builder.PrependUint8Slot(0, _NORMALIZATION_OPTIONS, 0)
    builder.PrependUOffsetTRelativeSlot(1, normalisation, 0)
    process_units = _tables(builder, builder.EndObject())

    builder.StartObject(2)  # ImageProperties
    builder.PrependInt8Slot(0, _RGB, 0)
    properties = builder.EndObject()
    builder.StartObject(3)  # Content
    builder.PrependUint8Slot(0, _IMAGE_PROPERTIES, 0)
    builder.PrependUOffsetTRelativeSlot(1, properties, 0)
    content = builder.EndObject()

    builder.StartObject(7)  # TensorMetadata
    builder.PrependUOffsetTRelativeSlot(0, image, 0)
    builder.PrependUOffsetTRelativeSlot(3, content, 0)
    builder.PrependUOffsetTRelativeSlot(4, process_units, 0)
    inputs = _tables(builder, builder.EndObject())
    builder.StartObject(10)  # SubGraphMetadata
    builder.PrependUOffsetTRelativeSlot(2, inputs, 0)
    subgraphs = _tables(builder, builder.EndObject())

    builder.StartObject(8)  # ModelMetadata
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    builder.PrependUOffsetTRelativeSlot(3, subgraphs, 0)
    builder.PrependUOffsetTRelativeSlot(5, licence, 0)
    builder.PrependUOffsetTRelativeSlot(7, parser, 0)
    builder.Finish(builder.EndObject(), _METADATA_IDENTIFIER)
    return bytes(builder.Output())


def _floats(builder: Any, value: float) -> Any:
    builder.StartVector(4, 1, 4)
    builder.PrependFloat32(value)
    return builder.EndVector()


def _tables(builder: Any, table: Any) -> Any:
    """A vector of the one table given."""
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(table)
    return builder.EndVector()
