"""The console over a released pilot device with real models and a folder of portraits for a camera."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from booking_room import FACES, RunningDevice, lay
from console.browsers import Chromium
from console.consoles import House, enlist, free_port, serving
from PIL import Image

from turnkey.capture.folder import FolderCamera
from turnkey.interlock.switch import SimulatedSwitch
from turnkey_tools.pilot import Pilot

PORTRAITS = ("obama/obama-2012.jpg", "macron/macron-2025.jpg")
OpenHouse = Callable[..., AbstractContextManager[House]]


@pytest.fixture
def open_house(pilot: Pilot, switch: SimulatedSwitch, running: RunningDevice) -> OpenHouse:
    """Opens a house whose camera plays these portraits over and over; `console` changes the console's settings."""

    @contextmanager
    def open_it(*names: str, two_people_first: bool = False, **console: object) -> Iterator[House]:
        if two_people_first:
            both = Image.new("RGB", (1400, 900), (128, 128, 128))
            for place, name in enumerate(PORTRAITS):
                with Image.open(FACES / name) as face:
                    both.paste(face.convert("RGB").resize((700, 900)), (700 * place, 0))
            both.save(pilot.pictures / "00-two-people.png")
        lay(pilot, *(names or PORTRAITS))
        settings = pilot.settings()
        settings = settings.model_copy(update={"console": settings.console.model_copy(update=console)})
        enlist(settings.console.officers)
        camera = FolderCamera(pilot.pictures, repeat=True)
        port = free_port()
        with running(camera=camera) as device, serving(device, camera, settings, port) as server:
            yield House(device, server, switch, pilot, camera, settings, port)

    return open_it


@pytest.fixture
def house(open_house: OpenHouse) -> Iterator[House]:
    with open_house() as house:
        yield house


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """Debian's Chromium, driven by Playwright."""
    assert shutil.which("chromium"), "apt-get install chromium"
    with Chromium() as browser:
        yield browser
