"""Which camera a device has: the one its settings name. A chain of silent fall-backs there is not."""

from __future__ import annotations

from turnkey.capture.camera import Camera
from turnkey.capture.folder import FolderCamera
from turnkey.capture.gstreamer import GstreamerCamera
from turnkey.capture.picamera import PiCamera
from turnkey.settings import CameraSettings


def open_camera(settings: CameraSettings) -> Camera:
    """The camera that the settings name.

    Raises:
        CameraError: it cannot be opened.
    """
    if settings.adapter == "picamera2":
        return PiCamera(
            settings.number,
            still_px=settings.still_px,
            timeout_s=settings.timeout_s,
            frozen_after=settings.frozen_after,
        )
    if settings.adapter == "gstreamer":
        return GstreamerCamera(settings.pipeline, timeout_s=settings.timeout_s, frozen_after=settings.frozen_after)
    return FolderCamera(settings.folder, repeat=settings.repeat)
