"""How the head is turned: from the face's surface, and roughly from five landmarks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from vision.portraits import MODELS, every_portrait, pixels_of

from turnkey.vision.align import TEMPLATE
from turnkey.vision.detector import Detector
from turnkey.vision.manifest import read_manifest
from turnkey.vision.mesh import FaceMesh, Mesh
from turnkey.vision.pose import Pose, pose_degrees, pose_of, pose_of_points


class Surfaces:
    """Detector and mesh on a picture's largest face."""

    def __init__(self) -> None:
        manifest = read_manifest(MODELS)
        self._detector = Detector.load(MODELS, manifest.detector)
        self._mesh = FaceMesh.load(MODELS, manifest.mesh)

    def of(self, pixels: np.ndarray) -> Mesh:
        face = max(self._detector.find(pixels), key=lambda found: found.box.area)
        return self._mesh.find(pixels, self._detector.refine(pixels, face).landmarks)

    def pose(self, pixels: np.ndarray) -> Pose:
        return pose_of(self.of(np.ascontiguousarray(pixels)))


@pytest.fixture(scope="module")
def surfaces() -> Surfaces:
    return Surfaces()


def turned(points: np.ndarray, yaw: float, pitch: float) -> np.ndarray:
    """A surface turned about its middle: towards its own left, and raised; degrees."""
    left, up = np.radians([yaw, pitch])
    about_down = np.array([[np.cos(left), 0, -np.sin(left)], [0, 1, 0], [np.sin(left), 0, np.cos(left)]])
    about_across = np.array([[1, 0, 0], [0, np.cos(up), np.sin(up)], [0, -np.sin(up), np.cos(up)]])
    centre = points.mean(axis=0)
    return np.asarray((points - centre) @ (about_down @ about_across).T + centre, dtype=np.float32)


@pytest.mark.parametrize("path", every_portrait(), ids=lambda path: path.stem)
def test_the_mirror_turns_yaw_and_roll_about_and_leaves_pitch(surfaces: Surfaces, path) -> None:
    there, mirrored = surfaces.pose(pixels_of(path)), surfaces.pose(pixels_of(path)[:, ::-1])
    assert mirrored.yaw_degrees == pytest.approx(-there.yaw_degrees, abs=6)
    assert mirrored.roll_degrees == pytest.approx(-there.roll_degrees, abs=4)
    assert mirrored.pitch_degrees == pytest.approx(there.pitch_degrees, abs=6)


@pytest.mark.parametrize("path", every_portrait()[:3], ids=lambda path: path.stem)
@pytest.mark.parametrize("degrees", [-25, 25])
def test_a_picture_turned_in_its_plane_rolls_by_that_much(surfaces: Surfaces, path, degrees: int) -> None:
    picture = Image.fromarray(pixels_of(path))
    still = surfaces.pose(np.asarray(picture))
    rolled = surfaces.pose(np.asarray(picture.rotate(-degrees, Image.Resampling.BICUBIC, expand=True)))
    assert rolled.roll_degrees - still.roll_degrees == pytest.approx(degrees, abs=4)
    assert rolled.yaw_degrees == pytest.approx(still.yaw_degrees, abs=8)
    assert rolled.pitch_degrees == pytest.approx(still.pitch_degrees, abs=8)


@pytest.mark.parametrize("yaw", [-30, 0, 30])
@pytest.mark.parametrize("pitch", [-20, 0, 20])
def test_a_surface_turned_in_space_is_measured_turned(surfaces: Surfaces, yaw: int, pitch: int) -> None:
    points = surfaces.of(pixels_of(every_portrait()[0])).points
    still = pose_of_points(points)
    upright = turned(points, -still.yaw_degrees, 0)
    upright = turned(upright, 0, -pose_of_points(upright).pitch_degrees)
    found = pose_of_points(turned(upright, yaw, pitch))
    assert found.yaw_degrees == pytest.approx(yaw, abs=2.5)
    assert found.pitch_degrees == pytest.approx(pitch, abs=2.5)


def test_a_frontal_face_is_frontal_and_the_tilt_is_measured() -> None:
    yaw, pitch, roll = pose_degrees(TEMPLATE)
    assert abs(yaw) < 5
    assert abs(pitch) < 10
    assert abs(roll) < 1


@given(degrees=st.floats(-60, 60))
def test_turning_the_picture_changes_roll_alone(degrees: float) -> None:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)
    still, turned = pose_degrees(TEMPLATE), pose_degrees((TEMPLATE - 56) @ turn + 56)
    assert turned[0] == pytest.approx(still[0], abs=0.5)
    assert turned[1] == pytest.approx(still[1], abs=0.5)
    assert turned[2] - still[2] == pytest.approx(degrees, abs=0.5)


@given(degrees=st.floats(5, 70), side=st.sampled_from([-1, 1]))
def test_a_turned_head_is_measured_turned_that_way(degrees: float, side: int) -> None:
    """A rigid head of five points, the nose 0.42 inter-eye distances before the rest, turned."""
    centre = TEMPLATE[[0, 1, 3, 4]].mean(axis=0)
    depth = np.array([0, 0, 0.42 * 35.2, 0, 0])
    angle = np.radians(side * degrees)
    across = (TEMPLATE[:, 0] - centre[0]) * np.cos(angle) + depth * np.sin(angle)
    seen = np.stack([across + centre[0], TEMPLATE[:, 1]], axis=1).astype(np.float32)
    yaw = pose_degrees(seen)[0]
    assert np.sign(yaw) == side
    assert abs(yaw) >= 0.5 * degrees - 5
