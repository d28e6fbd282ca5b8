"""Every pixel format a camera may deliver, with padded rows, gives the picture that was in front of it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from turnkey.capture.camera import CameraError
from turnkey.capture.colour import rgb_of

from .fake_picamera2 import as_delivered


def picture() -> NDArray[np.uint8]:
    """(48, 64, 3): red to the left, green to the right, blue grows downwards; smooth, as chroma is at a quarter."""
    rows, columns = np.mgrid[0:48, 0:64]
    return np.stack([250 - 3 * columns, 40 + 3 * columns, 5 * rows], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(("pixel_format", "tolerance"), [("BGR888", 0), ("RGB888", 0), ("YUV420", 8), ("NV12", 8)])
def test_each_format_gives_back_the_picture(pixel_format: str, tolerance: int) -> None:
    pixels = rgb_of(as_delivered(picture(), pixel_format), pixel_format, 64, 48)
    assert pixels.shape == (48, 64, 3)
    assert pixels.flags.c_contiguous
    assert not pixels.flags.writeable
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(pixels[inner].astype(int) - picture()[inner]).max() <= tolerance


@pytest.mark.parametrize(("pixel_format", "order"), [("XBGR8888", (0, 1, 2)), ("XRGB8888", (2, 1, 0))])
def test_the_fourth_byte_is_left_out(pixel_format: str, order: tuple[int, ...]) -> None:
    padded = np.zeros((48, 80, 4), np.uint8)
    padded[:, :64, :3] = picture()[..., order]
    assert np.array_equal(rgb_of(padded, pixel_format, 64, 48), picture())


def test_a_frame_is_memory_of_its_own() -> None:
    delivered = as_delivered(picture(), "BGR888")
    pixels = rgb_of(delivered, "BGR888", 64, 48)
    delivered[:] = 0
    assert np.array_equal(pixels, picture())


def test_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(CameraError, match="SRGGB10") as refusal:
        rgb_of(np.zeros((48, 64), np.uint8), "SRGGB10", 64, 48)
    assert refusal.value.reason == "camera-format-unknown"


@pytest.mark.parametrize("pixel_format", ["BGR888", "NV12", "YUV420"])
def test_a_frame_that_is_too_small_is_refused(pixel_format: str) -> None:
    with pytest.raises(CameraError) as refusal:
        rgb_of(as_delivered(picture(), pixel_format)[:-2], pixel_format, 64, 48)
    assert refusal.value.reason == "camera-frame-malformed"
