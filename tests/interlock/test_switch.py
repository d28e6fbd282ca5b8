"""The contract that both switches keep: the simulated one, and libgpiod's over a board that exists only in memory.

The board is the wiring drawing of systemd/WIRING.md: two contacts with a feed each, opto-couplers that pull their line
low, a relay with a mirror contact that opens as it closes, a lamp. It answers as `gpiod.request_lines` and the request
it returns do (libgpiod 2): lines by offset or name, exclusive requests, values as `gpiod.line.Value`, edges with the
kernel's sequence and time stamp."""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from pathlib import Path

import gpiod
import pytest
from gpiod.line import Bias, Direction, Value
from patience import wait_for

from turnkey.interlock.gpio import GpioSwitch
from turnkey.interlock.interlock import Interlock
from turnkey.interlock.latch import Latch
from turnkey.interlock.machine import State
from turnkey.interlock.orders import OrderAccepted
from turnkey.interlock.switch import PulseReading, SimulatedSwitch, SwitchReading, SwitchUnreadable
from turnkey.settings import GpioLines

NAMES = ("KEY_A", "KEY_B", "RELAY_FB", "FEED_A", "FEED_B", "LAMP", "OTHER")
LINES = GpioLines(
    chip=Path("/dev/gpiochip0"),
    channel_a="KEY_A",
    channel_b="KEY_B",
    relay_feedback=2,
    pulse_a="FEED_A",
    pulse_b="FEED_B",
    lamp="LAMP",
)


