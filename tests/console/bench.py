"""Prints how fast the console is in Debian's Chromium: shutter to "Recorded", pictures a second, stop to dark.

A burst of five pictures of 12 MP, a gallery of 100,000, real models and ledger, all in one process, and one core kept
busy by somebody else. The pictures are raw, as a sensor hands them over, or JPEG files (`--source jpeg`), which first
have to be decoded. Figures are of this machine as it is; exit 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from console.browsers import Chromium, Desktop  # noqa: E402
from console.consoles import House, enlist, free_port, serving  # noqa: E402

from turnkey.attempt import Refusal  # noqa: E402
from turnkey.booth import CaseEnrolled, Recorded  # noqa: E402
from turnkey.capture.camera import Camera, Frame  # noqa: E402
from turnkey.capture.picture import shrunk  # noqa: E402
from turnkey.device import Device  # noqa: E402
from turnkey.interlock.permit import Permit  # noqa: E402
from turnkey.interlock.switch import SimulatedSwitch  # noqa: E402
from turnkey_tools.bench.booking_protocol import Scene  # noqa: E402
from turnkey_tools.bench.booking_scene import (  # noqa: E402
    FRAMES,
    RawCamera,
    adopt_bench_policy,
    bench_camera,
    fill_cases,
    raw_files,
    write_burst,
)
from turnkey_tools.bench.results import Bar, BenchReport, bench_report, figure, print_report  # noqa: E402
from turnkey_tools.models.golden import read_golden, read_portrait  # noqa: E402
from turnkey_tools.pilot import Pilot, provision_pilot  # noqa: E402

RECORDED_S, FRAMES_PER_S, DARK_MS = 1.0, 15.0, 250.0
"""The bars."""
FPS_OVER_S = 6.0


class Sensor(RawCamera):
    """A sensor with a preview of its own, as the Pi's cameras have one: a small frame that costs nothing to get."""

    _small: Frame | None = None

    def preview(self, permit: Permit) -> Frame:
        permit.check()
        if self._small is None:
            frame = self.capture(permit)
            self._small = Frame(shrunk(frame.pixels), frame.taken_ns, frame.source)
        return Frame(self._small.pixels, time.monotonic_ns(), "sensor")


def spin(stop: multiprocessing.synchronize.Event) -> None:
    """Keep one core busy."""
    while not stop.is_set():
        sum(range(10_000))


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/console/bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--bookings", type=int, default=21, help="how many are timed; the median counts")
    parser.add_argument("--stops", type=int, default=5, help="how often the key is opened on the live picture")
    parser.add_argument("--templates", type=int, default=100_000, help="in the searched gallery, synthetic")
    parser.add_argument("--source", choices=("raw", "jpeg"), default="raw", help="what the camera hands over")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    chosen = parser.parse_args()
    os.environ |= {"TURNKEY_INTERLOCK__CLOSING_STABLE_MS": "100", "TURNKEY_ATTESTATION__PUBLISH": "false"}
    stop = multiprocessing.Event()
    busy = multiprocessing.Process(target=spin, args=(stop,), daemon=True)
    with tempfile.TemporaryDirectory(prefix="turnkey-console-") as folder:
        pilot = provision_pilot(Path(folder) / "pilot", REPOSITORY / "models")
        adopt_bench_policy(pilot)
        write_burst(read_portrait(read_golden(REPOSITORY / "models"), REPOSITORY), pilot.root, Scene.STILL)
        fill_cases(pilot, chosen.templates, 1, lambda *_: None)
        busy.start()
        try:
            report = measure(pilot, chosen)
        finally:
            stop.set()
            busy.join()
    if chosen.json:
        print(report.model_dump_json(indent=1))
    else:
        print_report(report)
    return 0 if report.holds else 1


