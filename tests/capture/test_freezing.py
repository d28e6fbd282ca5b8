"""Frozen frames are counted, and only where the settings say so."""

from __future__ import annotations

import numpy as np

from turnkey.capture.freezing import FrozenFrames, digest_of


def test_the_third_same_frame_in_a_row_is_frozen_where_two_repeats_are_allowed() -> None:
    frames = FrozenFrames(2)
    assert [frames.frozen(digest) for digest in (1, 1, 2, 2, 2, 2, 3)] == [False] * 4 + [True, True, False]


def test_nothing_is_frozen_where_a_still_is_played() -> None:
    frames = FrozenFrames(None)
    assert not any(frames.frozen(7) for _ in range(100))


def test_a_sensors_noise_changes_the_digest() -> None:
    noise = np.random.default_rng(1)
    pictures = [noise.integers(100, 103, (480, 640, 3), dtype=np.uint8) for _ in range(50)]
    assert len({digest_of(picture) for picture in pictures}) == 50
