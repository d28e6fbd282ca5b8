"""Overwriting: every pixel, read-only or not; never more than the pixels."""

from __future__ import annotations

import numpy as np
import pytest
from booking_room import FACES

from turnkey.capture.camera import Frame
from turnkey.capture.overwriting import overwrite
from turnkey.capture.picture import decode_picture

PORTRAIT = FACES / "obama/obama-2012.jpg"


def frame(pixels: np.ndarray) -> Frame:
    return Frame(pixels, 0, "test")


def test_a_decoded_picture_is_zero_afterwards() -> None:
    pixels = decode_picture(PORTRAIT.read_bytes(), "portrait")
    assert pixels.any()
    assert not pixels.flags.writeable
    overwrite((frame(pixels),))
    assert not pixels.any()
    overwrite((frame(pixels),))


def test_an_array_of_its_own_is_zero_afterwards_and_its_neighbour_is_not_touched() -> None:
    both = np.full((2, 40, 40, 3), 200, np.uint8)
    overwrite((frame(both[0]),))
    assert not both[0].any()
    assert (both[1] == 200).all()


def test_pixels_with_gaps_between_them_are_refused() -> None:
    whole = np.full((40, 40, 3), 200, np.uint8)
    with pytest.raises(ValueError, match="C-contiguous"):
        overwrite((frame(whole[:, ::2]),))
    assert (whole == 200).all()
