"""How fast a stop is, and that nothing comes after it: stops at random moments of real bookings.

Real models, real gallery, real ledger, real pictures; the switch is simulated and its debounce shortened, so that two
thousand stops take minutes. Nothing in a stop depends on the debounce.

What counts as "after the stop", each looked at in another place than the one that decides:
* a frame that the camera handed out after the permit was dead;
* a lead, capture, search or template whose entry stands on the ledger behind the stop's own entry and before the next
  start, or whose entry was made after the permit was dead;
* a template in the gallery that the ledger does not know (counted once, at the end).
"""

from __future__ import annotations

import bisect
import math
import random
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from turnkey.booth import CaseEnrolled, Recorded
from turnkey.capture.camera import Frame
from turnkey.capture.folder import FolderCamera
from turnkey.device import Device
from turnkey.interlock.machine import State
from turnkey.interlock.orders import OrderAccepted
from turnkey.interlock.permit import Permit, Stopped
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.leads.records import Captured, Enrolled, LeadSigned, LedgerEntry, Searched, SwitchChanged
from turnkey.settings import InterlockSettings
from turnkey_tools.pilot import Pilot

FACES = (
    "ardern/ardern-2022.jpg",
    "macron/macron-2025.jpg",
    "obama/obama-2012.jpg",
    "sunak/sunak-2017.jpg",
)
CASES = (("C-2026-0417", "ardern/ardern-2018.jpg"), ("C-2026-0981", "macron/macron-2014.jpg"))
QUICK = InterlockSettings(closing_stable_ms=100, pulse_every_ms=100)
TIMEOUT_S = 10.0
IN_PROCESS_P99_MS, ACROSS_P99_MS, DISCARD_P99_MS = 20.0, 250.0, 250.0
"""The limits that the command holds the figures to."""


class BenchError(RuntimeError):
    """The bench could not measure; the message says why."""


@dataclass(frozen=True)
class Stops:
    """What was measured.

    Attributes:
        stops: how many.
        interrupted: of these, how many met a booking under way and had it discarded.
        leads, templates: signed and enrolled in the whole run: the bookings that were in time.
        frames_after, leads_after, templates_after: must be 0.
        p50_ms, p99_ms, worst_ms: from the moment before the key is turned until the permit is dead, so that from then
            on every check of it fails.
        discarded_p99_ms: from the permit's death until the booking under way has returned, its work thrown away.
        seen_p99_ms: from the turn of the key until a thread that waits for that death, beside the booking's, has woken.
    """

    stops: int
    interrupted: int
    leads: int
    templates: int
    frames_after: int
    leads_after: int
    templates_after: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    discarded_p99_ms: float
    seen_p99_ms: float

    @property
    def nothing_after(self) -> bool:
        """Whether nothing at all came after a stop."""
        return self.frames_after == self.leads_after == self.templates_after == 0


class WatchedCamera:
    """A folder camera that notes when each frame was handed out."""

    def __init__(self, folder: Path, *, repeat: bool) -> None:
        self._camera = FolderCamera(folder, repeat=repeat)
        self.handed_out_ns: list[int] = []

    def capture(self, permit: Permit) -> Frame:
        """See `FolderCamera.capture`."""
        return self.burst(permit, 1)[0]

    def burst(self, permit: Permit, most: int) -> tuple[Frame, ...]:
        """See `FolderCamera.burst`."""
        frames = self._camera.burst(permit, most)
        self.handed_out_ns.append(time.monotonic_ns())
        return frames

    def preview(self, permit: Permit) -> Frame:
        """See `FolderCamera.preview`."""
        return self._camera.preview(permit)

    def close(self) -> None:
        """See `FolderCamera.close`."""
        self._camera.close()


