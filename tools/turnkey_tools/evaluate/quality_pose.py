"""How far the measured pose is from what it should be.

Rules kept here:
1. Against the float landmark model: the device places the face mesh's cut by an int8 detector's landmarks; the
   reference places it by the float detector's, and reads the pose off the same float mesh. Needs the float twins.
2. Against pictures whose pose is known from another: a mirrored picture has yaw and roll the other way round and the
   same pitch; one turned in its plane has rolled by that much and not turned otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from turnkey.capture.picture import decode_picture
from turnkey.vision.detector import Detector
from turnkey.vision.litert import Model
from turnkey.vision.mesh import FaceMesh
from turnkey.vision.pose import Pose, pose_of
from turnkey_tools.evaluate.pipeline import nearest_the_middle
from turnkey_tools.evaluate.quality_faces import Eye

TURNED_DEGREES = 20


@dataclass(frozen=True)
class PoseError:
    """Mean absolute errors, degrees.

    Attributes:
        against: what the pose was compared with.
        pictures: how many.
        yaw, pitch, roll: one each.
    """

    against: str
    pictures: int
    yaw: float
    pitch: float
    roll: float

    @property
    def mean(self) -> float:
        """Of the three."""
        return (self.yaw + self.pitch + self.roll) / 3


def pose_errors(paths: Sequence[Path], eye: Eye, twin: Path | None, progress: Callable[[], None]) -> list[PoseError]:
    """Measure.

    Args:
        twin: the float detector, or None to leave that comparison out.
        progress: called once a picture.
    """
    reference = None if twin is None else Detector(Model(twin.read_bytes()))
    rows: dict[str, list[NDArray[np.float64]]] = {}
    for path in paths:
        pixels = decode_picture(path.read_bytes(), path.name)
        picture = Image.fromarray(pixels)
        still = _pose(pixels, eye.detector, eye.mesh)
        mirrored = _pose(np.ascontiguousarray(pixels[:, ::-1]), eye.detector, eye.mesh)
        rolled = _pose(_turned(picture), eye.detector, eye.mesh)
        if still is not None and mirrored is not None:
            expected = still * np.array([-1, 1, -1])
            rows.setdefault("the mirrored picture", []).append(np.abs(mirrored - expected))
        if still is not None and rolled is not None:
            expected = still + np.array([0, 0, TURNED_DEGREES])
            rows.setdefault(f"the picture turned by {TURNED_DEGREES} degrees", []).append(np.abs(rolled - expected))
        if still is not None and reference is not None:
            wanted = _pose(pixels, reference, eye.mesh)
            if wanted is not None:
                rows.setdefault("the float landmark model", []).append(np.abs(still - wanted))
        progress()
    return [_error(against, errors) for against, errors in rows.items()]


def _error(against: str, errors: list[NDArray[np.float64]]) -> PoseError:
    yaw, pitch, roll = np.mean(errors, axis=0).tolist()
    return PoseError(against, len(errors), yaw, pitch, roll)


def _pose(pixels: NDArray[np.uint8], detector: Detector, mesh: FaceMesh) -> NDArray[np.float64] | None:
    face = nearest_the_middle(detector.find(pixels), pixels.shape)
    if face is None:
        return None
    pose: Pose = pose_of(mesh.find(pixels, detector.refine(pixels, face).landmarks))
    return np.array([pose.yaw_degrees, pose.pitch_degrees, pose.roll_degrees])


def _turned(picture: Image.Image) -> NDArray[np.uint8]:
    """Clockwise, about the middle, in a frame that holds all of it."""
    return np.asarray(picture.rotate(-TURNED_DEGREES, Image.Resampling.BICUBIC, expand=True))
