"""Components: each moves the way its name says when the picture is changed in that way, and in no other."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from vision.portraits import MODELS, every_portrait, pixels_of

from turnkey.vision import components as parts
from turnkey.vision.align import similarity
from turnkey.vision.detector import Detector, Face
from turnkey.vision.manifest import read_manifest
from turnkey.vision.mesh import MESH_TEMPLATE, FaceMesh, Mesh


class Looking:
    """Detector and mesh, on a picture's largest face."""

    def __init__(self) -> None:
        manifest = read_manifest(MODELS)
        self.detector = Detector.load(MODELS, manifest.detector)
        self.mesh = FaceMesh.load(MODELS, manifest.mesh)

    def at(self, pixels: np.ndarray) -> tuple[Face, Mesh]:
        face = max(self.detector.find(pixels), key=lambda found: found.box.area)
        face = self.detector.refine(pixels, face)
        return face, self.mesh.find(pixels, face.landmarks)


@pytest.fixture(scope="module")
def looking() -> Looking:
    return Looking()


PORTRAITS = every_portrait()


@pytest.mark.parametrize("path", PORTRAITS, ids=lambda path: path.stem)
def test_the_mesh_lies_on_the_face(looking: Looking, path) -> None:
    face, mesh = looking.at(pixels_of(path))
    wanted = similarity(face.landmarks, MESH_TEMPLATE).apply(face.landmarks)
    off = np.linalg.norm(mesh.landmarks_in_cut() - wanted, axis=1).mean() / np.linalg.norm(wanted[0] - wanted[1])
    assert off < 0.15


def covered(pixels: np.ndarray, face: Face, top: float, bottom: float, colour: tuple[int, int, int]) -> np.ndarray:
    """A band of the face painted over; heights between the eyes (0) and the mouth (1)."""
    eyes, mouth = face.landmarks[:2].mean(axis=0), face.landmarks[3:].mean(axis=0)
    wide, height = face.inter_eye_px, float(np.linalg.norm(mouth - eyes))
    picture = Image.fromarray(pixels)
    box = (eyes[0] - wide, eyes[1] + top * height, eyes[0] + wide, eyes[1] + bottom * height)
    ImageDraw.Draw(picture).rectangle(tuple(float(v) for v in box), fill=colour)
    return np.asarray(picture)


@pytest.mark.parametrize("path", PORTRAITS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("top", "bottom", "colour"),
    [(0.45, 1.8, (70, 120, 190)), (-0.3, 0.35, (12, 12, 14))],
    ids=["surgical mask", "sunglasses"],
)
def test_what_covers_the_face_shows_as_covered(looking: Looking, path, top, bottom, colour) -> None:
    pixels = pixels_of(path)
    face, mesh = looking.at(pixels)
    hidden = looking.mesh.find(covered(pixels, face, top, bottom, colour), face.landmarks)
    assert parts.covered_share(hidden) > parts.covered_share(mesh) + 0.1


@pytest.mark.parametrize("path", PORTRAITS, ids=lambda path: path.stem)
def test_light_from_one_side_is_uneven(looking: Looking, path) -> None:
    pixels = pixels_of(path)
    face, mesh = looking.at(pixels)
    middle = round(float(face.landmarks[2][0]))
    shaded = pixels.copy()
    shaded[:, :middle] = (shaded[:, :middle] * 0.45).astype(np.uint8)
    assert parts.light_evenness(looking.mesh.find(shaded, face.landmarks)) < 0.5 * parts.light_evenness(mesh) + 0.05


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_less_light_is_not_less_even_nor_more_covered(looking: Looking, share: float) -> None:
    pixels = pixels_of(PORTRAITS[0])
    face, mesh = looking.at(pixels)
    darker = looking.mesh.find((pixels * share).astype(np.uint8), face.landmarks)
    assert parts.covered_share(darker) == pytest.approx(parts.covered_share(mesh), abs=0.1)
    assert parts.light_evenness(darker) >= parts.light_evenness(mesh) - 0.15


def test_a_painted_wall_is_calm_and_noise_is_not(looking: Looking) -> None:
    pixels = pixels_of(PORTRAITS[0])
    face, _ = looking.at(pixels)
    keep = (slice(round(face.box.top), round(face.box.top + face.box.height)), slice(None))
    wall = np.full_like(pixels, 140)
    noise = np.random.default_rng(0).integers(0, 255, pixels.shape, dtype=np.uint8)
    wall[keep], noise[keep] = pixels[keep], pixels[keep]
    assert parts.background_unrest(wall, face.box) < parts.background_unrest(noise, face.box)
    assert parts.background_unrest(np.full_like(pixels, 140), face.box) == 0


def test_an_open_mouth_is_measured_open(looking: Looking) -> None:
    """The portraits' own: a broad smile, and closed lips."""
    smiling, closed = (
        looking.at(pixels_of(next(path for path in PORTRAITS if path.stem == stem)))[1]
        for stem in ("obama-2012", "macron-2025")
    )
    assert parts.mouth_open(smiling) > parts.mouth_open(closed) + 0.05


def test_eyes_that_are_painted_shut_are_less_open(looking: Looking) -> None:
    """Points alone: the lids of a surface, moved together."""
    _, mesh = looking.at(pixels_of(PORTRAITS[0]))
    shut = mesh.points.copy()
    for upper, lower in (*parts._RIGHT_LIDS, *parts._LEFT_LIDS):
        shut[upper] = shut[lower]
    assert parts.eyes_open(mesh) > 0.04
    assert parts.eyes_open(Mesh(shut, mesh.picture, mesh.presence, 0.0, 1.0)) == 0
