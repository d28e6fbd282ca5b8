"""The console over a released pilot device with real models and a folder of portraits for a camera."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from booking_room import RunningDevice, lay
from console.consoles import House, enlist, serving

from turnkey.capture.folder import FolderCamera
from turnkey.interlock.switch import SimulatedSwitch
from turnkey_tools.pilot import Pilot


@pytest.fixture
def house(pilot: Pilot, switch: SimulatedSwitch, running: RunningDevice) -> Iterator[House]:
    lay(pilot, "obama/obama-2012.jpg", "macron/macron-2025.jpg")
    settings = pilot.settings()
    enlist(settings.console.officers)
    camera = FolderCamera(pilot.pictures, repeat=True)
    with running(camera=camera) as device, serving(device, camera, settings) as server:
        yield House(device, server, switch, pilot)
