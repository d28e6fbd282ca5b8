"""What `turnkeyctl bench booking` runs in processes of their own: one thing to book with, told one booking at a time.

    python -m turnkey_tools.bench.booking_worker NAME SPEC DESCRIPTOR      SPEC and each answer are one line of JSON

It answers on the open file DESCRIPTOR once when it is ready, then once for each line it is sent, such as `still 7`, and
ends with its input.

Rules kept here:
1. One thread each, told to every library, so that CPU seconds and wall-clock time can be compared.
2. CPU seconds are the process's own, all its threads; memory is what the kernel says of it (VmHWM).
3. Everybody does all the steps: frames, face, landmarks, aligned face, template, fusion of the burst, search of every
   template, threshold, a signed envelope.
4. The device's process loads nothing of the peers, so that its memory is its own.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from functools import partial

from turnkey.interlock.permit import Permit
from turnkey_tools.bench.booking_protocol import Booked, Ready, Scene, Spec
from turnkey_tools.bench.gallery_worker import resident_mb

Booking = Callable[[Scene, int], dict[str, float]]
"""Book number n in a scene; the stages' milliseconds."""


def ours(spec: Spec) -> Booking:
    """The device, all rooms in this process, as `booking.prepare` left it: released, its case enrolled."""
    from turnkey.booth import Recorded
    from turnkey.device import Device
    from turnkey.interlock.machine import State
    from turnkey.interlock.switch import SimulatedSwitch
    from turnkey.settings import read_settings
    from turnkey_tools.bench.booking_scene import SceneCamera, leased

    switch = SimulatedSwitch()
    switch.close_key()
    camera = SceneCamera(spec.root, spec.source)
    settings = leased(read_settings(spec.root / "device.toml"), spec.lease_ms)
    device = Device(settings, camera=camera, switch=switch).__enter__()
    status = device.settled(60)
    if status.state is not State.RUNNING:
        raise SystemExit(f"the pilot device did not start: {status.reason}")

    def book(scene: Scene, number: int) -> dict[str, float]:
        camera.scene = scene
        outcome = device.booth.book(f"B-{number}")
        if not isinstance(outcome, Recorded) or not outcome.leads:
            raise SystemExit(f"no lead came of the booking: {outcome}")
        return dict(outcome.stages_ms)

    return book


def main() -> None:
    """Entry point."""
    began = time.perf_counter()
    name, text, descriptor = sys.argv[1:]
    answers = os.fdopen(int(descriptor), "w", encoding="utf-8", buffering=1)
    spec = Spec.model_validate_json(text)
    book = {"turnkey": ours, "frames read, nothing else": reading}.get(name, partial(_peer, name))(spec)
    ready = Ready(ready_s=time.perf_counter() - began, peak_mb=resident_mb()["VmHWM"])
    answers.write(ready.model_dump_json() + "\n")
    for line in sys.stdin:
        scene, number = line.split()
        cpu, start = _cpu_s(), time.perf_counter()
        stages = book(Scene(scene), int(number))
        ms = 1e3 * (time.perf_counter() - start)
        booked = Booked(ms=ms, cpu_s=_cpu_s() - cpu, peak_mb=resident_mb()["VmHWM"], stages=stages)
        answers.write(booked.model_dump_json() + "\n")


def reading(spec: Spec) -> Booking:
    """Every frame of the burst in memory, one after the other, as the device's camera gives it, and nothing done."""
    from turnkey_tools.bench.booking_scene import FRAMES, SceneCamera

    camera = SceneCamera(spec.root, spec.source)
    permit = Permit(lambda: 0, 1)

    def book(scene: Scene, _number: int) -> dict[str, float]:
        camera.scene = scene
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


if __name__ == "__main__":
    main()
