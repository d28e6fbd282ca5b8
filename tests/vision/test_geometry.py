"""Cuts of a photograph: coordinates come back, at any size and over any edge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnkey.vision.geometry import Box, cut_square


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(40, 2500),
    height=st.integers(40, 2500),
    x=st.floats(0.1, 0.9),
    y=st.floats(0.1, 0.9),
)
def test_a_spot_is_found_where_it_was(width: int, height: int, x: float, y: float) -> None:
    side, extent = 64, float(max(width, height))
    radius = 2.5 * extent / side
    spot_x, spot_y = x * width, y * height
    rows, columns = np.mgrid[0:height, 0:width]
    light = 255 * np.exp(-((columns - spot_x) ** 2 + (rows - spot_y) ** 2) / (2 * radius**2))
    frame = np.repeat(light.astype(np.uint8)[..., np.newaxis], 3, axis=2)
    view = cut_square(frame, -0.5, -0.5, extent, side)
    row, column = np.unravel_index(int(view.pixels[..., 0].argmax()), (side, side))
    (found,) = view.to_frame(np.array([[column, row]], np.float32))
    assert np.hypot(found[0] - spot_x, found[1] - spot_y) < 1.5 * extent / side


def test_a_cut_at_scale_one_is_the_frame_itself() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (50, 64, 3)).astype(np.uint8)
    view = cut_square(frame, -0.5, -0.5, 64, 64)
    np.testing.assert_array_equal(view.pixels[:50], frame)
    assert (view.pixels[50:] == 0).all()


@pytest.mark.parametrize(("left", "top"), [(-40.5, 9.5), (30.5, -20.5), (500.5, 500.5), (-300.5, 0.5)])
def test_what_the_frame_does_not_cover_is_black(left: float, top: float) -> None:
    frame = np.full((60, 60, 3), 255, np.uint8)
    view = cut_square(frame, left, top, 60, 60)
    columns = np.arange(60) + left + 0.5
    rows = np.arange(60) + top + 0.5
    inside = ((rows >= 0) & (rows < 60))[:, np.newaxis] & ((columns >= 0) & (columns < 60))
    assert (view.pixels[inside] == 255).all()
    assert (view.pixels[~inside] == 0).all()


def test_overlap_of_boxes() -> None:
    assert Box(0, 0, 10, 10).overlap(Box(5, 5, 10, 10)) == 25
    assert Box(0, 0, 10, 10).overlap(Box(20, 0, 10, 10)) == 0
    assert Box(0, 0, -3, 10).area == 0
