"""The key switch on real lines, through libgpiod 2 (extra `gpio`).

Rules kept here:
1. The lines are those the settings name; they are requested once, exclusively, and together.
2. Inputs are biased towards "not energised": a wire that is off reads as an opening, or as a relay that is on.
3. Whatever libgpiod cannot do is `SwitchUnreadable`. The lines are then given back and asked for anew at the next
   reading, so that the interlock sees when the chip returns; its fault stays latched all the same.
4. A test pulse takes one contact's feed away at a time. The edges it makes itself, known by line and by the kernel's
   time stamp, are not openings; a contact that is still open when its feed is back is one.
5. Without feeds and lamp the hardware rests dark: `close` switches all outputs off.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from turnkey.interlock.switch import Channel, Edge, PulseReading, SwitchReading, SwitchUnreadable
from turnkey.settings import GpioLines

if TYPE_CHECKING:
    from gpiod import EdgeEvent, LineSettings
    from gpiod.line import Value

CONSUMER = "turnkey-interlock"
EVENT_WAIT_S = 0.1
EVENT_BUFFER = 256
"""Edges the kernel keeps while nobody reads: a bouncing contact makes tens, not hundreds."""

_NS_PER_MS = 1_000_000


class LineRequest(Protocol):
    """What is used of gpiod.LineRequest."""

    def get_values(self, lines: Iterable[int | str] | None = None) -> list[Value]: ...
    def set_values(self, values: dict[int | str, Value]) -> None: ...
    def wait_edge_events(self, timeout: float | None = None) -> bool: ...
    def read_edge_events(self, max_events: int | None = None) -> list[EdgeEvent]: ...
    def release(self) -> None: ...
    @property
    def offsets(self) -> list[int]: ...


class RequestLines(Protocol):
    """What is used of gpiod.request_lines."""

    def __call__(
        self,
        path: str,
        config: dict[Iterable[int | str] | int | str, LineSettings | None],
        consumer: str | None = None,
        event_buffer_size: int | None = None,
    ) -> LineRequest: ...


class GpioSwitch:
    """Two contacts, a relay feedback, two feeds and a lamp on one GPIO chip.

    Args:
        lines: which ones.
        pulse_width_ms: how long a feed is taken away, and how long it is given to come back.
        request_lines: gpiod.request_lines, or a double of it.
        monotonic_ns: the clock the kernel stamps edges with (CLOCK_MONOTONIC).
    """

    def __init__(
        self,
        lines: GpioLines,
        pulse_width_ms: int,
        *,
        request_lines: RequestLines | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._lines = lines
        self._pulse_width_s = pulse_width_ms / 1000
        self._request_lines = request_lines
        self._monotonic_ns = monotonic_ns
        self._lock = threading.Lock()  # one reading, pulse or lamp at a time
        self._calls = threading.Lock()  # one call of gpiod at a time, as its LineRequest asks for
        self._request: LineRequest | None = None
        self._offsets: dict[Channel, int] = {}
        self._callbacks: list[Callable[[Edge], None]] = []
        self._windows: deque[tuple[Channel, int, int]] = deque(maxlen=16)
        self._pulsing: tuple[Channel, int] | None = None
        self._lamp_on = False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def read(self) -> SwitchReading:
        with self._lock:
            return self._read()

    def pulse(self) -> PulseReading | None:
        with self._lock:
            before = self._read()
            if not (before.channel_a and before.channel_b):
                return None
            a_fell, a_back = self._pulse("a")
            b_fell, b_back = self._pulse("b")
        for channel, back in (("a", a_back), ("b", b_back)):
            if not back:
                self._tell(Edge("a" if channel == "a" else "b", closed=False))
        if not (a_back and b_back):
            return None
        return PulseReading(a_fell, b_fell)

    def on_edge(self, callback: Callable[[Edge], None]) -> None:
        self._callbacks.append(callback)
        if self._thread is None:
            self._thread = threading.Thread(target=self._listen, name="gpio-edges", daemon=True)
            self._thread.start()

    def lamp(self, on: bool) -> None:
        with self._lock:
            self._lamp_on = on
            self._set({self._lines.lamp: on})

    def close(self) -> None:
        self._closed.set()
        self._callbacks.clear()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=2)
        with self._lock:
            try:
                if self._request is not None:
                    self._set({self._lines.lamp: False, self._lines.pulse_a: False, self._lines.pulse_b: False})
            except SwitchUnreadable:
                return
            finally:
                self._release()

    def _read(self) -> SwitchReading:
        lines = self._lines
        a, b, mirror = self._get(lines.channel_a, lines.channel_b, lines.relay_feedback)
        return SwitchReading(a, b, relay_closed=not mirror)

    def _pulse(self, channel: Channel) -> tuple[bool, bool]:
        """Whether the contact's line, and only it, fell with its feed; and whether it came back."""
        feed = self._lines.pulse_a if channel == "a" else self._lines.pulse_b
        own, other = (
            (self._lines.channel_a, self._lines.channel_b)
            if channel == "a"
            else (self._lines.channel_b, self._lines.channel_a)
        )
        began_ns = self._monotonic_ns()
        self._pulsing = (channel, began_ns)
        try:
            self._set({feed: False})
            time.sleep(self._pulse_width_s)
            fell_own, fell_other = self._get(own, other)
            self._set({feed: True})
            time.sleep(self._pulse_width_s)
            (back,) = self._get(own)
        finally:
            self._windows.append((channel, began_ns, self._monotonic_ns()))
            self._pulsing = None
        return (not fell_own) and fell_other, back

    def _listen(self) -> None:
        """Report edges until closed. Where the lines are gone, reading them says so; here one only waits."""
        while not self._closed.is_set():
            request = self._request
            try:
                if request is None or not request.wait_edge_events(EVENT_WAIT_S):
                    if request is None:
                        self._closed.wait(EVENT_WAIT_S)
                    continue
                with self._calls:
                    events = request.read_edge_events()
            except Exception:
                # gpiod's own exception tree changes between releases; an edge that is lost is caught by polling.
                self._closed.wait(EVENT_WAIT_S)
                continue
            for event in events:
                edge = self._edge_of(event)
                if edge is not None:
                    self._tell(edge)

    def _edge_of(self, event: EdgeEvent) -> Edge | None:
        """The edge, unless a test pulse made it."""
        for channel, offset in self._offsets.items():
            if event.line_offset == offset:
                pulsing = self._pulsing
                if pulsing is not None and pulsing[0] == channel and event.timestamp_ns >= pulsing[1]:
                    return None
                for name, began_ns, ended_ns in tuple(self._windows):
                    if name == channel and began_ns <= event.timestamp_ns <= ended_ns:
                        return None
                return Edge(channel, closed=event.event_type is event.Type.RISING_EDGE)
        return None

    def _tell(self, edge: Edge) -> None:
        for callback in tuple(self._callbacks):
            callback(edge)

    def _get(self, *lines: int | str) -> list[bool]:
        request = self._open()
        try:
            with self._calls:
                return [bool(value) for value in request.get_values(lines)]
        except Exception as error:
            # OSError from the kernel, RequestReleasedError and ValueError from gpiod: the line cannot be read.
            self._release()
            raise SwitchUnreadable(f"a line cannot be read: {error}") from error

    def _set(self, values: dict[int | str, bool]) -> None:
        from gpiod.line import Value

        request = self._open()
        try:
            with self._calls:
                request.set_values({line: Value.ACTIVE if on else Value.INACTIVE for line, on in values.items()})
        except Exception as error:
            # As above.
            self._release()
            raise SwitchUnreadable(f"a line cannot be driven: {error}") from error

    def _open(self) -> LineRequest:
        if self._closed.is_set() and self._request is None:
            raise SwitchUnreadable("the switch is closed")
        if self._request is None:
            try:
                self._request = self._ask()
            except ImportError as error:
                raise SwitchUnreadable("libgpiod is not installed: install turnkey[gpio]") from error
            except Exception as error:
                # A chip that is absent, a line that is taken, a name that is unknown.
                raise SwitchUnreadable(f"the lines of {self._lines.chip} cannot be had: {error}") from error
            names: tuple[Channel, Channel] = ("a", "b")
            self._offsets = dict(zip(names, self._request.offsets[:2], strict=True))
        return self._request

    def _ask(self) -> LineRequest:
        import gpiod
        from gpiod.line import Bias, Clock, Direction, Value
        from gpiod.line import Edge as LineEdge

        lines = self._lines
        request_lines: RequestLines = self._request_lines or gpiod.request_lines
        low = lines.inputs_active_low
        bias = Bias.PULL_UP if low else Bias.PULL_DOWN
        channel = gpiod.LineSettings(
            direction=Direction.INPUT,
            edge_detection=LineEdge.BOTH,
            bias=bias,
            active_low=low,
            event_clock=Clock.MONOTONIC,
        )
        feedback = gpiod.LineSettings(direction=Direction.INPUT, bias=bias, active_low=low)
        feed = gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value.ACTIVE)
        lamp = gpiod.LineSettings(
            direction=Direction.OUTPUT, output_value=Value.ACTIVE if self._lamp_on else Value.INACTIVE
        )
        return request_lines(
            str(lines.chip),
            {
                lines.channel_a: channel,
                lines.channel_b: channel,
                lines.relay_feedback: feedback,
                lines.pulse_a: feed,
                lines.pulse_b: feed,
                lines.lamp: lamp,
            },
            consumer=CONSUMER,
            event_buffer_size=EVENT_BUFFER,
        )

    def _release(self) -> None:
        request, self._request = self._request, None
        if request is not None:
            with self._calls, contextlib.suppress(OSError):
                request.release()
