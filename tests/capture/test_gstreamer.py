"""GStreamer pipelines that fail, end, stall and freeze: each is named, and one new pipeline is tried."""

from __future__ import annotations

import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from patience import PATIENCE_S
from PIL import Image

from turnkey.capture.camera import CameraError
from turnkey.capture.freezing import digest_of
from turnkey.capture.gstreamer import GstreamerCamera
from turnkey.interlock.permit import Permit

NOISE = "videotestsrc pattern=snow ! video/x-raw,width=64,height=64"


@pytest.fixture(autouse=True)
def _gstreamer_is_here() -> None:
    try:
        GstreamerCamera(NOISE).close()
    except CameraError as error:
        if error.reason == "camera-driver-missing":
            pytest.skip(str(error))
        raise


def living() -> Permit:
    return Permit(time.monotonic_ns, time.monotonic_ns() + 600 * 10**9)


def camera(pipeline: str, timeout_s: float = PATIENCE_S, frozen_after: int | None = 10) -> GstreamerCamera:
    return GstreamerCamera(pipeline, timeout_s=timeout_s, frozen_after=frozen_after)


def reason_of(pipeline: str, timeout_s: float = PATIENCE_S, presses: int = 1) -> str:
    with pytest.raises(CameraError) as refusal, closing(camera(pipeline, timeout_s, frozen_after=3)) as lens:
        for _ in range(presses):
            lens.capture(living())
    return refusal.value.reason


def test_a_missing_element_is_named() -> None:
    assert reason_of("nosuchcamerasrc ! videoconvert") == "camera-element-missing"


def test_what_is_no_pipeline_is_named() -> None:
    assert reason_of("videotestsrc ! ! !") == "camera-pipeline-malformed"


def test_a_camera_that_is_not_plugged_in_is_absent() -> None:
    assert reason_of("v4l2src device=/dev/no-such-video", timeout_s=1.0) in ("camera-absent", "camera-lost")


def test_a_file_that_is_not_there_is_absent(tmp_path: Path) -> None:
    assert reason_of(f"filesrc location={tmp_path}/none.jpg ! jpegdec", timeout_s=1.0) in (
        "camera-absent",
        "camera-lost",
    )


def test_a_silent_camera_is_lost() -> None:
    assert (
        reason_of("appsrc is-live=true caps=video/x-raw,format=RGB,width=64,height=64", timeout_s=0.2) == "camera-lost"
    )


def test_an_error_in_the_stream_costs_no_press() -> None:
    lens = camera(f"{NOISE} ! identity error-after=4", timeout_s=2.0)
    digests = [digest_of(lens.capture(living()).pixels) for _ in range(10)]
    assert all(one != next_ for one, next_ in pairwise(digests)), "no frame was handed out twice"
    lens.close()


def test_a_stream_that_ends_is_begun_again() -> None:
    lens = camera("videotestsrc pattern=snow num-buffers=2 ! video/x-raw,width=64,height=64")
    for _ in range(5):
        lens.capture(living())
    lens.close()


def test_a_stream_that_ends_at_once_has_ended() -> None:
    pipeline = "videotestsrc num-buffers=3 ! video/x-raw,width=64,height=64 ! identity drop-probability=1.0"
    assert reason_of(pipeline) == "camera-ended"


def test_a_frozen_stream_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (9, 9, 9)).save(tmp_path / "still.jpg")
    still = f"filesrc location={tmp_path}/still.jpg ! jpegdec ! imagefreeze"
    lens = camera(still, frozen_after=None)
    for _ in range(20):
        lens.capture(living())
    lens.close()
    assert reason_of(still, presses=20) == "camera-frozen"


def test_a_still_of_a_live_source_was_taken_after_the_press() -> None:
    lens = camera("videotestsrc is-live=true pattern=snow ! video/x-raw,width=64,height=64,framerate=30/1")
    lens.capture(living())
    time.sleep(0.3)
    pressed = lens._running_time()
    lens.capture(living())
    assert lens._last_pts >= pressed
    lens.close()
