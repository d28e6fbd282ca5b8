"""What a camera on the Pi's connector does on its bad days, over the fake of picamera2."""

from __future__ import annotations

import time
from typing import Any

import pytest

from turnkey.capture.camera import CameraError
from turnkey.capture.picamera import PiCamera
from turnkey.interlock.permit import Permit

from .fake_picamera2 import Bench, FakeRequest

ALL = ("AeEnable", "AwbEnable", "AfMode")


def living() -> Permit:
    return Permit(time.monotonic_ns, time.monotonic_ns() + 600 * 10**9)


def camera(bench: Bench, **more: Any) -> PiCamera:
    return PiCamera(timeout_s=0.05, open_camera=bench.open, **more)


def test_a_camera_that_is_not_there_is_named() -> None:
    bench = Bench()
    bench.absent = True
    with pytest.raises(CameraError) as refusal:
        camera(bench)
    assert refusal.value.reason == "camera-absent"


def test_without_picamera2_the_error_says_what_to_install() -> None:
    with pytest.raises(CameraError, match="python3-picamera2") as refusal:
        PiCamera()
    assert refusal.value.reason == "camera-driver-missing"


def test_a_vanished_camera_is_given_up_and_opened_anew() -> None:
    bench = Bench()
    lens = camera(bench)
    lens.capture(living())
    bench.opened[0].vanished = True
    assert lens.capture(living()).pixels.size
    assert bench.opened[0].closed, "closing hangs until the jobs are cancelled"
    assert len(bench.opened) == 2
    lens.close()
    assert bench.opened[1].closed


def test_a_camera_that_stays_away_is_an_error_and_is_found_when_it_is_back() -> None:
    bench = Bench()
    lens = camera(bench)
    bench.opened[0].vanished = True
    bench.absent = True
    for _ in range(3):
        with pytest.raises(CameraError) as refusal:
            lens.capture(living())
        assert refusal.value.reason == "camera-absent"
    bench.absent = False
    assert lens.capture(living()).pixels.size


def test_a_frozen_camera_is_opened_anew_and_named_where_that_does_not_help() -> None:
    bench = Bench()
    lens = camera(bench, frozen_after=3)
    for _ in range(5):
        lens.capture(living())
    bench.frozen = True
    with pytest.raises(CameraError) as refusal:
        for _ in range(10):
            lens.capture(living())
    assert refusal.value.reason == "camera-frozen"
    assert len(bench.opened) == 2, "a new object was tried"
    bench.frozen = False
    assert lens.capture(living()).pixels.size


def test_frames_of_a_still_played_on_purpose_are_not_frozen() -> None:
    bench = Bench()
    bench.frozen = True
    lens = camera(bench, frozen_after=None)
    for _ in range(20):
        lens.capture(living())
    assert len(bench.opened) == 1


def test_a_burst_holds_exposure_white_balance_and_focus_and_lets_them_go() -> None:
    bench = Bench(controls=(*ALL, "ExposureTime", "AnalogueGain", "ColourGains", "LensPosition"))
    assert len(list(camera(bench).burst(living(), 5))) == 5
    free, held, after = bench.set
    assert free == after == {"AeEnable": True, "AwbEnable": True, "AfMode": 2}
    assert held["AeEnable"] is False
    assert held["ExposureTime"] == 2000
    assert held["AwbEnable"] is False
    assert held["ColourGains"] == (1.5, 1.2)
    assert held["AfMode"] == 0
    assert held["LensPosition"] == 3.0


def test_a_burst_that_nobody_waits_for_lets_go_of_what_it_held() -> None:
    bench = Bench(controls=(*ALL, "ExposureTime", "AnalogueGain", "ColourGains", "LensPosition"))
    burst = camera(bench).burst(living(), 5)
    next(burst)
    assert bench.set[-1]["AeEnable"] is False
    burst.close()
    assert bench.set[-1] == {"AeEnable": True, "AwbEnable": True, "AfMode": 2}


def test_only_what_the_camera_advertises_is_set() -> None:
    bench = Bench(controls=("AeEnable", "ExposureTime", "AnalogueGain"))
    lens = camera(bench)
    assert list(lens.burst(living(), 3))
    assert all(set(controls) <= {"AeEnable", "ExposureTime", "AnalogueGain"} for controls in bench.set)
    nothing = Bench()
    assert list(camera(nothing).burst(living(), 3))
    assert nothing.set == []


def test_what_the_camera_made_of_the_configuration_is_read_back() -> None:
    bench = Bench(adjusts_to="RGB888")
    pixels = camera(bench).capture(living()).pixels
    assert pixels[..., 0].mean() > pixels[..., 2].mean()
    with pytest.raises(CameraError) as refusal:
        bench.adjusts_to = "MJPEG"
        camera(bench).capture(living())
    assert refusal.value.reason == "camera-format-unknown"


def test_a_still_was_begun_after_the_press_and_a_preview_may_be_what_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    lens = camera(bench)
    begun: list[int] = []
    real = FakeRequest.make_array

    def noted(request: FakeRequest, name: str) -> object:
        metadata = request.get_metadata()
        begun.append(metadata["SensorTimestamp"] - 1000 * metadata["ExposureTime"])
        return real(request, name)

    monkeypatch.setattr(FakeRequest, "make_array", noted)
    for _ in range(5):
        time.sleep(0.03)
        pressed = time.monotonic_ns()
        lens.capture(living())
        assert begun[-1] >= pressed
    time.sleep(0.03)
    pressed = time.monotonic_ns()
    lens.preview(living())
    assert begun[-1] < pressed


def test_a_camera_that_tells_no_time_passes_over_what_may_have_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRequest, "get_metadata", lambda _request: {})
    bench = Bench()
    camera(bench).capture(living())
    assert bench.shown == 5


def test_stills_have_the_size_that_was_asked_for() -> None:
    assert camera(Bench(), still_px=(640, 480)).capture(living()).pixels.shape == (480, 640, 3)
