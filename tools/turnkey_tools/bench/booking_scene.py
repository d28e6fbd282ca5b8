"""What `turnkeyctl bench booking` books: a burst of 12 MP pictures, and a pilot device with a full gallery.

Rules kept here:
1. Everybody who is compared gets the same pictures and the same templates.
2. The frames of a burst differ as a hand and a sensor make them differ: by some pixels, some light and noise. Of
   somebody who moves, each also shows the person elsewhere, farther, and tilted, so that the device embeds all five.
3. The person is enrolled from the burst that holds still, so that a lead is signed in each booking: the bench times the
   steps, it says nothing about how well people are told apart (`turnkeyctl evaluate` does).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from turnkey.capture.camera import Camera, CameraError, Frame, read_only
from turnkey.capture.folder import FolderCamera
from turnkey.device import Device
from turnkey.envelope import peek
from turnkey.gallery.store import Enrolment, TemplateStore
from turnkey.interlock.permit import Permit
from turnkey.leads.policy import Policy
from turnkey.leads.records import Enrolled
from turnkey.settings import Settings
from turnkey.vision.manifest import model_id, read_manifest
from turnkey_tools.bench.booking_protocol import Scene
from turnkey_tools.bench.synthetic import Population, Spread
from turnkey_tools.pilot import Pilot

WIDTH, HEIGHT = 4032, 3024
FRAMES = 5
BENCH_FPIR = 0.5
"""The evidence does not reach to 100,000 templates at the usual limit of 0.01; the bench's policy allows this."""
_QUALITY = 92
_WALL = (118, 122, 126)
_SHIFT_PX = 6
_MOVED = ((0.0, 1.0, 0), (4.0, 0.97, 90), (-4.0, 0.94, -120), (8.0, 0.98, 160), (-8.0, 0.95, -60))
"""Of somebody who moves, in each frame: tilted by degrees, scaled, elsewhere by pixels."""


