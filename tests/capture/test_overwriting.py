"""Overwriting: every pixel, read-only or not; never more than the pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from booking_room import FACES

from turnkey.capture.camera import CameraError, Frame
from turnkey.capture.overwriting import overwrite, overwritten
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


def test_each_frame_of_a_press_is_zero_before_the_next_is_asked_for() -> None:
    taken: list[Frame] = []

    def press() -> Iterator[Frame]:
        for _ in range(3):
            assert not any(one.pixels.any() for one in taken)
            taken.append(frame(np.full((40, 40, 3), 200, np.uint8)))
            yield taken[-1]

    assert [one.pixels.all() for one in overwritten(press())] == [True] * 3
    assert not any(one.pixels.any() for one in taken)


def test_of_frames_that_are_lent_the_last_is_overwritten_also_when_the_press_is_broken_off() -> None:
    memory = np.zeros((40, 40, 3), np.uint8)

    def press() -> Iterator[Frame]:
        for level in (100, 150, 200):
            memory[:] = level
            yield Frame(memory, 0, "test", lent=True)

    seen = [int(one.pixels[0, 0, 0]) for one in overwritten(press())]
    assert seen == [100, 150, 200]
    assert not memory.any()
    broken = overwritten(press())
    assert next(broken).pixels.all()
    broken.close()
    assert not memory.any()


def test_a_lent_frame_whose_successor_lies_elsewhere_is_overwritten_all_the_same() -> None:
    taken = [Frame(np.full((40, 40, 3), 200, np.uint8), 0, "test", lent=True) for _ in range(2)]
    for one in overwritten(taken):
        assert one.pixels.all()
    assert not any(one.pixels.any() for one in taken)


def test_a_camera_that_fails_leaves_no_frame_behind() -> None:
    memory = np.full((40, 40, 3), 200, np.uint8)

    def press() -> Iterator[Frame]:
        yield Frame(memory, 0, "test", lent=True)
        raise CameraError("camera-lost", "gone")

    with pytest.raises(CameraError):
        list(overwritten(press()))
    assert not memory.any()
