"""Any camera that GStreamer has a source for: `nvarguscamerasrc` on a Jetson, `v4l2src` for USB.

The pipeline comes from the settings and ends in raw video; what makes it RGB and hands it over is appended here.

Rules kept here:
1. GObject introspection (`gi`) is imported when a camera is opened, so that all else runs where it is not installed.
2. Every wait has a number of seconds. End of stream, an error on the bus and silence are losses: the pipeline is built
   anew, once for each press; then the error says what GStreamer said.
3. From a live source, a still is a frame that was taken after the press: what was waiting is thrown away. No frame is
   handed out twice.
4. Where the element named `source` can hold exposure and white balance (`aelock`, `awblock`), it does for a burst.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from turnkey.capture.camera import CameraError, Frame, read_only
from turnkey.capture.freezing import FrozenFrames, digest_of
from turnkey.capture.picture import shrunk
from turnkey.interlock.permit import Permit

_SINK: Final = "turnkey-shutter"
_TAIL: Final = (
    f" ! videoconvert ! video/x-raw,format=RGB ! appsink name={_SINK} sync=false max-buffers=1 enable-last-sample=false"
)
_LOCKS: Final = ("aelock", "awblock")
_STALE_FRAMES: Final = 64
_NOTHING: Final = np.empty((0, 0, 3), np.uint8)


def _gstreamer() -> Any:
    try:
        import gi  # type: ignore[import-not-found,import-untyped,unused-ignore]

        gi.require_version("Gst", "1.0")
        from gi.repository import Gst  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except (ImportError, ValueError) as error:
        message = f"GStreamer cannot be loaded ({error}): install Debian's python3-gi and gir1.2-gstreamer-1.0."
        raise CameraError("camera-driver-missing", message) from error
    Gst.init(None)
    return Gst


class GstreamerCamera:
    """The `Camera` port over a GStreamer pipeline. For one thread at a time.

    Args:
        pipeline: in the syntax of gst-launch, from a source to raw video, for instance
            `v4l2src name=source device=/dev/video0 ! image/jpeg,width=1920 ! jpegdec`.
        timeout_s: longest wait for a frame, seconds.
        frozen_after: see `FrozenFrames`.
        monotonic_ns: the clock for `Frame.taken_ns`, nanoseconds.

    Attributes:
        opened: how often the pipeline was built: once, and once more after each loss.

    Raises:
        CameraError: camera-driver-missing, camera-element-missing, camera-pipeline-malformed, camera-absent.
    """

    def __init__(
        self,
        pipeline: str,
        *,
        timeout_s: float = 1.0,
        frozen_after: int | None = 10,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._gst = _gstreamer()
        self._description = pipeline
        self._timeout_s = timeout_s
        self._frozen = FrozenFrames(frozen_after)
        self._monotonic_ns = monotonic_ns
        self._closed = False
        self._pipeline: Any = None
        self._sink: Any = None
        self._live = False
        self._last_pts = -1
        self.opened = 0
        self._open()

    def capture(self, permit: Permit) -> Frame:
        """One frame.

        Raises:
            Stopped: the permit is dead.
            CameraError: camera-closed, camera-lost, camera-ended, camera-frozen.
        """
        return next(self.burst(permit, 1))

    def burst(self, permit: Permit, most: int) -> Generator[Frame]:
        """`most` frames of one press. Raises: as `capture`."""
        held = most > 1 and self._hold(True)
        memory = _NOTHING
        try:
            for _ in range(most):
                taken_ns = self._monotonic_ns()
                memory = self._pixels(permit, memory)
                yield Frame(read_only(memory), taken_ns, "camera", lent=True)
        finally:
            if held:
                self._hold(False)

    def preview(self, permit: Permit) -> Frame:
        """The next frame, small. Raises: as `capture`."""
        taken_ns = self._monotonic_ns()
        return Frame(read_only(shrunk(self._pixels(permit, _NOTHING))), taken_ns, "camera")

    def close(self) -> None:
        """Give the camera back. Safe to call twice."""
        self._closed = True
        self._give_up()

    def _pixels(self, permit: Permit, memory: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The next frame: in `memory`, if it has the frame's shape."""
        permit.check()
        if self._closed:
            raise CameraError("camera-closed", "The camera is closed. Restart the booking.")
        try:
            pixels = self._next(memory)
        except CameraError:
            self._give_up()
            permit.check()
            self._open()
            pixels = self._next(memory)
        permit.check()
        return pixels

    def _next(self, memory: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._pipeline is None:
            self._open()
        pressed = self._running_time() if self._live else None
        deadline_s = time.monotonic() + self._timeout_s
        for _ in range(_STALE_FRAMES):
            left_s = deadline_s - time.monotonic()
            sample = self._sink.emit("try-pull-sample", max(0, int(left_s * self._gst.SECOND))) if left_s > 0 else None
            if sample is None:
                raise self._loss()
            pts = sample.get_buffer().pts
            at = sample.get_segment().to_running_time(self._gst.Format.TIME, pts)
            if pts <= self._last_pts or (pressed is not None and at < pressed):
                continue
            self._last_pts = pts
            pixels = self._copied(sample, memory)
            if self._frozen.frozen(digest_of(pixels)):
                break
            return pixels
        raise CameraError("camera-frozen", "The camera shows the same picture again and again. Restart it.")

    def _running_time(self) -> int:
        clock = self._pipeline.get_clock()
        return 0 if clock is None else int(clock.get_time() - self._pipeline.get_base_time())

    def _copied(self, sample: Any, memory: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(height, width, 3) uint8, RGB, in `memory` or in new memory; GStreamer pads rows to four bytes."""
        structure = sample.get_caps().get_structure(0)
        width, height = structure.get_value("width"), structure.get_value("height")
        buffer = sample.get_buffer()
        mapped, view = buffer.map(self._gst.MapFlags.READ)
        if not mapped:
            raise CameraError("camera-lost", "A frame of the camera cannot be read. Restart it.")
        try:
            rows = np.frombuffer(view.data, dtype=np.uint8).reshape(height, -1)
            pixels = memory if memory.shape == (height, width, 3) else np.empty((height, width, 3), np.uint8)
            pixels.reshape(height, width * 3)[:] = rows[:, : width * 3]
        finally:
            buffer.unmap(view)
        return pixels

    def _loss(self) -> CameraError:
        """What the bus says about a frame that did not come."""
        kinds = self._gst.MessageType
        message = self._pipeline.get_bus().pop_filtered(kinds.ERROR | kinds.EOS)
        if message is None and self._sink.get_property("eos"):
            return CameraError("camera-ended", "The camera's stream has ended. Restart it.")
        if message is None:
            return CameraError(
                "camera-lost", f"The camera delivered nothing for {self._timeout_s:g} s. Check its cable."
            )
        if message.type == kinds.EOS:
            return CameraError("camera-ended", "The camera's stream has ended. Restart it.")
        return CameraError("camera-lost", f"The camera failed: {message.parse_error()[0].message} Check its cable.")

    def _open(self) -> None:
        gst = self._gst
        self._last_pts = -1
        try:
            pipeline = gst.parse_launch(self._description + _TAIL)
        except Exception as error:  # GLib.Error, whose class belongs to the module that is loaded late
            missing = "no element" in str(error) or "no property" in str(error)
            reason = "camera-element-missing" if missing else "camera-pipeline-malformed"
            raise CameraError(reason, f"The camera's pipeline cannot be built: {error}. Check the settings.") from error
        sink = pipeline.get_by_name(_SINK)
        self._pipeline, self._sink = pipeline, sink
        self.opened += 1
        change = pipeline.set_state(gst.State.PLAYING)
        if change == gst.StateChangeReturn.ASYNC:
            change = pipeline.get_state(int(self._timeout_s * gst.SECOND))[0]
        self._live = any(self._is_live(source) for source in _all(pipeline.iterate_sources()))
        if change == gst.StateChangeReturn.FAILURE:
            loss = self._loss()
            self._give_up()
            raise CameraError("camera-absent", str(loss)) from loss
        # A live source goes on while nobody pulls: the newest frame replaces the one that waits. A file waits instead.
        sink.set_property("drop", self._live)

    def _is_live(self, source: Any) -> bool:
        # The source is asked, not the pipeline: a sink that does not keep time answers for it that nothing is live.
        latency = self._gst.Query.new_latency()
        return bool(source.query(latency) and latency.parse_latency()[0])

    def _hold(self, held: bool) -> bool:
        source: Any = self._pipeline.get_by_name("source") if self._pipeline is not None else None
        known = [] if source is None else [name for name in _LOCKS if source.find_property(name) is not None]
        for name in known:
            source.set_property(name, held)
        return bool(known)

    def _give_up(self) -> None:
        pipeline, self._pipeline, self._sink = self._pipeline, None, None
        if pipeline is not None:
            pipeline.set_state(self._gst.State.NULL)


def _all(iterator: Any) -> list[Any]:
    """The elements of a Gst.Iterator, which is none of Python's."""
    elements: list[Any] = []
    iterator.foreach(elements.append)
    return elements
