"""What the booth may rely on of any camera. Every adapter is run through all of it; add a new one to `RIGS`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from patience import PATIENCE_S
from PIL import Image

from turnkey.capture.camera import PREVIEW_SIDE_PX, Camera, CameraError, Frame
from turnkey.capture.folder import FolderCamera
from turnkey.capture.gstreamer import GstreamerCamera
from turnkey.capture.picamera import PiCamera
from turnkey.interlock.permit import Permit, Stopped

from .fake_picamera2 import Bench

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


def folder_of_bursts_rig(directory: Path, clock: ClockNs) -> Camera:
    for press in range(4):
        burst = directory / f"{press}.burst"
        burst.mkdir()
        for number in range(3):
            Image.new("RGB", (800, 700), (250, 10 * number, 0)).save(burst / f"{number}.png")
    return FolderCamera(directory, monotonic_ns=clock)


def picamera2_rig(_directory: Path, clock: ClockNs) -> Camera:
    return PiCamera(monotonic_ns=clock, open_camera=Bench(controls=("AeEnable", "AwbEnable", "AfMode")).open)


def virtual_picamera2_rig(_directory: Path, clock: ClockNs) -> Camera:
    return PiCamera(monotonic_ns=clock, open_camera=Bench(adjusts_to="NV12").open)


def gstreamer_test_source_rig(_directory: Path, clock: ClockNs) -> Camera:
    pipeline = "videotestsrc is-live=true pattern=ball foreground-color=0xffffffff background-color=0xfffa1000"
    return gstreamer(f"{pipeline} ! video/x-raw,width=802,height=600,framerate=30/1", clock)


def gstreamer_file_rig(directory: Path, clock: ClockNs) -> Camera:
    Image.new("RGB", (800, 600), (250, 20, 0)).save(directory / "still.jpg")
    return gstreamer(f"filesrc location={directory}/still.jpg ! jpegdec ! imagefreeze", clock)


def gstreamer(pipeline: str, clock: ClockNs) -> Camera:
    try:
        return GstreamerCamera(pipeline, timeout_s=PATIENCE_S, frozen_after=None, monotonic_ns=clock)
    except CameraError as error:
        if error.reason == "camera-driver-missing":
            pytest.skip(str(error))
        raise


# Each makes a camera that can take four pictures of something redder than it is blue.
RIGS: dict[str, Callable[[Path, ClockNs], Camera]] = {
    "folder": folder_rig,
    "folder of bursts": folder_of_bursts_rig,
    "picamera2": picamera2_rig,
    "picamera2, adjusted": virtual_picamera2_rig,
    "gstreamer, test source": gstreamer_test_source_rig,
    "gstreamer, file": gstreamer_file_rig,
}
if os.environ.get("TURNKEY_VIRTUAL_CAMERA"):  # tests/capture/virtual-camera
    from .virtual_picamera2 import stand_in, virtual_camera

    stand_in()
    RIGS["picamera2, real, on libcamera's virtual camera"] = lambda _directory, clock: virtual_camera(clock)


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


def test_a_burst_has_a_frame_and_never_more_than_were_asked_for(camera: Camera, clock: Clock) -> None:
    assert [1 <= len(list(camera.burst(living(clock), most))) <= most for most in (1, 2, 5)] == [True] * 3


def test_the_frames_of_a_burst_come_in_the_order_they_were_taken(camera: Camera, clock: Clock) -> None:
    taken = [frame.taken_ns for _ in range(2) for frame in camera.burst(living(clock), 3)]
    assert taken == sorted(set(taken))


def test_only_a_frame_that_is_lent_is_overwritten_by_the_next(camera: Camera, clock: Clock) -> None:
    earlier: list[tuple[Frame, np.ndarray]] = []
    for frame in camera.burst(living(clock), 3):
        for before, copied in earlier:
            assert np.may_share_memory(frame.pixels, before.pixels) == before.lent
            assert before.lent or (before.pixels == copied).all()
        earlier.append((frame, frame.pixels.copy()))
    assert earlier


def test_a_preview_is_small_and_of_the_same_colours(camera: Camera, clock: Clock) -> None:
    pixels = camera.preview(living(clock)).pixels
    assert max(pixels.shape[:2]) <= PREVIEW_SIDE_PX
    assert pixels.flags.c_contiguous
    assert not pixels.flags.writeable
    assert pixels[..., 0].mean() > pixels[..., 2].mean()


def test_a_preview_takes_nothing(camera: Camera, clock: Clock) -> None:
    for _ in range(4):
        for _ in range(3):
            camera.preview(living(clock))
        camera.capture(living(clock))


TAKING: dict[str, Callable[[Camera, Permit], object]] = {
    "capture": lambda camera, permit: camera.capture(permit),
    "burst": lambda camera, permit: list(camera.burst(permit, 3)),
    "preview": lambda camera, permit: camera.preview(permit),
}
taking = pytest.mark.parametrize("take", TAKING.values(), ids=TAKING)
Take = Callable[[Camera, Permit], object]


@taking
def test_a_dead_permit_takes_nothing(camera: Camera, clock: Clock, take: Take) -> None:
    permit = living(clock)
    permit.revoke("switch-open")
    with pytest.raises(Stopped) as stopped:
        take(camera, permit)
    assert stopped.value.reason == "switch-open"


@taking
def test_a_lapsed_permit_takes_nothing(camera: Camera, clock: Clock, take: Take) -> None:
    with pytest.raises(Stopped):
        take(camera, Permit(clock, valid_until_ns=0))


@taking
def test_a_permit_that_dies_meanwhile_yields_no_frame(camera: Camera, clock: Clock, take: Take) -> None:
    checks = 0

    class DiesOnTheSecondLook(Permit):
        def check(self) -> None:
            nonlocal checks
            checks += 1
            if checks == 2:
                self.revoke("switch-open")
            super().check()

    with pytest.raises(Stopped):
        take(camera, DiesOnTheSecondLook(clock, valid_until_ns=10_000 * MS))
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


@taking
def test_a_closed_camera_says_so(camera: Camera, clock: Clock, take: Take) -> None:
    camera.close()
    with pytest.raises(CameraError) as refusal:
        take(camera, living(clock))
    assert refusal.value.reason == "camera-closed"
