"""The one place that loads a model: verify its hash, then run it on LiteRT with a fixed number of threads.

Rules kept here:
1. The bytes that were hashed are the bytes that run: a file is read once, and the interpreter gets the buffer, not the
   path.
2. Inputs are uint8 RGB pixels for every model; a float twin's scaling is applied here, so that int8 and float run one
   pipeline.
3. No fall-back from one runtime to another at run time: the interpreter class is chosen once, at import.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnkey.vision.manifest import ModelEntry, ModelError

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:  # boards whose image carries the older runtime under its older name
    from tflite_runtime.interpreter import Interpreter


@dataclass(frozen=True)
class Delegation:
    """How much of a model XNNPACK took.

    Attributes:
        partitions: parts of the graph XNNPACK runs.
        left_over: operators that run outside them, by name, in order.
    """

    partitions: int
    left_over: tuple[str, ...]


def verified_bytes(models: Path, entry: ModelEntry) -> bytes:
    """Read a model file and check it against the manifest.

    Raises:
        ModelError: `model-missing` or `model-altered`.
    """
    path = models / entry.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError("model-missing", f"{path} cannot be read: install the models again") from error
    if len(data) != entry.bytes or hashlib.sha256(data).hexdigest() != entry.sha256:
        raise ModelError("model-altered", f"{path} is not the file the manifest names: install the models again")
    return data


class Model:
    """A loaded network. Not safe for several threads at once.

    Args:
        data: a TFLite flatbuffer, verified by the caller (`verified_bytes`).
        threads: XNNPACK's, 1 or more.
        float_scale, float_zero: for a float twin: pixel q is fed as (q - float_zero) * float_scale.
    """

    def __init__(self, data: bytes, *, threads: int = 1, float_scale: float = 1.0, float_zero: float = 0.0) -> None:
        if threads < 1:
            raise ValueError("at least one thread")
        try:
            self._interpreter: Any = Interpreter(model_content=data, num_threads=threads)
            self._interpreter.allocate_tensors()
            (self._input,) = self._interpreter.get_input_details()
            self._outputs = self._interpreter.get_output_details()
        except (RuntimeError, ValueError) as error:
            raise ModelError("model-unusable", f"LiteRT cannot run the model: {error}") from error
        self._is_float = self._input["dtype"] is np.float32
        self._scale, self._zero = np.float32(float_scale), np.float32(float_zero)

    @classmethod
    def load(
        cls, models: Path, entry: ModelEntry, *, threads: int = 1, float_scale: float = 1.0, float_zero: float = 0.0
    ) -> Model:
        """Verify and load a model of the manifest; the scaling is for one whose input is float.

        Raises:
            ModelError: missing, altered, or not what LiteRT runs.
        """
        model = cls(verified_bytes(models, entry), threads=threads, float_scale=float_scale, float_zero=float_zero)
        wanted = (1, entry.input_px, entry.input_px, 3)
        if model.input_shape != wanted:
            raise ModelError("model-unusable", f"{entry.file} takes {model.input_shape}, the manifest says {wanted}")
        return model

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(1, height, width, 3)."""
        return tuple(int(n) for n in self._input["shape"])

    def run(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Run the network.

        Args:
            pixels: (height, width, 3) uint8 RGB of the model's input size.

        Returns:
            Each output by its name, float32, without the batch axis.
        """
        value: NDArray[Any] = pixels[np.newaxis]
        if self._is_float:
            value = (value.astype(np.float32) - self._zero) * self._scale
        self._interpreter.set_tensor(self._input["index"], value)
        self._interpreter.invoke()
        return {str(o["name"]): self._interpreter.get_tensor(o["index"])[0] for o in self._outputs}

    def delegation(self) -> Delegation:
        """Count XNNPACK's partitions, from the execution plan."""
        details = self._interpreter._get_ops_details()
        delegates = [d for d in details if d["op_name"] == "DELEGATE"]
        replaced = _inside(details, delegates)
        rest = tuple(
            str(d["op_name"]) for d in details if d["op_name"] != "DELEGATE" and int(d["index"]) not in replaced
        )
        return Delegation(len(delegates), rest)


def _inside(details: list[dict[str, Any]], delegates: list[dict[str, Any]]) -> set[int]:
    """Indices of the operators whose results some delegate produces: walk back from its outputs to its inputs."""
    producer = {int(t): d for d in details if d["op_name"] != "DELEGATE" for t in d["outputs"]}
    inside: set[int] = set()
    for delegate in delegates:
        edge = {int(t) for t in delegate["inputs"]}
        open_tensors = [int(t) for t in delegate["outputs"]]
        while open_tensors:
            tensor = open_tensors.pop()
            operator = producer.get(tensor)
            if operator is None or tensor in edge or int(operator["index"]) in inside:
                continue
            inside.add(int(operator["index"]))
            open_tensors.extend(int(t) for t in operator["inputs"] if int(t) >= 0)
    return inside
