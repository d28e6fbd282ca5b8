"""What the two benches of the stop share: pictures, camera, what stands behind a stop, and the report.

What counts as "after the stop", each looked at in another place than the one that decides:
* a frame whose shutter fell after the permit that it was taken under was dead;
* a lead, capture, search or template whose entry stands on the ledger behind the stop's own entry and before the next
  start, or whose entry was made after the permit was dead;
* a template in the gallery that the ledger does not know (counted once, at the end).

Rules kept here:
1. A machine that stands still is a late figure. Where it stood still for so long that the permit lapsed before the key
   was turned there was nothing to stop: that try is counted as such, and made again.
2. Fewer stops than were asked for is a bar that is missed, not a report that is not made.
"""

from __future__ import annotations

import bisect
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from turnkey.capture.camera import Frame
from turnkey.capture.folder import FolderCamera
from turnkey.interlock.orders import RELEASE_TYPE, ReleaseRequest, make_release_order
from turnkey.interlock.permit import Permit
from turnkey.leads.records import Captured, Enrolled, Expunged, LeadSigned, LedgerEntry, Searched, SwitchChanged
from turnkey.settings import InterlockSettings
from turnkey_tools.bench.results import Bar, BenchReport, Figure, bench_report, figure
from turnkey_tools.pilot import Pilot

FACES = (
    "ardern/ardern-2022.jpg",
    "macron/macron-2025.jpg",
    "obama/obama-2012.jpg",
    "sunak/sunak-2017.jpg",
)
CASES = (("C-2026-0417", "ardern/ardern-2018.jpg"), ("C-2026-0981", "macron/macron-2014.jpg"))
QUICK = InterlockSettings(closing_stable_ms=100, pulse_every_ms=100)
"""Nothing in a stop depends on the debounce of a key that is being closed; a short one lets two thousand stops pass."""
TIMEOUT_S = 120.0
"""A machine may stand still for as long; it is a late figure then."""
ORDER_VALID = timedelta(minutes=10)
"""Longer than any try. The latch keeps a nonce while its order is valid: two thousand of them would slow it."""
MOST_TRIES_EACH = 3
"""So many tries for one stop in the mean, where a machine stands still again and again."""
IN_PROCESS_P99_MS, ACROSS_P99_MS, DISCARD_P99_MS = 20.0, 250.0, 250.0
"""The limits that the command holds the figures to."""

Tick = Callable[[int], None]


class BenchError(RuntimeError):
    """The bench could not measure; the message says why."""


@dataclass(frozen=True)
class Stop:
    """One stop.

    Attributes:
        delay_ms: from the moment before the key is turned until the permit is dead, so that every check of it fails.
        seen_ms: from the same moment until a thread that waits for that death, beside the booking's, has woken.
        discard_ms: from the permit's death until the booking under way has returned, its work thrown away; None where
            none was under way any more.
        whole_s: from its permit to the accepted release.
    """

    delay_ms: float
    seen_ms: float
    discard_ms: float | None
    whole_s: float


@dataclass(frozen=True)
class Stops:
    """What was measured.

    Attributes:
        asked: how many were to be made.
        each: those that were.
        stood_still: tries whose permit had lapsed before the key was turned.
        restarts: processes that ended by themselves and were started again.
        leads, templates: signed and enrolled in the whole run: the bookings that were in time.
        frames_after, leads_after, templates_after: must be 0.
    """

    asked: int
    each: tuple[Stop, ...]
    stood_still: int
    restarts: int
    leads: int
    templates: int
    frames_after: int
    leads_after: int
    templates_after: int


class Deadline:
    """When a run ends, done or not, and how many tries it has.

    Args:
        stops: how many are to be made.
        most_s: seconds from now.
    """

    def __init__(self, stops: int, most_s: float) -> None:
        self._until_s = time.monotonic() + most_s
        self._tries = MOST_TRIES_EACH * stops

    def passed(self) -> bool:
        """Whether it is time to end; asked once before each try."""
        self._tries -= 1
        return time.monotonic() > self._until_s or self._tries < 0


