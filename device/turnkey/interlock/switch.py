"""The key switch: the port that the interlock watches, and the simulated switch.

Rules kept here:
1. A line that cannot be read is `SwitchUnreadable`, never a guess.
2. `on_edge` reports an opening even where the line is closed again by the time it is read.
3. A simulated switch starts open: a simulated device that nobody touched is stopped, like a real one.
4. `close` leaves the lamp off.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, Protocol

Channel = Literal["a", "b"]


@dataclass(frozen=True)
class SwitchReading:
    """The lines at one moment.

    Attributes:
        channel_a: contact A is closed and energised.
        channel_b: contact B likewise.
        relay_closed: the camera's supply is on, by the relay's mirror contact; None where none is wired (simulated
            only).
    """

    channel_a: bool
    channel_b: bool
    relay_closed: bool | None = None


@dataclass(frozen=True)
class PulseReading:
    """What a test pulse showed: with its own feed off, each closed contact's line must fall, and rise again after."""

    channel_a_followed: bool
    channel_b_followed: bool


@dataclass(frozen=True)
class Edge:
    """A change of one channel, as it happened."""

    channel: Channel
    closed: bool


class SwitchError(Exception):
    """Anything that goes wrong with the key switch."""


class SwitchUnreadable(SwitchError, OSError):
    """A line cannot be read or driven: chip gone, line taken, cable off."""


class Switch(Protocol):
    """Two normally-closed contacts, a relay feedback, a lamp."""

    def read(self) -> SwitchReading:
        """Read all input lines. Raises: SwitchUnreadable."""

    def pulse(self) -> PulseReading | None:
        """Take each contact's feed away for a moment; None where a contact is open, as there is nothing to prove.

        Raises: SwitchUnreadable.
        """

    def on_edge(self, callback: Callable[[Edge], None]) -> None:
        """Call back on every edge of a channel, from any thread, until `close`."""

    def lamp(self, on: bool) -> None:
        """Show whether recognition is permitted. Raises: SwitchUnreadable."""

    def close(self) -> None:
        """Lamp off, lines given back. May be called twice."""


@dataclass(frozen=True)
class SimulatedLines:
    """What is wrong or right with the simulated wires. The default is a healthy switch with the key removed."""

    channel_a: bool = False
    channel_b: bool = False
    relay_welded: bool = False
    relay_stuck_open: bool = False
    cross_short: bool = False
    unreadable: bool = False


class SimulatedSwitch:
    """A switch that a test, the demo or `turnkey key` turns.

    Args:
        path: where given, the wires live in this file, so that another process can turn the key; a change made by
            another process is seen by polling. Without it they live in memory and every change is an edge at once.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._lines = SimulatedLines()
        self._callbacks: list[Callable[[Edge], None]] = []
        self.lamp_on = False
        if path is not None and not path.exists():
            self._store(self._lines)

    def read(self) -> SwitchReading:
        lines = self.lines()
        if lines.unreadable:
            raise SwitchUnreadable("the simulated lines are off")
        relay = (lines.channel_a and lines.channel_b and not lines.relay_stuck_open) or lines.relay_welded
        return SwitchReading(lines.channel_a, lines.channel_b, relay)

    def pulse(self) -> PulseReading | None:
        reading = self.read()
        if not (reading.channel_a and reading.channel_b):
            return None
        followed = not self.lines().cross_short
        return PulseReading(followed, followed)

    def on_edge(self, callback: Callable[[Edge], None]) -> None:
        self._callbacks.append(callback)

    def lamp(self, on: bool) -> None:
        if self.lines().unreadable:
            raise SwitchUnreadable("the simulated lines are off")
        self.lamp_on = on

    def close(self) -> None:
        self._callbacks.clear()
        self.lamp_on = False

    def open_key(self) -> None:
        """Turn the key: both contacts open, A a moment before B."""
        self.open_channel("a")
        self.open_channel("b")

    def close_key(self) -> None:
        """Turn the key back."""
        self.close_channel("a")
        self.close_channel("b")

    def open_channel(self, channel: Channel) -> None:
        """Open one contact: a cut wire, or half of a turn."""
        self._change(channel, False)

    def close_channel(self, channel: Channel) -> None:
        """Close one contact: a short, or half of a turn."""
        self._change(channel, True)

    def break_wire(
        self,
        *,
        relay_welded: bool | None = None,
        relay_stuck_open: bool | None = None,
        cross_short: bool | None = None,
        unreadable: bool | None = None,
    ) -> None:
        """Break or mend the hardware; what is not named stays as it is."""
        broken = {
            "relay_welded": relay_welded,
            "relay_stuck_open": relay_stuck_open,
            "cross_short": cross_short,
            "unreadable": unreadable,
        }
        with self._lock:
            self._store(replace(self._load(), **{name: value for name, value in broken.items() if value is not None}))

    def lines(self) -> SimulatedLines:
        """The simulated wires as they are now. Raises: SwitchUnreadable."""
        with self._lock:
            return self._load()

    def _change(self, channel: Channel, closed: bool) -> None:
        with self._lock:
            before = self._load()
            after = replace(before, channel_a=closed) if channel == "a" else replace(before, channel_b=closed)
            self._store(after)
        if after != before:
            for callback in tuple(self._callbacks):
                callback(Edge(channel, closed))

    def _load(self) -> SimulatedLines:
        if self._path is None:
            return self._lines
        try:
            document = json.loads(self._path.read_bytes())
        except (OSError, ValueError) as error:
            raise SwitchUnreadable(f"the simulated switch's file cannot be read: {type(error).__name__}") from error
        names = {field.name for field in fields(SimulatedLines)}
        if not isinstance(document, dict) or set(document) != names:
            raise SwitchUnreadable("the simulated switch's file is not one")
        if not all(isinstance(value, bool) for value in document.values()):
            raise SwitchUnreadable("the simulated switch's file is not one")
        return SimulatedLines(**document)

    def _store(self, lines: SimulatedLines) -> None:
        if self._path is None:
            self._lines = lines
            return
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        draft.write_text(json.dumps(asdict(lines)))
        draft.replace(self._path)
