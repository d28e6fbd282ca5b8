"""The small graph both networks are rebuilt in, between the published weights and the TFLite file.

Rules kept here:
1. Only the operators that XNNPACK takes whole, in the layouts TFLite wants (NHWC; weights OHWI), so that a written
   model is one partition.
2. A tensor has one name and one producer; operators stand in the order they run.
3. Weights are float32 here. Quantisation is the writer's concern (`quantise.py`, `tflite.py`), rounding nothing
   earlier.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float32]


class Kind(Enum):
    """Operators, by the TFLite builtin that carries them."""

    CONV = "CONV_2D"
    DEPTHWISE = "DEPTHWISE_CONV_2D"
    DENSE = "FULLY_CONNECTED"
    MUL = "MUL"
    ADD = "ADD"
    PAD = "PAD"
    MAX_POOL = "MAX_POOL_2D"
    CONCAT = "CONCATENATION"
    DEPTH_TO_SPACE = "DEPTH_TO_SPACE"
    RESHAPE = "RESHAPE"


# Operators that move values without changing them: their output shares the input's quantisation.
MOVES = frozenset({Kind.PAD, Kind.MAX_POOL, Kind.CONCAT, Kind.DEPTH_TO_SPACE, Kind.RESHAPE})


@dataclass(frozen=True, eq=False)
class Op:
    """One operator.

    Attributes:
        inputs: names of the activations read, in order.
        output: name of the activation written.
        shape: of the output, with the batch of one, e.g. (1, 40, 40, 64).
        weights: CONV (out, h, w, in); DEPTHWISE (1, h, w, channels); DENSE (out, in); MUL (channels,).
        bias: (out,) or None.
        stride: of a convolution, pixels; its padding is SAME for stride 1 and VALID (after a PAD) for stride 2.
        relu: rectify the output.
        wide: keep this operator in float32 in the int8 model (for heads whose outputs need more than 8 bits).
    """

    kind: Kind
    inputs: tuple[str, ...]
    output: str
    shape: tuple[int, ...]
    weights: Weights | None = None
    bias: Weights | None = None
    stride: int = 1
    relu: bool = False
    wide: bool = False


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: one image in, float outputs.

    Attributes:
        name: of the model, goes into the file.
        input_name, input_shape: (1, height, width, 3), RGB.
        input_scale, input_zero: what a uint8 pixel q means to the network: (q - input_zero) * input_scale.
        outputs: names, in the order the file lists them.
    """

    name: str
    input_name: str
    input_shape: tuple[int, int, int, int]
    input_scale: float
    input_zero: int
    ops: list[Op] = field(default_factory=list)
    outputs: tuple[str, ...] = ()

    def shape_of(self, tensor: str) -> tuple[int, ...]:
        """Shape of an activation."""
        if tensor == self.input_name:
            return self.input_shape
        for op in self.ops:
            if op.output == tensor:
                return op.shape
        raise KeyError(tensor)
