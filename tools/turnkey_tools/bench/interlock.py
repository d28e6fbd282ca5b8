"""How fast a stop is, and that nothing comes after it: stops at random moments of real bookings, in one process.

Real models, real gallery, real ledger, real pictures; the switch is simulated and its debounce shortened. What counts
as after a stop, and what a machine that stands still counts as: `interlock_stops`.
"""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

from turnkey.booth import CaseEnrolled, Recorded
from turnkey.capture.folder import FolderCamera
from turnkey.device import Device
from turnkey.interlock.machine import State
from turnkey.interlock.orders import OrderAccepted
from turnkey.interlock.permit import Permit, Stopped
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.leads.records import LeadSigned, LedgerEntry
from turnkey_tools.bench.interlock_stops import (
    CASES,
    QUICK,
    TIMEOUT_S,
    BenchError,
    Deadline,
    Stop,
    Stops,
    Tick,
    WatchedCamera,
    behind_stops,
    lay_out,
    release_order,
    templates_on,
)
from turnkey_tools.pilot import Pilot


def stop_in_process(
    pilot: Pilot, faces: Path, stops: int, seed: int, tick: Tick = lambda _done: None, most_s: float = 3600.0
) -> Stops:
    """Stop a device that is one process.

    Args:
        pilot: provisioned and fresh.
        faces: the directory with the portraits.
        stops: how many.
        seed: of the random moments.
        tick: told after each stop how many there were.
        most_s: after so many seconds it ends with what it has.

    Raises:
        BenchError: the device did not do what it must for a measurement.
    """
    lay_out(pilot.root, faces)
    switch = SimulatedSwitch()
    settings = pilot.settings().model_copy(update={"interlock": QUICK})
    with Device(settings, camera=FolderCamera(pilot.root / "cases"), switch=switch) as device:
        switch.close_key()
        _release(device, pilot)
        for case, _ in CASES:
            if not isinstance(device.booth.enrol_case(case), CaseEnrolled):
                raise BenchError(f"the case {case} could not be enrolled")
    camera = WatchedCamera(pilot.root / "queue", repeat=True)
    with Device(settings, camera=camera, switch=switch) as device:
        device.settled()
        return _Run(device, pilot, switch, camera, seed).stop(stops, tick, Deadline(stops, most_s))


class _Run:
    """One device, stopped again and again."""

    def __init__(self, device: Device, pilot: Pilot, switch: SimulatedSwitch, camera: WatchedCamera, seed: int) -> None:
        self._device, self._pilot, self._switch, self._camera = device, pilot, switch, camera
        self._random = random.Random(seed)  # noqa: S311 - moments, not secrets
        self._first_entry = device.journal.size
        self._deaths_ns: list[int] = []
        self._each: list[Stop] = []
        self._stood_still = 0
        self._frames_after = 0
        self._booked = 0

    def stop(self, stops: int, tick: Tick, deadline: Deadline) -> Stops:
        """Measure."""
        typical_s = self._typical_s()
        while len(self._each) < stops and not deadline.passed():
            made = self._one_stop(self._random.uniform(0, 1.5 * typical_s))
            if made is None:
                self._stood_still += 1
            else:
                self._each.append(made)
            tick(len(self._each))
        entries = ledger(self._device)[self._first_entry :]
        self._device.gallery.unlock(self._permit().gallery_key())
        unknown = self._device.gallery.size("bookings") - templates_on(entries)
        leads_after, templates_after = behind_stops(entries, self._deaths_ns)
        return Stops(
            asked=stops,
            each=tuple(self._each),
            stood_still=self._stood_still,
            restarts=0,
            leads=sum(isinstance(each.event, LeadSigned) for each in entries),
            templates=templates_on(entries),
            frames_after=self._frames_after,
            leads_after=leads_after,
            templates_after=templates_after + abs(unknown),
        )

    def _typical_s(self) -> float:
        """How long a booking takes here, so that the moments fall into all of its steps."""
        times: list[float] = []
        until_s = time.monotonic() + TIMEOUT_S
        while len(times) < 5:
            self._permit()
            began = time.perf_counter()
            if isinstance(self._book(), Recorded):
                times.append(time.perf_counter() - began)
            elif time.monotonic() > until_s:
                raise BenchError("the bookings of a running device are refused")
        return sorted(times)[2]

    def _book(self) -> object:
        self._booked += 1
        return self._device.booth.book(f"B-{self._booked}")

    def _permit(self) -> Permit:
        """A permit; a machine that stood still for a second has stopped the device by itself, and it runs again."""
        until_s = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return self._device.interlock.permit()
            except Stopped as stopped:
                if time.monotonic() > until_s:
                    raise BenchError(f"the device does not run ({stopped.reason})") from stopped
            time.sleep(0.01)

    def _one_stop(self, after_s: float) -> Stop | None:
        """Stop a booking, and release the device; None where the permit had lapsed before the key was turned."""
        began_ns = time.monotonic_ns()
        permit = self._permit()
        seen_ns: list[int] = []
        outcome: list[tuple[object, int]] = []

        def book() -> None:
            outcome.append((self._book(), time.monotonic_ns()))

        def wait() -> None:
            until_s = time.monotonic() + TIMEOUT_S
            while not permit.wait(0.5):
                if time.monotonic() > until_s:
                    return
            seen_ns.append(time.monotonic_ns())

        waiting = threading.Thread(target=wait, daemon=True)
        booking = threading.Thread(target=book, daemon=True)
        waiting.start()
        booking.start()
        time.sleep(after_s)
        turned_ns = time.monotonic_ns()
        self._switch.open_key()
        waiting.join(TIMEOUT_S)
        booking.join(TIMEOUT_S)
        died_ns = permit.died_ns
        if died_ns is None or not seen_ns or not outcome or self._device.interlock.state is State.RUNNING:
            raise BenchError("a stop did not stop")
        self._deaths_ns.append(died_ns)
        self._frames_after += self._camera.taken_after()
        self._switch.close_key()
        _release(self._device, self._pilot)
        if died_ns < turned_ns:
            return None
        booked, returned_ns = outcome[0]
        return Stop(
            delay_ms=(died_ns - turned_ns) / 1e6,
            seen_ms=(seen_ns[0] - turned_ns) / 1e6,
            discard_ms=None if isinstance(booked, Recorded) else max(0.0, (returned_ns - died_ns) / 1e6),
            whole_s=(time.monotonic_ns() - began_ns) / 1e9,
        )


def ledger(device: Device) -> list[LedgerEntry]:
    """Every entry of a device's ledger."""
    return [LedgerEntry.model_validate_json(data) for data in device.journal.entries(limit=device.journal.size)]


def _release(device: Device, pilot: Pilot) -> None:
    """Have the device run again. Raises: BenchError."""
    until_s = time.monotonic() + TIMEOUT_S
    refusal = "the key does not settle"
    while time.monotonic() < until_s:
        device.key_settled()
        outcome = device.interlock.apply(release_order(pilot, device.interlock.release_request()))
        if isinstance(outcome, OrderAccepted):
            return
        refusal = outcome.message
        time.sleep(0.005)
    raise BenchError(f"the device could not be released: {refusal}")