def stop_in_process(
    pilot: Pilot, faces: Path, stops: int, seed: int, tick: Callable[[int], None] = lambda _done: None
) -> Stops:
    """Stop a device that is one process.

    Args:
        pilot: provisioned and fresh.
        faces: the directory with the portraits.
        stops: how many.
        seed: of the random moments.
        tick: told after each stop how many there were.

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
        return _Run(device, pilot, switch, camera, seed).stop(stops, tick)


class _Run:
    """One device, stopped again and again."""

    def __init__(self, device: Device, pilot: Pilot, switch: SimulatedSwitch, camera: WatchedCamera, seed: int) -> None:
        self._device, self._pilot, self._switch, self._camera = device, pilot, switch, camera
        self._random = random.Random(seed)  # noqa: S311 - moments, not secrets
        self._first_entry = device.journal.size
        self._deaths_ns: list[int] = []
        self._delays_ms: list[float] = []
        self._seen_ms: list[float] = []
        self._discards_ms: list[float] = []
        self._interrupted = 0
        self._frames_after = 0
        self._booked = 0

    def stop(self, stops: int, tick: Callable[[int], None]) -> Stops:
        """Measure."""
        typical_s = self._typical_s()
        for done in range(1, stops + 1):
            self._one_stop(self._random.uniform(0, 1.5 * typical_s))
            self._switch.close_key()
            _release(self._device, self._pilot)
            tick(done)
        entries = ledger(self._device)[self._first_entry :]
        self._device.gallery.unlock(self._device.interlock.permit().gallery_key())
        unknown = self._device.gallery.size("bookings") - sum(isinstance(each.event, Enrolled) for each in entries)
        leads_after, templates_after = behind_stops(entries, self._deaths_ns)
        p50, p99, worst = percentiles(self._delays_ms)
        return Stops(
            stops=stops,
            interrupted=self._interrupted,
            leads=sum(isinstance(each.event, LeadSigned) for each in entries),
            templates=sum(isinstance(each.event, Enrolled) for each in entries),
            frames_after=self._frames_after,
            leads_after=leads_after,
            templates_after=templates_after + abs(unknown),
            p50_ms=p50,
            p99_ms=p99,
            worst_ms=worst,
            discarded_p99_ms=percentiles(self._discards_ms or [0.0])[1],
            seen_p99_ms=percentiles(self._seen_ms)[1],
        )

    def _typical_s(self) -> float:
        """How long a booking takes here, so that the moments fall into all of its steps."""
        began = time.perf_counter()
        for _ in range(5):
            if not isinstance(self._book(), Recorded):
                raise BenchError("a booking of a running device was refused")
        return (time.perf_counter() - began) / 5

    def _book(self) -> object:
        self._booked += 1
        return self._device.booth.book(f"B-{self._booked}")

    def _permit(self) -> Permit:
        """A permit; a machine that stood still for a second has stopped the device by itself, and it runs again."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return self._device.interlock.permit()
            except Stopped as stopped:
                if time.monotonic() > deadline:
                    raise BenchError(f"the device does not run ({stopped.reason})") from stopped
            time.sleep(0.01)

    def _one_stop(self, after_s: float) -> None:
        permit = self._permit()
        seen_ns: list[int] = []
        outcome: list[tuple[object, int]] = []

        def book() -> None:
            outcome.append((self._book(), time.monotonic_ns()))

        def wait() -> None:
            if permit.wait(TIMEOUT_S):
                seen_ns.append(time.monotonic_ns())

        waiting = threading.Thread(target=wait)
        booking = threading.Thread(target=book)
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
        self._delays_ms.append((died_ns - turned_ns) / 1e6)
        self._seen_ms.append((seen_ns[0] - turned_ns) / 1e6)
        booked, returned_ns = outcome[0]
        if not isinstance(booked, Recorded):
            self._interrupted += 1
            self._discards_ms.append((returned_ns - died_ns) / 1e6)
        self._frames_after += sum(handed_ns > died_ns for handed_ns in self._camera.handed_out_ns)
        self._camera.handed_out_ns.clear()


def lay_out(root: Path, faces: Path) -> None:
    """Put the pictures where the cameras take them."""
    for folder, names in (("cases", [name for _, name in CASES]), ("queue", list(FACES))):
        (root / folder).mkdir()
        for place, name in enumerate(names):
            shutil.copyfile(faces / name, root / folder / f"{place:02}-{Path(name).name}")


def ledger(device: Device) -> list[LedgerEntry]:
    """Every entry of a device's ledger."""
    return [LedgerEntry.model_validate_json(data) for data in device.journal.entries(limit=device.journal.size)]


def behind_stops(entries: list[LedgerEntry], deaths_ns: list[int]) -> tuple[int, int]:
    """How many leads (with captures and searches) and templates stand behind a stop, by the ledger's order or the
    clock.

    Args:
        entries: of the run; their monotonic times are of one boot.
        deaths_ns: when each permit was seen dead, in order.
    """
    stopped, started_ns = False, 0
    leads = templates = 0
    for entry in entries:
        event = entry.event
        if isinstance(event, SwitchChanged):
            if stopped and event.state == "RUNNING":
                started_ns = entry.monotonic_ns
            stopped = event.state != "RUNNING"
        elif isinstance(event, LeadSigned | Enrolled | Captured | Searched):
            place = bisect.bisect_right(deaths_ns, entry.monotonic_ns)
            if stopped or (place > 0 and deaths_ns[place - 1] > started_ns):
                leads += not isinstance(event, Enrolled)
                templates += isinstance(event, Enrolled)
    return leads, templates


def percentiles(values: list[float]) -> tuple[float, float, float]:
    """Median, 99th percentile (nearest rank) and maximum."""
    ordered = sorted(values)

    def rank(percent: int) -> float:
        return ordered[max(0, math.ceil(percent * len(ordered) / 100) - 1)]

    return rank(50), rank(99), ordered[-1]


def _release(device: Device, pilot: Pilot) -> None:
    device.key_settled()
    deadline = time.monotonic() + TIMEOUT_S
    refusal = "the key does not settle"
    while time.monotonic() < deadline:
        outcome = device.interlock.apply(pilot.release(device.interlock.release_request()))
        if isinstance(outcome, OrderAccepted):
            return
        refusal = outcome.message
        time.sleep(0.005)
    raise BenchError(f"the device could not be released: {refusal}")
