"""What `turnkeyctl bench booking` runs in processes of their own: one thing to book with, told one booking at a time.

    python -m turnkey_tools.bench.booking_worker NAME SPEC      SPEC and each answer are one line of JSON

It answers once when it is ready, then once for each line it is sent, and ends with its input.

Rules kept here:
1. One thread each, told to every library, so that CPU seconds and wall-clock time can be compared.
2. CPU seconds are the process's own, all its threads; memory is what the kernel says of it (VmHWM).
3. Everybody does all the steps: frames, face, landmarks, aligned face, template, fusion of the burst, search of every
   template, threshold, a signed envelope.
4. The device's process loads nothing of the peers, so that its memory is its own.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from turnkey.interlock.permit import Permit
from turnkey_tools.bench.gallery_worker import resident_mb


class Spec(BaseModel):
    """What a worker is told.

    Attributes:
        root: the pilot's, with `burst/` and `raw/` in it.
        source: `raw`: pixels as a sensor hands them over; `jpeg`: files to decode.
        templates, seed: of the synthetic gallery.
        weights: folder with `yunet.onnx` and `sface.onnx`, for OpenCV.
    """

    root: Path
    source: str
    templates: int
    seed: int
    weights: Path


Booking = Callable[[int], dict[str, float]]
"""Book number n; the stages' milliseconds."""


def ours(spec: Spec) -> Booking:
    """The device, all rooms in this process, as `booking.prepare` left it: released, its case enrolled."""
    from turnkey.booth import Recorded
    from turnkey.device import Device
    from turnkey.interlock.machine import State
    from turnkey.interlock.switch import SimulatedSwitch
    from turnkey.settings import read_settings
    from turnkey_tools.bench.booking_scene import bench_camera

    switch = SimulatedSwitch()
    switch.close_key()
    camera = bench_camera(spec.root, spec.source)
    device = Device(read_settings(spec.root / "device.toml"), camera=camera, switch=switch).__enter__()
    status = device.settled(60)
    if status.state is not State.RUNNING:
        raise SystemExit(f"the pilot device did not start: {status.reason}")

    def book(number: int) -> dict[str, float]:
        outcome = device.booth.book(f"B-{number}")
        if not isinstance(outcome, Recorded) or not outcome.leads:
            raise SystemExit(f"no lead came of the booking: {outcome}")
        return dict(outcome.stages_ms)

    return book


def main() -> None:
    """Entry point: answers on standard output, one line each."""
    began = time.perf_counter()
    name, text = sys.argv[1:]
    spec = Spec.model_validate_json(text)
    book = {"turnkey": ours, "frames read, nothing else": reading}.get(name, partial(_peer, name))(spec)
    _answer({"ready_s": time.perf_counter() - began, "peak_mb": resident_mb()["VmHWM"]})
    for line in sys.stdin:
        cpu, start = _cpu_s(), time.perf_counter()
        stages = book(int(line))
        ms = 1e3 * (time.perf_counter() - start)
        _answer({"ms": ms, "cpu_s": _cpu_s() - cpu, "peak_mb": resident_mb()["VmHWM"], "stages": stages})


def reading(spec: Spec) -> Booking:
    """Every frame of the burst in memory, one after the other, as the device's camera gives it, and nothing done."""
    from turnkey_tools.bench.booking_scene import FRAMES, bench_camera

    camera = bench_camera(spec.root, spec.source)
    permit = Permit(lambda: 0, 1)

    def book(_number: int) -> dict[str, float]:
        began = time.perf_counter()
        for frame in camera.burst(permit, FRAMES):
            del frame
        return {"capture": 1e3 * (time.perf_counter() - began)}

    return book


def _peer(name: str, spec: Spec) -> Booking:
    from turnkey_tools.bench.booking_peers import PEERS

    return PEERS[name](spec)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _answer(value: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
