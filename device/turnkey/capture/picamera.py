"""A camera on the Raspberry Pi's connector, through picamera2 (libcamera).

Rules kept here:
1. picamera2 is imported when a camera is opened, so that everything else runs where it is not installed.
2. One configuration for stills and preview at once: no mode is switched at the shutter. What the camera made of it is
   read back, and frames are read as that.
3. Every wait has a number of seconds. A camera that delivers nothing in time, or the same frame again and again, is
   given up (its jobs cancelled, the object closed, in a thread that may hang) and a new object is tried, once for
   each press; then the error says so.
4. A still is a frame whose exposure began after the press. No frame is handed out twice.
5. Exposure, white balance and focus are held for a burst, each only where the camera says that it can.

Order of bytes: picamera2's "BGR888" is R, G, B in the array (see `colour`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from turnkey.capture.camera import PREVIEW_SIDE_PX, CameraError, Frame
from turnkey.capture.colour import FORMATS, rgb_of
from turnkey.capture.freezing import FrozenFrames, digest_of
from turnkey.capture.picture import shrunk
from turnkey.interlock.permit import Permit

CLOSE_S: Final = 2.0
"""How long a camera that is given up may take to close; one whose cable is out can hang there for good."""
_BUFFERS: Final = 4
_STALE_FRAMES: Final = 16
"""So many frames from before the press, or handed out before, are passed over; a queue holds fewer."""
_HELD: Final = {
    # control that holds it, its value, the controls that carry the present values (libcamera's names)
    "AeEnable": (False, ("ExposureTime", "AnalogueGain")),
    "AwbEnable": (False, ("ColourGains",)),
    "AfMode": (0, ("LensPosition",)),
}
_FREE: Final[dict[str, Any]] = {"AeEnable": True, "AwbEnable": True, "AfMode": 2}


def _picamera2(number: int) -> Any:
    try:
        from picamera2 import Picamera2  # type: ignore[import-not-found]
    except ImportError as error:
        message = f"picamera2 cannot be loaded ({error}): install Debian's python3-picamera2, or name another camera."
        raise CameraError("camera-driver-missing", message) from error
    return Picamera2(number)


class PiCamera:
    """The `Camera` port over picamera2. For one thread at a time.

    Args:
        number: which camera, 0 is the first.
        still_px: (width, height) of stills, or None for the sensor's own.
        timeout_s: longest wait for a frame, seconds.
        frozen_after: see `FrozenFrames`.
        monotonic_ns: the clock for `Frame.taken_ns`, nanoseconds.
        open_camera: makes the picamera2 object of a number.

    Raises:
        CameraError: camera-driver-missing, camera-absent, camera-format-unknown.
    """

    def __init__(
        self,
        number: int = 0,
        *,
        still_px: tuple[int, int] | None = None,
        timeout_s: float = 1.0,
        frozen_after: int | None = 10,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        open_camera: Callable[[int], Any] = _picamera2,
    ) -> None:
        self._number = number
        self._still_px = still_px
        self._timeout_s = timeout_s
        self._frozen = FrozenFrames(frozen_after)
        self._monotonic_ns = monotonic_ns
        self._open_camera = open_camera
        self._closed = False
        self._device: Any = None
        self._streams: dict[str, tuple[str, int, int]] = {}
        self._last_sensor_ns = -1
        self._open()

    def capture(self, permit: Permit) -> Frame:
        """One still.

        Raises:
            Stopped: the permit is dead.
            CameraError: camera-closed, camera-lost, camera-frozen, camera-format-unknown, camera-frame-malformed.
        """
        return next(self.burst(permit, 1))

    def burst(self, permit: Permit, most: int) -> Generator[Frame]:
        """`most` stills of one press, exposure, white balance and focus held. Raises: as `capture`."""
        held = False
        try:
            for _ in range(most):
                frame = self._still(permit)
                if not held and most > 1:
                    held = self._hold()
                yield frame
                del frame  # before the next is taken: one frame's memory at a time
        finally:
            if held and self._device is not None:
                self._set(_FREE)

    def preview(self, permit: Permit) -> Frame:
        """The low-resolution stream's next frame. Raises: as `capture`."""
        taken_ns = self._monotonic_ns()
        name = "lores" if "lores" in self._streams else "main"
        pixels = shrunk(self._pixels(permit, name, flush=False))
        return Frame(pixels=pixels, taken_ns=taken_ns, source=f"camera {self._number}")

    def close(self) -> None:
        """Give the camera back. Safe to call twice."""
        self._closed = True
        self._give_up()

    def _still(self, permit: Permit) -> Frame:
        taken_ns = self._monotonic_ns()
        return Frame(self._pixels(permit, "main", flush=True), taken_ns, f"camera {self._number}")

    def _pixels(self, permit: Permit, stream: str, flush: bool) -> NDArray[np.uint8]:
        permit.check()
        if self._closed:
            raise CameraError("camera-closed", "The camera is closed. Restart the booking.")
        try:
            pixels = self._next(stream, flush)
        except CameraError as error:
            if error.reason not in ("camera-lost", "camera-frozen"):
                raise
            self._give_up()
            permit.check()
            self._open()
            pixels = self._next(stream, flush)
        permit.check()
        return pixels

    def _next(self, stream: str, flush: bool) -> NDArray[np.uint8]:
        if self._device is None:
            self._open()
        # Not picamera2's own `flush`: it needs an ExposureTime with each frame, which not every camera sends, and the
        # error ends its event loop.
        pressed_ns = time.monotonic_ns() if flush else 0
        for number in range(_STALE_FRAMES):
            try:
                request = self._device.capture_request(wait=self._timeout_s)
            except Exception as error:  # a TimeoutError; RuntimeError and more once its event loop is dead
                message = f"The camera delivers nothing ({type(error).__name__}). Check its cable."
                raise CameraError("camera-lost", message) from error
            try:
                if not self._is_new(request.get_metadata(), pressed_ns, number):
                    continue
                pixels = rgb_of(request.make_array(stream), *self._streams[stream])
            finally:
                request.release()
            if self._frozen.frozen(digest_of(pixels)):
                break
            return pixels
        raise CameraError("camera-frozen", "The camera shows the same picture again and again. Restart it.")

    def _is_new(self, metadata: dict[str, Any], pressed_ns: int, number: int) -> bool:
        """Whether a frame was never handed out and, for a still, was begun after the press.

        libcamera's SensorTimestamp is the end of the exposure on CLOCK_MONOTONIC, in nanoseconds, its ExposureTime in
        microseconds. Where a camera tells no time, as many frames are passed over as can have waited.
        """
        sensor_ns = metadata.get("SensorTimestamp")
        if sensor_ns is None:
            return not pressed_ns or number >= _BUFFERS
        begun_ns = sensor_ns - 1000 * metadata.get("ExposureTime", 0)
        if sensor_ns <= self._last_sensor_ns or begun_ns < pressed_ns:
            return False
        self._last_sensor_ns = sensor_ns
        return True

    def _open(self) -> None:
        self._last_sensor_ns = -1
        try:
            device = self._open_camera(self._number)
        except CameraError:
            raise
        except Exception as error:  # libcamera's own errors, and an IndexError where no such camera is listed
            message = f"There is no camera {self._number} ({type(error).__name__}: {error}). Check its cable."
            raise CameraError("camera-absent", message) from error
        self._device = device
        try:
            main = {"format": "BGR888"} | ({"size": self._still_px} if self._still_px else {})
            lores = {"format": "YUV420", "size": (PREVIEW_SIDE_PX, PREVIEW_SIDE_PX * 3 // 4)}
            device.configure(device.create_still_configuration(main=main, lores=lores, buffer_count=_BUFFERS))
            made = device.camera_configuration()
            self._streams = {
                name: (str(made[name]["format"]), *made[name]["size"]) for name in ("main", "lores") if made.get(name)
            }
            unknown = {stream[0] for stream in self._streams.values()} - set(FORMATS)
            if unknown:
                message = f"The camera delivers {', '.join(unknown)}, which is not read here; {', '.join(FORMATS)} are."
                raise CameraError("camera-format-unknown", message)
            device.start()
            self._set(_FREE)
        except CameraError:
            self._give_up()
            raise
        except Exception as error:
            self._give_up()
            message = f"Camera {self._number} cannot be set up ({type(error).__name__}: {error}). Restart the device."
            raise CameraError("camera-absent", message) from error

    def _hold(self) -> bool:
        """Freeze what the last frame was taken with, where the camera can; whether anything was frozen."""
        present = self._device.capture_metadata(wait=self._timeout_s)
        held: dict[str, Any] = {}
        for control, (value, carriers) in _HELD.items():
            if control in self._device.camera_controls and all(name in present for name in carriers):
                held |= {control: value} | {name: present[name] for name in carriers}
        return self._set(held)

    def _set(self, controls: dict[str, Any]) -> bool:
        advertised = {name: value for name, value in controls.items() if name in self._device.camera_controls}
        if advertised:
            self._device.set_controls(advertised)
        return bool(advertised)

    def _give_up(self) -> None:
        device, self._device = self._device, None
        if device is None:
            return

        def close() -> None:
            device.cancel_all_and_flush()
            device.close()

        closing = threading.Thread(target=_quietly(close), name="camera-close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)


def _quietly(action: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        try:
            action()
        except Exception:  # a camera that is gone may fail at being closed in any way it likes
            return

    return run