class WatchedCamera:
    """A folder camera that remembers each frame's shutter, and the permit it was taken under."""

    def __init__(self, folder: Path, *, repeat: bool) -> None:
        self._camera = FolderCamera(folder, repeat=repeat)
        self._taken: list[tuple[Permit, int]] = []

    def capture(self, permit: Permit) -> Frame:
        """See `FolderCamera.capture`."""
        return next(self.burst(permit, 1))

    def burst(self, permit: Permit, most: int) -> Generator[Frame]:
        """See `FolderCamera.burst`."""
        for frame in self._camera.burst(permit, most):
            self._taken.append((permit, frame.taken_ns))
            yield frame

    def preview(self, permit: Permit) -> Frame:
        """See `FolderCamera.preview`."""
        return self._camera.preview(permit)

    def close(self) -> None:
        """See `FolderCamera.close`."""
        self._camera.close()

    def taken_after(self) -> int:
        """How many frames since the last call were taken after their permit's death."""
        taken, self._taken = self._taken, []
        return sum(permit.died_ns is not None and taken_ns > permit.died_ns for permit, taken_ns in taken)


def lay_out(root: Path, faces: Path) -> None:
    """Put the pictures where the cameras take them."""
    for folder, names in (("cases", [name for _, name in CASES]), ("queue", list(FACES))):
        (root / folder).mkdir()
        for place, name in enumerate(names):
            shutil.copyfile(faces / name, root / folder / f"{place:02}-{Path(name).name}")


def release_order(pilot: Pilot, request: ReleaseRequest) -> bytes:
    """A release order that is good for minutes."""
    payload = make_release_order(request, "release", now=datetime.now(UTC), valid_for=ORDER_VALID)
    return pilot.authority.sign(RELEASE_TYPE, payload, "release")


def behind_stops(entries: Sequence[LedgerEntry], deaths_ns: Sequence[int]) -> tuple[int, int]:
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


def templates_on(entries: Sequence[LedgerEntry]) -> int:
    """How many templates of bookings a ledger says there are."""
    bookings = [each.event for each in entries if getattr(each.event, "partition", None) == "bookings"]
    gone = sum(isinstance(event, Expunged) for event in bookings)
    return sum(isinstance(event, Enrolled) for event in bookings) - gone


def stops_report(
    runs: dict[str, tuple[Stops, float]], absent: Sequence[str], settings: dict[str, str | float | bool]
) -> BenchReport:
    """The report: the figures of each form of the device, and the bars.

    Args:
        runs: by the form's name: what was measured, and the limit of the 99th percentile, milliseconds.
    """
    figures: list[Figure] = []
    bars: list[Bar] = []
    for name, (stops, limit_ms) in runs.items():
        discards = [each.discard_ms for each in stops.each if each.discard_ms is not None]
        after = {"frames captured": stops.frames_after, "leads signed": stops.leads_after}
        after |= {"templates enrolled": stops.templates_after}
        counts = {
            "stops made": len(stops.each),
            **{f"{what} after the stop": count for what, count in after.items()},
            "bookings under way that were thrown away": len(discards),
            "leads that were in time": stops.leads,
            "templates that were in time": stops.templates,
            "tries in which the machine stood still until the permit lapsed": stops.stood_still,
            "processes that had to be started again": stops.restarts,
        }
        timed: dict[str, tuple[str, list[float]]] = {
            "key turned to permit dead": ("ms", [each.delay_ms for each in stops.each]),
            "key turned to a waiting thread awake": ("ms", [each.seen_ms for each in stops.each]),
            "permit dead to work under way thrown away": ("ms", discards),
            "one stop with its release": ("s", [each.whole_s for each in stops.each]),
        }
        figures += [figure(f"{name}: {what}", unit, values) for what, (unit, values) in timed.items() if values]
        figures += [figure(f"{name}: {what}", "count", [count]) for what, count in counts.items()]
        p99 = {each.name: each.p99 for each in figures}
        limits = {"key turned to permit dead": limit_ms, "permit dead to work under way thrown away": DISCARD_P99_MS}
        bars += [
            Bar(f"{name}: {what}, p99 ms", p99[f"{name}: {what}"], "at most", limit)
            for what, limit in limits.items()
            if f"{name}: {what}" in p99
        ]
        bars += [Bar(f"{name}: {what} after the stop", count, "at most", 0) for what, count in after.items()]
        bars.append(Bar(f"{name}: stops made", len(stops.each), "at least", stops.asked))
    return bench_report(
        "interlock", settings, figures, packages=("turnkey", "ai-edge-litert"), bars=bars, absent=absent
    )
