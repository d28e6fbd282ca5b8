"""How the head is turned, from the face's surface.

Two directions of the head are read off points that expression hardly moves: across, between points that mirror each
other, and along, from the bridge of the nose and the forehead down to the base of the nose. A third stands on both.

Rules kept here:
1. Angles are ISO/IEC 29794-5's: yaw turns left and right, pitch nods, roll tilts; 0, 0, 0 looks straight at the camera.
2. No point of lips, lids or jaw takes part: speaking or squinting is not turning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from turnkey.vision.mesh import Mesh

# Mirrored points (subject's right, subject's left) of temples, cheeks, the corners of the eyes and the nose.
_RIGHT: Final = np.array([234, 127, 162, 21, 93, 33, 133, 116, 123, 50, 101, 129, 98, 48, 64, 54, 103, 67, 109])
_LEFT: Final = np.array([454, 356, 389, 251, 323, 263, 362, 345, 352, 280, 330, 358, 327, 278, 294, 284, 332, 297, 338])
# The middle line: forehead and bridge above, base of the nose below.
_ABOVE: Final = np.array([10, 151, 9, 8])
_BELOW: Final = np.array([2, 164, 97, 326])
# The base of the nose stands before the forehead, so that the line between them leans back in an upright head: by this
# much in the median face of LFW.
_UPRIGHT_DEGREES: Final = -3.0

# How far the nose tip stands out before the plane of eyes and mouth, in inter-eye distances, of an average adult
# face: turns the landmark's sideways shift into an angle. Rough by nature; individual noses differ by a fifth.
_NOSE_PROTRUSION: Final = 0.42


@dataclass(frozen=True)
class Pose:
    """Of the head, degrees.

    Attributes:
        yaw_degrees: positive when turned towards the subject's own left (the picture's right).
        pitch_degrees: positive when raised.
        roll_degrees: positive when tilted clockwise in the picture.
    """

    yaw_degrees: float
    pitch_degrees: float
    roll_degrees: float


def pose_of(mesh: Mesh) -> Pose:
    """The pose of one face."""
    return pose_of_points(mesh.points, mesh.roll_degrees)


def pose_of_points(points: NDArray[np.float32], roll_degrees: float = 0.0) -> Pose:
    """The pose of a surface.

    Args:
        points: (468, 3): x right, y down, z away from the camera, one unit.
        roll_degrees: to add: how far the cut that the points lie in was turned.
    """
    across = _unit((points[_LEFT] - points[_RIGHT]).sum(axis=0, dtype=np.float64))
    along = points[_BELOW].mean(axis=0, dtype=np.float64) - points[_ABOVE].mean(axis=0, dtype=np.float64)
    down = _unit(along - across * float(along @ across))
    ahead = -np.cross(across, down)
    tilt = np.radians(_UPRIGHT_DEGREES)
    ahead, down = ahead * np.cos(tilt) - down * np.sin(tilt), down * np.cos(tilt) + ahead * np.sin(tilt)
    return Pose(
        yaw_degrees=float(np.degrees(np.arctan2(ahead[0], -ahead[2]))),
        pitch_degrees=float(np.degrees(np.arcsin(np.clip(-ahead[1], -1, 1)))),
        roll_degrees=float(np.degrees(np.arctan2(across[1], across[0]))) + roll_degrees,
    )


def pose_degrees(landmarks: NDArray[np.float32]) -> tuple[float, float, float]:
    """Yaw, pitch and roll from five landmarks alone, degrees: for telling poses apart where no mesh was computed.

    The nose tip stands before the plane of eyes and mouth; where it falls between them shows how that plane is turned.
    Good to some ten degrees.

    Args:
        landmarks: (5, 2) in the detector's order.
    """
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    across = landmarks[1] - landmarks[0]
    down = mouth - eyes
    roll = float(np.degrees(np.arctan2(across[1], across[0])))
    # The face's height hardly changes when it turns, its width hardly when it nods: the longer of the two is the
    # measure.
    unit_px = max(float(np.linalg.norm(across)), float(np.linalg.norm(down)) / 1.1, 1e-6)
    axis = down / max(float(np.linalg.norm(down)), 1e-6)
    nose = landmarks[2] - eyes
    sideways = float(nose[0] * axis[1] - nose[1] * axis[0])
    # In a frontal face the nose tip lies 0.55 of the way from the eyes to the mouth.
    along = float(nose @ axis) - 0.55 * float(np.linalg.norm(down))
    yaw = float(np.degrees(np.arctan2(sideways / unit_px, _NOSE_PROTRUSION)))
    pitch = -float(np.degrees(np.arctan2(along / unit_px, _NOSE_PROTRUSION)))
    return yaw, pitch, roll


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)
