"""Alignment: the geometry is exact, a mirror stays out, a large face does not alias."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from turnkey.vision.align import ALIGNED_PX, TEMPLATE, Similarity, align, similarity


@given(
    scale=st.floats(0.05, 20),
    degrees=st.floats(-180, 180),
    x=st.floats(-5000, 5000),
    y=st.floats(-5000, 5000),
)
def test_similarity_finds_the_transform_that_was_applied(scale: float, degrees: float, x: float, y: float) -> None:
    turn = np.radians(degrees)
    applied = Similarity(scale * np.cos(turn), scale * np.sin(turn), x, y)
    moved = applied.apply(TEMPLATE)
    found = similarity(moved, TEMPLATE)
    assert found.scale == pytest.approx(1 / scale, rel=1e-3)
    np.testing.assert_allclose(found.apply(moved), TEMPLATE, atol=0.05)


def test_inverse_undoes() -> None:
    transform = Similarity(0.8, -0.4, 17.0, -3.0)
    np.testing.assert_allclose(transform.inverse().apply(transform.apply(TEMPLATE)), TEMPLATE, atol=1e-3)


def test_mirrored_landmarks_do_not_mirror_the_face() -> None:
    mirrored = TEMPLATE * np.array([-1, 1], dtype=np.float32)
    found = similarity(mirrored, TEMPLATE)
    # A similarity's determinant a^2 + b^2 cannot be negative; the fit must also be honestly bad, not a flip.
    assert np.abs(found.apply(mirrored) - TEMPLATE).max() > 5


def test_landmarks_all_in_one_point_are_refused() -> None:
    with pytest.raises(ValueError, match="one point"):
        similarity(np.full((5, 2), 7, np.float32), TEMPLATE)


def test_a_face_already_in_place_comes_out_as_it_was() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (ALIGNED_PX, ALIGNED_PX, 3)).astype(np.uint8)
    np.testing.assert_array_equal(align(picture, TEMPLATE), picture)


def test_a_shifted_face_comes_out_as_it_was() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (ALIGNED_PX, ALIGNED_PX, 3)).astype(np.uint8)
    frame = np.zeros((300, 400, 3), np.uint8)
    frame[60:172, 130:242] = picture
    shifted = TEMPLATE + np.array([130, 60], dtype=np.float32)
    # Large coordinates cost a rounding step of one grey level.
    np.testing.assert_allclose(align(frame, shifted).astype(int), picture.astype(int), atol=1)


@pytest.mark.parametrize("factor", [2, 3, 5, 8, 16])
def test_landmarks_land_on_the_template_at_every_size(factor: int) -> None:
    """A bright spot on each landmark of a large dark face is found again where the template has it."""
    side = ALIGNED_PX * factor
    rows, columns = np.mgrid[0:side, 0:side]
    frame = np.zeros((side, side), np.float64)
    landmarks = (TEMPLATE + 0.5) * factor - 0.5
    for x, y in landmarks:
        frame += 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (1.5 * factor) ** 2))
    pixels = np.repeat(np.clip(frame, 0, 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)
    aligned = align(pixels, landmarks.astype(np.float32))[..., 0].astype(np.float64)
    for x, y in TEMPLATE:
        left, top = round(float(x)) - 5, round(float(y)) - 5
        patch = aligned[top : top + 11, left : left + 11]
        found_x = left + (patch.sum(axis=0) * np.arange(11)).sum() / patch.sum()
        found_y = top + (patch.sum(axis=1) * np.arange(11)).sum() / patch.sum()
        assert np.hypot(found_x - x, found_y - y) < 0.25


def test_a_large_face_does_not_alias() -> None:
    """Fine noise on a face six times too large averages out to grey; sampling it would leave noise."""
    noise = np.random.default_rng(3).integers(0, 256, (672, 672, 3)).astype(np.uint8)
    aligned = align(noise, TEMPLATE * 6)
    assert aligned.std() < noise.std() / 3


def test_what_lies_outside_the_frame_is_black() -> None:
    frame = np.full((112, 112, 3), 200, np.uint8)
    aligned = align(frame, TEMPLATE - np.array([40, 0], dtype=np.float32))
    assert (aligned[:, :38] == 0).all()
    assert (aligned[2:110, 42:110] == 200).all()


def test_rotation_is_undone() -> None:
    picture = Image.fromarray(np.random.default_rng(4).integers(0, 256, (56, 56, 3)).astype(np.uint8))
    smooth = picture.resize((112, 112)).filter(ImageFilter.GaussianBlur(3))
    frame = Image.new("RGB", (400, 400), (90, 90, 90))
    frame.paste(smooth, (144, 144))
    turned = frame.rotate(-30, Image.Resampling.BICUBIC, center=(200, 200))
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    landmarks = ((TEMPLATE + 144.5 - 200) @ turn + 200 - 0.5).astype(np.float32)
    inner = np.s_[12:100, 12:100]
    difference = align(np.asarray(turned), landmarks)[inner].astype(int) - np.asarray(smooth)[inner].astype(int)
    assert np.abs(difference).mean() < 2
