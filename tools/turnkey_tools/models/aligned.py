"""Constants in a TFLite file, aligned as kernels want to read them.

The generated schema classes write a buffer wherever it falls; TFLite's own converter aligns constants to 16 bytes, and
kernels may read them as wide words.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_ALIGNMENT: Final = 16


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """A constant written at a multiple of 16 bytes, which the generated class does not see to."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802 - the generated code's name
        vector = None
        if self.data is not None and len(self.data):
            content = np.asarray(self.data, np.uint8).tobytes()
            builder.StartVector(1, len(content), _ALIGNMENT)
            builder.head -= len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


def aligned_buffer(data: Any) -> Any:
    """A buffer of constant data (bytes as uint8) that will be written aligned; None for an empty one."""
    buffer = _AlignedBuffer()
    buffer.data = data
    return buffer
