"""`turnkeyctl bench capture`: thousands of captures in a row, and a camera that is lost on the way.

What it watches: the memory of the process, whether a frame is ever handed out twice, and how long a capture takes whose
camera failed under it. The GStreamer camera is a test source of noise that fails every so many frames; a new pipeline
shows the same noise again, so frames are told apart within each.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from turnkey.capture.camera import Camera, CameraError
from turnkey.capture.folder import FolderCamera
from turnkey.capture.freezing import digest_of
from turnkey.capture.gstreamer import GstreamerCamera
from turnkey.interlock.permit import Permit
from turnkey_tools.bench.results import Bar, Figure, bench_report, deliver, figure

WARM_UP = 200
"""Captures before memory is first read: by then pools and caches have their size."""
RECOVERY_BAR_S = 3.0
MEMORY_BAR_MB = 5.0
_SIDE_PX = 64


@dataclass(frozen=True)
class Captures:
    """What so many captures of one camera showed.

    Attributes:
        captures: frames handed out.
        twice: frames that were handed out before, by the same pipeline or folder.
        recoveries_s: of each capture on which the camera failed and was opened anew.
        growth_mb: resident memory after the last capture less that after the first `WARM_UP`.
        times_ms: of each capture without a loss.
    """

    camera: str
    captures: int
    twice: int
    recoveries_s: tuple[float, ...]
    growth_mb: float
    times_ms: tuple[float, ...]

    def figures(self) -> list[Figure]:
        """What is reported of it."""
        found = [figure(f"{self.camera}: a capture", "ms", self.times_ms)] if self.times_ms else []
        if self.recoveries_s:
            found.append(figure(f"{self.camera}: a capture that lost its camera", "s", self.recoveries_s))
        return [
            *found,
            figure(f"{self.camera}: growth of memory", "MB", [self.growth_mb]),
            figure(f"{self.camera}: frames that came twice", "count", [self.twice]),
            figure(f"{self.camera}: losses gone through", "count", [len(self.recoveries_s)]),
        ]

    def bars(self, losses: int) -> list[Bar]:
        """What is promised of it, with this many losses asked for."""
        found = [
            Bar(f"{self.camera}: frames that came twice", self.twice, "at most", 0),
            Bar(f"{self.camera}: losses gone through", len(self.recoveries_s), "at least", losses),
            Bar(f"{self.camera}: growth of memory, MB", self.growth_mb, "at most", MEMORY_BAR_MB),
        ]
        if self.recoveries_s:
            found.append(Bar(f"{self.camera}: slowest recovery, s", max(self.recoveries_s), "at most", RECOVERY_BAR_S))
        return found


def run(name: str, camera: Camera, captures: int, opened: Callable[[], int]) -> Iterator[Captures]:
    """Capture, and yield what was seen so far each 100 captures and at the end.

    Args:
        opened: how often the camera was opened so far.
    """
    permit = Permit(time.monotonic_ns, time.monotonic_ns() + 10**15)
    seen: set[int] = set()
    twice, base_mb = 0, 0.0
    times_ms: list[float] = []
    recoveries_s: list[float] = []
    before = opened()
    for number in range(1, captures + 1):
        began_s = time.monotonic()
        digest = digest_of(camera.capture(permit).pixels)
        took_s = time.monotonic() - began_s
        if opened() != before:
            before = opened()
            recoveries_s.append(took_s)
            seen.clear()
        else:
            times_ms.append(took_s * 1e3)
        twice += digest in seen
        seen.add(digest)
        if number == min(WARM_UP, captures):
            base_mb = _resident_mb()
        if number % 100 == 0 or number == captures:
            growth_mb = _resident_mb() - base_mb
            yield Captures(name, number, twice, tuple(recoveries_s), growth_mb, tuple(times_ms))


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _pictures(folder: Path, count: int) -> None:
    """So many small pictures, each another."""
    noise = np.random.default_rng(1)
    for number in range(count):
        pixels = noise.integers(0, 256, (_SIDE_PX, _SIDE_PX, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:06}.png", compress_level=1)


def capture(
    captures: Annotated[int, typer.Option(min=300, help="Captures of each camera.")] = 10_000,
    losses: Annotated[int, typer.Option(min=0, help="How often the GStreamer camera fails on the way.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Capture many times from a folder and from GStreamer: memory, frames served twice, recovery after a loss.

    Exit code 1 where memory grew by 5 MB, a frame came twice, or a recovery took more than 3 s.
    """
    from rich.console import Console
    from rich.progress import Progress

    results: list[Captures] = []
    errors = Console(stderr=True)
    with tempfile.TemporaryDirectory() as place, Progress(console=errors) as progress:
        folder = Path(place)
        _pictures(folder, captures)
        cameras: list[tuple[str, Camera, Callable[[], int]]] = [("folder", FolderCamera(folder), lambda: 1)]
        try:
            failing = f" ! identity error-after={captures // (losses + 1) + 1}" if losses else ""
            size = f"video/x-raw,width={_SIDE_PX},height={_SIDE_PX},format=RGB"
            played = GstreamerCamera(f"videotestsrc pattern=snow ! {size}{failing}", timeout_s=1.0)
            cameras.append(("gstreamer", played, lambda: played.opened))
        except CameraError as error:
            errors.print(f"[red]{error}[/red]")
            raise typer.Exit(2) from None
        for name, camera, opened in cameras:
            task = progress.add_task(name, total=captures)
            with closing(camera):
                for so_far in run(name, camera, captures, opened):
                    progress.update(task, completed=so_far.captures)
            results.append(so_far)
    figures = [each for one in results for each in one.figures()]
    bars = [*results[0].bars(0), *results[1].bars(losses)]
    settings: dict[str, str | float | bool] = {"captures": captures, "losses": losses}
    deliver(bench_report("capture", settings, figures, packages=("numpy", "pillow"), bars=bars), as_json=as_json)