def measure(pilot: Pilot, chosen: argparse.Namespace) -> BenchReport:
    """All figures, by one officer at one browser; one core is kept busy by somebody else."""
    settings, root = pilot.settings(), pilot.root
    enlist(settings.console.officers)
    switch = SimulatedSwitch()
    sensor = Sensor(raw_files(root, Scene.STILL), time.monotonic_ns)
    camera: Camera = sensor if chosen.source == "raw" else bench_camera(root, "jpeg")
    port = free_port()
    with (
        Device(settings, camera=camera, switch=switch) as device,
        serving(device, camera, settings, port) as server,
        Chromium() as chromium,
    ):
        house = House(device, server, switch, pilot, camera, settings, port)
        house.release()
        assert isinstance(device.booth.enrol_case("C-2025-1"), CaseEnrolled)
        desk = chromium.open(server.address).on("Sign in").sign_in().on("New booking").number("B-1")
        desk.on("Photograph").live()
        first = int(desk.page.get_attribute("[data-stage]", "data-frames") or 0)
        began_s = time.monotonic()
        time.sleep(FPS_OVER_S)
        shown = int(desk.page.get_attribute("[data-stage]", "data-frames") or 0) - first
        fps = shown / (time.monotonic() - began_s)
        cpu_s = watched(device)
        taken = [book(desk, number) for number in range(chosen.bookings + 1)][1:]
        dark = [stop_on(desk, house) for _ in range(chosen.stops)]
    recorded = figure('shutter to "Recorded"', "s", taken)
    figures = (
        recorded,
        figure('shutter to "Recorded": CPU of the booking', "s", cpu_s[1:]),
        figure("live preview", "1/s", [fps]),
        figure("stop to dark", "ms", dark),
    )
    bars = (
        Bar('shutter to "Recorded", median, s', recorded.median, "at most", RECORDED_S),
        Bar("live preview, pictures a second", fps, "at least", FRAMES_PER_S),
        Bar("stop to dark, slowest, ms", max(dark), "at most", DARK_MS),
    )
    return bench_report(
        "console",
        {"source": chosen.source, "templates": chosen.templates, "frames": FRAMES, "cores kept busy": 1},
        figures,
        packages=("ai-edge-litert", "playwright", "starlette", "uvicorn"),
        bars=bars,
        command=" ".join(["tests/console/bench", *sys.argv[1:]]),
    )


def watched(device: Device) -> list[float]:
    """Processor seconds of each booking from now on, whoever else wants the processor."""
    spent: list[float] = []
    inner = device.booth.book

    def book(number: str) -> Recorded | Refusal:
        before_s = time.process_time()
        outcome = inner(number)
        spent.append(time.process_time() - before_s)
        return outcome

    device.booth.book = book  # type: ignore[method-assign]
    return spent


def book(desk: Desktop, number: int) -> float:
    """Press the shutter; seconds until the page says "Recorded". Leaves the next booking at the camera."""
    desk.live()
    pressed_ms = desk.page.evaluate(
        """() => {
            const pressed = performance.timeOrigin + performance.now();
            document.querySelector("[data-shoot] button").click();
            return pressed;
        }"""
    )
    desk.on("Recorded")
    desk.page.wait_for_function(
        "() => performance.getEntriesByType('paint').some(one => one.name === 'first-contentful-paint')"
    )
    shown_ms = desk.page.evaluate(
        """() => performance.timeOrigin + performance.getEntriesByType("paint")
            .filter(one => one.name === "first-contentful-paint").map(one => one.startTime)[0]"""
    )
    desk.press("Next booking").on("New booking").number(f"B-{number + 2}").on("Photograph")
    return (float(shown_ms) - float(pressed_ms)) / 1e3


def stop_on(desk: Desktop, house: House) -> float:
    """Open the key on the live picture; milliseconds until it is dark. Leaves the device released."""
    desk.live()
    taken = desk.dark_after_ms(house.switch.open_key)
    desk.on("Facial recognition is stopped")
    house.release()
    desk.on("Photograph")
    return taken


if __name__ == "__main__":
    sys.exit(main())
