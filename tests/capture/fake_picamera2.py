"""A camera that behaves as picamera2 documents and as libcamera's virtual camera was seen to, without either.

What it reproduces, each a trap for an adapter:
* the array of "BGR888" is R, G, B; planes come padded to a stride; a virtual camera adjusts every format to NV12;
* one event loop serves a queue of jobs: a wait that timed out leaves its job there, which eats the next frame;
* a camera whose cable is out lets every wait time out, and hangs in `close` until its jobs are cancelled;
* a request gives a frame that was complete before, where one waits; frames tell when they were taken;
* controls that are not advertised are refused, and then nothing works any more.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STRIDE_PAD = 32
FRAME_NS = 4_000_000
QUEUE_NS = 3 * FRAME_NS


class Bench:
    """What the fakes of one test share, and what the test does to them."""

    def __init__(self, *, adjusts_to: str | None = None, controls: tuple[str, ...] = ()) -> None:
        self.adjusts_to = adjusts_to
        self.controls = controls
        self.opened: list[FakePicamera2] = []
        self.absent = False
        self.frozen = False
        self.shown = 0
        self.set: list[dict[str, Any]] = []

    def open(self, number: int) -> FakePicamera2:
        if self.absent or number:
            raise IndexError("list index out of range")
        self.opened.append(FakePicamera2(self))
        return self.opened[-1]


class FakeRequest:
    def __init__(self, device: FakePicamera2, number: int, sensor_ns: int) -> None:
        self._device, self._number, self._sensor_ns = device, number, sensor_ns
        self.held = True

    def get_metadata(self) -> dict[str, Any]:
        return {"SensorTimestamp": self._sensor_ns, **self._device.present}

    def make_array(self, name: str) -> NDArray[np.uint8]:
        assert self.held, "a request that was released belongs to the camera again"
        stream = self._device.made[name]
        width, height = stream["size"]
        rgb = np.zeros((height, width, 3), np.uint8)
        rgb[..., 0], rgb[..., 1] = 250, 10 * (self._number % 20)
        rgb[: height // 2, :, 0] -= 40
        return as_delivered(rgb, stream["format"])

    def release(self) -> None:
        assert self.held
        self.held = False
        self._device.lent -= 1


def as_delivered(rgb: NDArray[np.uint8], pixel_format: str) -> NDArray[np.uint8]:
    """A picture as picamera2 hands it out, rows padded."""
    height, width = rgb.shape[:2]
    if pixel_format in ("BGR888", "RGB888"):
        packed = rgb if pixel_format == "BGR888" else rgb[..., ::-1]
        return np.pad(packed, ((0, 0), (0, STRIDE_PAD), (0, 0)))
    bands = [np.asarray(band) for band in Image.fromarray(rgb).convert("YCbCr").split()]
    luma, blue, red = bands[0], bands[1][::2, ::2], bands[2][::2, ::2]
    luma = np.pad(luma, ((0, 0), (0, STRIDE_PAD)))
    half = ((0, 0), (0, STRIDE_PAD // 2))
    if pixel_format == "YUV420":
        planes = [np.pad(plane, half).reshape(-1, width + STRIDE_PAD) for plane in (blue, red)]
        return np.vstack([luma, *planes])
    assert pixel_format == "NV12"
    pairs = np.stack([blue, red], axis=-1).reshape(height // 2, width)
    return np.vstack([luma, np.pad(pairs, ((0, 0), (0, STRIDE_PAD)))])


class FakePicamera2:
    """The part of `picamera2.Picamera2` that a still camera needs."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.camera_controls = dict.fromkeys(bench.controls, (0, 1, 0))
        self.present = {"ExposureTime": 2000, "AnalogueGain": 2.0, "ColourGains": (1.5, 1.2), "LensPosition": 3.0}
        self.made: dict[str, Any] = {}
        self.lent = 0
        self.vanished = False
        self.closed = False
        self._shown_ns = time.monotonic_ns()
        self._abandoned_jobs = 0
        self._flushed = threading.Event()
        self._broken = False

    def create_still_configuration(self, main: Any, lores: Any, buffer_count: int) -> dict[str, Any]:
        assert buffer_count >= 2
        return {"main": {"size": (1280, 720)} | main, "lores": dict(lores)}

    def configure(self, configuration: dict[str, Any]) -> None:
        adjusted = {"format": self._bench.adjusts_to} if self._bench.adjusts_to else {}
        self.made = {name: stream | adjusted for name, stream in configuration.items()}

    def camera_configuration(self) -> dict[str, Any]:
        return self.made | {"raw": None}

    def start(self) -> None:
        assert self.made

    def capture_request(self, wait: float) -> FakeRequest:
        assert isinstance(wait, float), "never without a number of seconds"
        bench = self._bench
        if self.vanished or self._broken:
            time.sleep(min(wait, 0.05))
            self._abandoned_jobs += 1
            raise TimeoutError
        bench.shown += 1 + self._abandoned_jobs
        self._abandoned_jobs = 0
        self.lent += 1
        assert self.lent <= 4, "requests were not released"
        # What was complete before is handed out first, as of then; else the next frame is waited for.
        due_ns = max(self._shown_ns + FRAME_NS, time.monotonic_ns() - QUEUE_NS)
        time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        self._shown_ns = due_ns
        return FakeRequest(self, 0 if bench.frozen else bench.shown, due_ns)

    def capture_metadata(self, wait: float) -> dict[str, Any]:
        request = self.capture_request(wait)
        try:
            return request.get_metadata()
        finally:
            request.release()

    def set_controls(self, controls: dict[str, Any]) -> None:
        self._broken = self._broken or not set(controls) <= set(self._bench.controls) | set(self.present)
        self._bench.set.append(controls)

    def cancel_all_and_flush(self) -> None:
        self._abandoned_jobs = 0
        self._flushed.set()

    def close(self) -> None:
        if self.vanished:
            assert self._flushed.wait(60), "close hangs until the jobs are cancelled"
        self.closed = True
