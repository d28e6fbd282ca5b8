"""What the booth may rely on of any camera. Every adapter is run through all of it; add a new one to `RIGS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from turnkey.capture.camera import Camera, CameraError
from turnkey.capture.folder import FolderCamera
from turnkey.interlock.permit import Permit, Stopped

MS = 1_000_000
ClockNs = Callable[[], int]


class Clock:
    """A monotonic clock that moves one millisecond each time it is read."""

    def __init__(self) -> None:
        self.now_ns = 5 * MS

    def __call__(self) -> int:
        self.now_ns += MS
        return self.now_ns


def folder_rig(directory: Path, clock: ClockNs) -> Camera:
    for number in range(4):
        Image.new("RGB", (96, 80), (250, 10 * number, 0)).save(directory / f"{number}.png")
    return FolderCamera(directory, monotonic_ns=clock)


# Each makes a camera that can take four pictures of something redder than it is blue.
RIGS: dict[str, Callable[[Path, ClockNs], Camera]] = {"folder": folder_rig}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=sorted(RIGS))
def camera(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Camera]:
    built = RIGS[request.param](tmp_path, clock)
    yield built
    built.close()


def living(clock: ClockNs) -> Permit:
    return Permit(clock, valid_until_ns=10_000 * MS)


def test_a_frame_is_upright_rgb_bytes_in_one_block(camera: Camera, clock: Clock) -> None:
    pixels = camera.capture(living(clock)).pixels
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.flags.c_contiguous
    assert pixels[..., 0].mean() > pixels[..., 2].mean()


def test_a_frame_cannot_be_changed_by_who_gets_it(camera: Camera, clock: Clock) -> None:
    pixels = camera.capture(living(clock)).pixels
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0, 0] = 0


def test_the_shutter_time_is_of_the_given_clock_and_grows(camera: Camera, clock: Clock) -> None:
    before = clock()
    taken = [camera.capture(living(clock)).taken_ns for _ in range(4)]
    assert before < taken[0]
    assert taken == sorted(set(taken))
    assert taken[-1] < clock()


def test_a_frame_says_what_produced_it(camera: Camera, clock: Clock) -> None:
    assert camera.capture(living(clock)).source


def test_a_dead_permit_takes_nothing(camera: Camera, clock: Clock) -> None:
    permit = living(clock)
    permit.revoke("switch-open")
    with pytest.raises(Stopped) as stopped:
        camera.capture(permit)
    assert stopped.value.reason == "switch-open"


def test_a_lapsed_permit_takes_nothing(camera: Camera, clock: Clock) -> None:
    with pytest.raises(Stopped):
        camera.capture(Permit(clock, valid_until_ns=0))


def test_a_permit_that_dies_during_the_capture_yields_no_frame(camera: Camera, clock: Clock) -> None:
    checks = 0

    class DiesOnTheSecondLook(Permit):
        def check(self) -> None:
            nonlocal checks
            checks += 1
            if checks == 2:
                self.revoke("switch-open")
            super().check()

    with pytest.raises(Stopped):
        camera.capture(DiesOnTheSecondLook(clock, valid_until_ns=10_000 * MS))
    assert checks == 2


def test_the_camera_works_again_under_a_new_permit(camera: Camera, clock: Clock) -> None:
    permit = living(clock)
    permit.revoke("switch-open")
    with pytest.raises(Stopped):
        camera.capture(permit)
    assert camera.capture(living(clock)).pixels.size > 0


def test_closing_twice_is_safe(camera: Camera) -> None:
    camera.close()
    camera.close()


def test_a_closed_camera_says_so(camera: Camera, clock: Clock) -> None:
    camera.close()
    with pytest.raises(CameraError) as refusal:
        camera.capture(living(clock))
    assert refusal.value.reason == "camera-closed"
