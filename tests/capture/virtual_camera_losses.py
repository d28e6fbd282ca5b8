"""A virtual camera that is stopped under the adapter, as libcamera stops one whose cable is pulled: it comes back."""

from __future__ import annotations

import time

import pytest

from turnkey.interlock.permit import Permit

from .virtual_picamera2 import stand_in, virtual_camera


@pytest.mark.parametrize("press", ["capture", "burst", "preview"])
def test_a_camera_whose_requests_are_cancelled_is_opened_anew(press: str) -> None:
    stand_in()
    permit = Permit(time.monotonic_ns, time.monotonic_ns() + 600 * 10**9)
    camera = virtual_camera(time.monotonic_ns)
    try:
        for _ in range(3):
            camera.capture(permit)
            first = camera._device
            first.camera.stop()
            time.sleep(0.3)
            for _ in range(6):  # frames that were complete before still come
                {"capture": camera.capture, "preview": camera.preview}.get(press, lambda p: list(camera.burst(p, 3)))(
                    permit
                )
            assert camera._device is not first
    finally:
        camera.close()