class Board:
    """The hardware: what is wired, and what each line's voltage therefore is."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.present = True
        self.contact = {"a": False, "b": False}
        self.cross_short = False
        self.welded = False
        self.stuck_open = False
        self.outputs = {3: False, 4: False, 5: False}
        self.request: BoardRequest | None = None

    def energised(self, offset: int) -> bool:
        """Whether current flows through the opto-coupler of an input."""
        from_a = self.outputs[3] and self.contact["a"]
        from_b = self.outputs[4] and self.contact["b"]
        if self.cross_short:
            from_a = from_b = from_a or from_b
        supply = (self.contact["a"] and self.contact["b"] and not self.stuck_open) or self.welded
        return {0: from_a, 1: from_b, 2: not supply}[offset]

    def change(self, action) -> None:
        """Do something to the hardware and give the kernel its edges."""
        with self.lock:
            before = {offset: self.energised(offset) for offset in (0, 1)}
            action()
            if self.request is not None:
                for offset in (0, 1):
                    after = self.energised(offset)
                    if after != before[offset]:
                        self.request.edge(offset, rising=after)

    def request_lines(self, path, config, consumer=None, event_buffer_size=None):
        if not self.present or path != "/dev/gpiochip0":
            raise FileNotFoundError(errno.ENOENT, "no such device", path)
        with self.lock:
            if self.request is not None:
                raise OSError(errno.EBUSY, "device or resource busy")
            self.request = BoardRequest(self, config)
            return self.request


class BoardRequest:
    """What gpiod.LineRequest is, over the board."""

    def __init__(self, board: Board, config) -> None:
        self.board = board
        self.config = {self.offset(line): settings for line, settings in config.items()}
        self.names = dict(zip(NAMES, range(len(NAMES)), strict=True))
        self.events: list[gpiod.EdgeEvent] = []
        self.released = False
        self.sequence = 0
        self.reader, self.writer = os.pipe()
        for offset, settings in self.config.items():
            if settings.direction is Direction.OUTPUT:
                board.outputs[offset] = settings.output_value is Value.ACTIVE
            else:
                assert settings.active_low, "the opto-couplers pull low"
                assert settings.bias is Bias.PULL_UP, "a wire that is off must read as open"

    @property
    def offsets(self) -> list[int]:
        self.check()
        return list(self.config)

    def check(self) -> None:
        if self.released:
            raise gpiod.exception.RequestReleasedError
        if not self.board.present:
            raise OSError(errno.ENODEV, "no such device")

    def offset(self, line: int | str) -> int:
        if isinstance(line, int):
            return line
        if line not in NAMES:
            raise ValueError(f"unknown line name: {line}")
        return NAMES.index(line)

    def requested(self, line: int | str) -> int:
        offset = self.offset(line)
        if offset not in self.config:
            raise ValueError(f"line {line} was not requested")
        return offset

    def get_values(self, lines=None):
        self.check()
        with self.board.lock:
            return [
                Value.ACTIVE if self.board.energised(self.requested(line)) else Value.INACTIVE for line in lines or ()
            ]

    def set_values(self, values) -> None:
        self.check()
        for line, value in values.items():
            offset = self.requested(line)
            if self.config[offset].direction is not Direction.OUTPUT:
                raise PermissionError(errno.EPERM, "not an output")
            self.board.change(lambda offset=offset, value=value: self.board.outputs.update({offset: bool(value)}))

    def edge(self, offset: int, *, rising: bool) -> None:
        self.sequence += 1
        kind = gpiod.EdgeEvent.Type.RISING_EDGE if rising else gpiod.EdgeEvent.Type.FALLING_EDGE
        self.events.append(gpiod.EdgeEvent(kind.value, time.monotonic_ns(), offset, self.sequence, self.sequence))
        os.write(self.writer, b"e")

    def wait_edge_events(self, timeout=None) -> bool:
        self.check()
        return bool(select.select([self.reader], [], [], timeout)[0])

    def read_edge_events(self, max_events=None):
        self.check()
        with self.board.lock:
            taken, self.events = self.events, []
            os.read(self.reader, len(taken))
            return taken

    def release(self) -> None:
        self.released = True
        self.board.request = None


class GpioRig:
    """The GPIO switch on the board, handled as the simulated one is."""

    def __init__(self) -> None:
        self.board = Board()
        self.switch = GpioSwitch(LINES, 3, request_lines=self.board.request_lines)

    def set(self, channel: str, closed: bool) -> None:
        self.board.change(lambda: self.board.contact.update({channel: closed}))

    def break_wire(self, wire: str, broken: bool) -> None:
        name = {"relay_welded": "welded", "relay_stuck_open": "stuck_open"}.get(wire, wire)
        if wire == "unreadable":
            self.board.present = not broken
        else:
            self.board.change(lambda: setattr(self.board, name, broken))

    def lamp_is_on(self) -> bool:
        return self.board.outputs[5]


class SimulatedRig:
    def __init__(self, path: Path | None = None) -> None:
        self.switch = SimulatedSwitch(path)

    def set(self, channel: str, closed: bool) -> None:
        if closed:
            self.switch.close_channel(channel)
        else:
            self.switch.open_channel(channel)

    def break_wire(self, wire: str, broken: bool) -> None:
        self.switch.break_wire(**{wire: broken})

    def lamp_is_on(self) -> bool:
        return self.switch.lamp_on


@pytest.fixture(params=["simulated", "simulated in a file", "gpio"])
def rig(request, tmp_path):
    made = {
        "simulated": SimulatedRig,
        "simulated in a file": lambda: SimulatedRig(tmp_path / "switch.json"),
        "gpio": GpioRig,
    }[request.param]()
    yield made
    made.switch.close()


def test_a_switch_that_nobody_touched_is_open(rig):
    assert rig.switch.read() == SwitchReading(False, False, False)


def test_each_channel_is_read_by_itself_and_the_relay_follows_both(rig):
    rig.set("a", True)
    assert rig.switch.read() == SwitchReading(True, False, False)
    rig.set("b", True)
    assert rig.switch.read() == SwitchReading(True, True, True)
    rig.set("a", False)
    assert rig.switch.read() == SwitchReading(False, True, False)


@pytest.mark.parametrize("channel", ["a", "b"])
def test_an_edge_is_reported_by_channel_and_direction(rig, channel):
    edges = []
    rig.switch.read()
    rig.switch.on_edge(edges.append)
    rig.set(channel, True)
    wait_for(lambda: len(edges) == 1)
    rig.set(channel, False)
    wait_for(lambda: len(edges) == 2)
    assert [(edge.channel, edge.closed) for edge in edges] == [(channel, True), (channel, False)]


def test_an_opening_that_is_over_before_it_is_read_is_reported(rig):
    edges = []
    rig.set("a", True)
    rig.set("b", True)
    rig.switch.read()
    rig.switch.on_edge(edges.append)
    rig.set("b", False)
    rig.set("b", True)
    wait_for(lambda: len(edges) >= 2)
    assert ("b", False) in [(edge.channel, edge.closed) for edge in edges]


def test_healthy_feeds_are_proved_and_make_no_openings(rig):
    edges = []
    rig.set("a", True)
    rig.set("b", True)
    rig.switch.read()
    rig.switch.on_edge(edges.append)
    for _ in range(5):
        assert rig.switch.pulse() == PulseReading(True, True)
    time.sleep(0.05)
    assert edges == []
    assert rig.switch.read() == SwitchReading(True, True, True)


def test_there_is_nothing_to_prove_while_a_contact_is_open(rig):
    rig.set("a", True)
    assert rig.switch.pulse() is None


def test_a_cross_short_does_not_follow_its_pulse(rig):
    rig.set("a", True)
    rig.set("b", True)
    rig.break_wire("cross_short", True)
    pulse = rig.switch.pulse()
    assert pulse is not None
    assert not (pulse.channel_a_followed and pulse.channel_b_followed)


def test_the_relays_feedback_is_what_the_relay_does(rig):
    rig.break_wire("relay_welded", True)
    assert rig.switch.read().relay_closed is True
    rig.break_wire("relay_welded", False)
    rig.break_wire("relay_stuck_open", True)
    rig.set("a", True)
    rig.set("b", True)
    assert rig.switch.read().relay_closed is False


def test_lines_that_are_gone_are_unreadable_and_come_back(rig):
    rig.switch.read()
    rig.break_wire("unreadable", True)
    for attempt in (rig.switch.read, rig.switch.pulse, lambda: rig.switch.lamp(True)):
        with pytest.raises(SwitchUnreadable):
            attempt()
    rig.break_wire("unreadable", False)
    assert rig.switch.read() == SwitchReading(False, False, False)


def test_the_lamp_shows_what_it_is_told_and_goes_out_at_the_end(rig):
    rig.switch.lamp(True)
    assert rig.lamp_is_on()
    rig.switch.close()
    assert not rig.lamp_is_on()
    rig.switch.close()


def test_after_closing_no_edge_is_reported(rig):
    edges = []
    rig.switch.read()
    rig.switch.on_edge(edges.append)
    rig.switch.close()
    rig.set("a", True)
    time.sleep(0.15)
    assert edges == []


class TestGpio:
    """What only real lines have."""

    @pytest.fixture
    def rig(self):
        made = GpioRig()
        yield made
        made.switch.close()

    def test_a_chip_that_is_absent_is_unreadable(self, rig):
        rig.board.present = False
        with pytest.raises(SwitchUnreadable, match="gpiochip0"):
            rig.switch.read()

    def test_a_chip_that_is_really_absent_is_unreadable(self):
        switch = GpioSwitch(LINES.model_copy(update={"chip": Path("/dev/no-such-chip")}), 3)
        with pytest.raises(SwitchUnreadable, match="no-such-chip"):
            switch.read()
        switch.close()

    def test_a_line_that_another_program_holds_is_unreadable(self, rig):
        GpioSwitch(LINES, 3, request_lines=rig.board.request_lines).read()
        with pytest.raises(SwitchUnreadable, match="busy"):
            rig.switch.read()

    def test_a_line_name_that_the_chip_has_not_is_unreadable(self, rig):
        lines = LINES.model_copy(update={"lamp": "NO_LAMP"})
        with pytest.raises(SwitchUnreadable, match="NO_LAMP"):
            GpioSwitch(lines, 3, request_lines=rig.board.request_lines).read()

    def test_a_key_turned_during_a_test_pulse_is_an_opening_all_the_same(self, rig):
        edges = []
        rig.set("a", True)
        rig.set("b", True)
        rig.switch.read()
        rig.switch.on_edge(edges.append)
        turning = threading.Timer(0.004, lambda: (rig.set("a", False), rig.set("b", False)))
        turning.start()
        rig.switch.pulse()
        turning.join()
        wait_for(lambda: {edge.channel for edge in edges if not edge.closed} & {"a", "b"})

    def test_feeds_are_off_once_it_is_closed(self, rig):
        rig.switch.read()
        assert rig.board.outputs[3]
        assert rig.board.outputs[4]
        rig.switch.close()
        assert not any(rig.board.outputs.values())
        assert rig.board.request is None


def test_a_simulated_switch_is_turned_from_another_process(tmp_path):
    here, there = SimulatedSwitch(tmp_path / "switch.json"), SimulatedSwitch(tmp_path / "switch.json")
    there.close_key()
    assert here.read() == SwitchReading(True, True, True)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"channel_a": 1}'])
def test_a_simulated_switch_whose_file_is_damaged_is_unreadable(tmp_path, content):
    switch = SimulatedSwitch(tmp_path / "switch.json")
    (tmp_path / "switch.json").write_bytes(content)
    with pytest.raises(SwitchUnreadable):
        switch.read()


def test_the_whole_interlock_runs_on_real_lines_and_stops_at_the_first_edge(bench):
    """The GPIO switch in the interlock, with its own threads and the real clock."""
    rig = GpioRig()
    rig.set("a", True)
    rig.set("b", True)
    device = bench.interlock = Interlock(
        rig.switch,
        Latch(bench.folder / "another-latch"),
        device_id="bench-1",
        authority=bench.keyring.authority(),
        settings=bench.settings,
        monotonic_ns=time.monotonic_ns,
        utc_now=lambda: bench.clock.utc,
        witness=bench.witness,
    ).start()
    try:
        wait_for(lambda: device.status().key_closed)
        assert isinstance(bench.release(), OrderAccepted)
        assert rig.lamp_is_on()
        permit = device.permit()
        time.sleep(1.5)
        permit.check()
        rig.set("b", False)
        rig.set("b", True)
        wait_for(lambda: permit.refusal() == "key-opened")
        wait_for(lambda: device.state is State.MORATORIUM)
        wait_for(lambda: not rig.lamp_is_on())
        rig.board.present = False
        wait_for(lambda: device.state is State.FAULT)
    finally:
        rig.board.present = True
        device.close()