def write_burst(portrait: NDArray[np.uint8], folder: Path, scene: Scene, seed: int = 1) -> None:
    """Write a scene's burst: `<scene>/burst/00.burst/<n>.jpg` for a camera that decodes, `<scene>/raw/<n>.rgb` for one
    that need not.

    Args:
        portrait: (height, width, 3) uint8 RGB; it fills the frame's height, as at a booking desk.
    """
    random = np.random.default_rng(seed)
    pressed, raw = folder / scene / "burst" / "00.burst", folder / scene / "raw"
    pressed.mkdir(parents=True)
    raw.mkdir()
    shown = Image.fromarray(portrait)
    scale = min(WIDTH / shown.width, HEIGHT / shown.height)
    shown = shown.resize((round(shown.width * scale), round(shown.height * scale)), Image.Resampling.BICUBIC)
    for number in range(FRAMES):
        canvas = Image.new("RGB", (WIDTH, HEIGHT), _WALL)
        right, down = random.integers(-_SHIFT_PX, _SHIFT_PX + 1, 2)
        canvas.paste(shown, ((WIDTH - shown.width) // 2 + int(right), (HEIGHT - shown.height) // 2 + int(down)))
        if scene is Scene.MOVING:
            canvas = _moved(canvas, *_MOVED[number])
        light = float(random.uniform(0.97, 1.03))
        noise = random.integers(-3, 4, (HEIGHT, WIDTH, 1), dtype=np.int16)
        pixels = np.clip(np.asarray(canvas).astype(np.float32) * light + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(pressed / f"{number}.jpg", quality=_QUALITY)
        pixels.tofile(raw / f"{number}.rgb")


def _moved(canvas: Image.Image, degrees: float, scale: float, shift_px: int) -> Image.Image:
    turned = canvas.rotate(degrees, Image.Resampling.BICUBIC, translate=(shift_px, 0), fillcolor=_WALL)
    smaller = turned.resize((round(WIDTH * scale), round(HEIGHT * scale)), Image.Resampling.BICUBIC)
    moved = Image.new("RGB", (WIDTH, HEIGHT), _WALL)
    moved.paste(smaller, ((WIDTH - smaller.width) // 2, HEIGHT - smaller.height))
    return moved


def raw_frames(paths: Sequence[Path]) -> Generator[NDArray[np.uint8]]:
    """(3024, 4032, 3) uint8 RGB, one after the other in the same memory, as from a camera's driver."""
    memory = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            if file.readinto(memory.data) != memory.nbytes:
                raise OSError(f"{path} is not a whole frame")
        yield memory


def raw_files(root: Path, scene: Scene) -> list[Path]:
    """The frames of a scene, in their order."""
    return sorted((root / scene / "raw").glob("*.rgb"))


class RawCamera:
    """Stands for a sensor that hands over pixels: files of raw RGB. No picture is decoded."""

    def __init__(self, files: Sequence[Path], now_ns: Callable[[], int]) -> None:
        self._files = files
        self._now_ns = now_ns

    def capture(self, permit: Permit) -> Frame:
        """The first frame."""
        return next(self.burst(permit, 1))

    def burst(self, permit: Permit, most: int) -> Generator[Frame]:
        """As many as there are, at most `most`."""
        permit.check()
        for pixels in raw_frames(self._files[:most]):
            yield Frame(read_only(pixels), self._now_ns(), "raw", lent=True)
            permit.check()

    def preview(self, permit: Permit) -> Frame:
        """Nothing is previewed. Raises: CameraError."""
        permit.check()
        raise CameraError("no-preview", "the bench's camera has no preview")

    def close(self) -> None:
        """Nothing is open."""


def bench_camera(root: Path, source: str, scene: Scene = Scene.STILL) -> Camera:
    """The camera for `raw` or `jpeg`."""
    if source == "raw":
        return RawCamera(raw_files(root, scene), time.monotonic_ns)
    return FolderCamera(root / scene / "burst", repeat=True)


class SceneCamera:
    """The bench's camera before whoever is booked next: `scene` may be set between two bookings."""

    def __init__(self, root: Path, source: str) -> None:
        self._cameras = {scene: bench_camera(root, source, scene) for scene in Scene}
        self.scene = Scene.STILL

    def capture(self, permit: Permit) -> Frame:
        """As the scene's camera."""
        return self._cameras[self.scene].capture(permit)

    def burst(self, permit: Permit, most: int) -> Generator[Frame]:
        """As the scene's camera."""
        return self._cameras[self.scene].burst(permit, most)

    def preview(self, permit: Permit) -> Frame:
        """As the scene's camera."""
        return self._cameras[self.scene].preview(permit)

    def close(self) -> None:
        """Close both."""
        for camera in self._cameras.values():
            camera.close()


def leased(settings: Settings, lease_ms: int) -> Settings:
    """The settings with a lease of that validity."""
    interlock = settings.interlock.model_copy(update={"lease_validity_ms": lease_ms})
    return settings.model_copy(update={"interlock": interlock})


def fill_cases(pilot: Pilot, templates: int, seed: int, tick: Callable[[int, int], None]) -> None:
    """Enrol that many synthetic templates as open cases, before the device is started for the first time."""
    settings = pilot.settings()
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    model = model_id(read_manifest(settings.models).embedder)
    population = Population(templates, Spread.read(), seed)
    store = TemplateStore(settings.state / "gallery.db", settings.gallery_key.read_bytes())
    now, done = datetime.now(UTC), 0
    try:
        for number in range(population.chunks()):
            chunk = population.chunk(number)
            rows = (
                Enrolment("cases", f"C-2026-{done + place}", model, 80, now, template)
                for place, template in enumerate(chunk)
            )
            store.add_many(rows, Permit(lambda: 0, 1))
            done += len(chunk)
            tick(done, templates)
    finally:
        store.close()


def put_on_ledger(device: Device, templates: int) -> None:
    """Enter rows 1 to `templates` as enrolled, in one transaction: a gallery unknown to its ledger stops a device."""
    with device.journal.transaction():
        for row in range(1, templates + 1):
            device.notary._append(Enrolled(attempt_id=f"{row:032x}", partition="cases", row=row))


def adopt_bench_policy(pilot: Pilot) -> None:
    """The pilot's policy with the bench's FPIR limit; before the device is started for the first time."""
    policy = Policy.model_validate_json(peek(pilot.policy_file.read_bytes()).payload)
    pilot.adopt(policy.model_copy(update={"max_fpir": BENCH_FPIR}))
