"""Unmodified picamera2 on libcamera's virtual camera; run by tests/capture/virtual-camera in a root that has both.

What stands in for hardware, and nothing else does:
* `pykms`, imported by picamera2 for a preview window that nobody opens;
* raw modes: a virtual sensor has none to be asked for;
* the DMA heap: buffers come from memfd;
* the status of a frame's metadata, which the virtual pipeline of libcamera 0.4 leaves uninitialised.
"""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
from PIL import Image

from turnkey.capture.picamera import PiCamera

PICTURES = Path("/pictures")


def stand_in() -> None:
    """Put the four stand-ins in place, and pictures before the camera."""
    PICTURES.mkdir(exist_ok=True)
    noise = np.random.default_rng(1)
    for number in range(8):
        picture = np.full((720, 1280, 3), (220, 60, 30), np.uint8)
        picture += noise.integers(0, 20, picture.shape, dtype=np.uint8)
        Image.fromarray(picture).save(PICTURES / f"image{number:03}.jpg", quality=92)
    sys.modules["pykms"] = MagicMock()
    import libcamera  # type: ignore[import-not-found]
    import picamera2.picamera2 as driver  # type: ignore[import-not-found]
    from picamera2.allocators.allocator import Allocator  # type: ignore[import-not-found]

    class Mapped:
        """What picamera2 enters to read a buffer."""

        def __init__(self, allocator: Any, buffer: Any, _write: bool) -> None:
            self._memory = allocator.memory[buffer]

        def __enter__(self) -> mmap.mmap:
            return self._memory

        def __exit__(self, *_: object) -> None:
            """Nothing was locked."""

        def get_buffer(self) -> mmap.mmap:
            return self._memory

    class MemoryAllocator(Allocator):  # type: ignore[misc]
        """Frame buffers in anonymous files instead of a DMA heap."""

        def __init__(self) -> None:
            super().__init__()
            self.memory: dict[Any, mmap.mmap] = {}
            self.sync = Mapped
            self._buffers: dict[Any, list[Any]] = {}
            self._files: list[int] = []

        def allocate(self, configuration: Any, _use_case: object) -> None:
            self.close()
            for stream in configuration:
                luma = stream.stride * stream.size.height
                made = []
                for _ in range(stream.buffer_count):
                    file = os.memfd_create("frame")
                    os.ftruncate(file, stream.frame_size)
                    self._files.append(file)
                    planes = []
                    for offset, length in ((0, luma), (luma, stream.frame_size - luma)):
                        plane = libcamera.FrameBuffer.Plane()
                        plane.fd, plane.offset, plane.length = file, offset, length
                        planes.append(plane)
                    made.append(libcamera.FrameBuffer(planes))
                    self.memory[made[-1]] = mmap.mmap(file, stream.frame_size)
                self._buffers[stream.stream] = made

        def buffers(self, stream: Any) -> list[Any]:
            return self._buffers[stream]

        def close(self) -> None:
            for file in self._files:
                os.close(file)
            self._files, self._buffers = [], {}

    def raw_modes(camera: Any) -> list[dict[str, Any]]:
        still = camera.camera.generate_configuration([libcamera.StreamRole.StillCapture]).at(0)
        return [{"format": str(still.pixel_format), "size": (still.size.width, still.size.height)}]

    driver.DmaAllocator = MemoryAllocator
    driver.Picamera2._get_raw_modes = raw_modes
    libcamera.FrameMetadata.status = property(lambda _self: libcamera.FrameMetadata.Status.Success)


def virtual_camera(monotonic_ns: Any) -> PiCamera:
    """The adapter on the virtual camera. It plays pictures again and again, so nothing is taken for frozen."""
    return PiCamera(monotonic_ns=monotonic_ns, timeout_s=5.0, frozen_after=None)


if __name__ == "__main__":
    import pytest

    stand_in()
    import libcamera
    import picamera2

    print("libcamera", libcamera.CameraManager.singleton().version, "picamera2 in", Path(picamera2.__file__).parent)
    folder = Path(__file__).parent
    sys.exit(
        pytest.main(
            [
                "-v",
                "-k",
                "real or anew",
                str(folder / "test_camera_contract.py"),
                str(folder / "virtual_camera_losses.py"),
            ]
        )
    )
