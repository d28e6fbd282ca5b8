"""A pilot device for tests that need the whole device: real models, real stores, a simulated switch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from booking_room import MODELS, RunningDevice
from patience import SLOW_LEASE_MS

from turnkey.capture.camera import Camera
from turnkey.device import Device
from turnkey.interlock.orders import OrderAccepted
from turnkey.interlock.switch import SimulatedSwitch
from turnkey_tools.pilot import Pilot, provision_pilot


@pytest.fixture
def pilot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pilot:
    """A provisioned pilot: a key debounced in a tenth of a second, a lease of seconds, and leads only published."""
    monkeypatch.setenv("TURNKEY_INTERLOCK__CLOSING_STABLE_MS", "100")
    monkeypatch.setenv("TURNKEY_INTERLOCK__LEASE_VALIDITY_MS", str(SLOW_LEASE_MS))
    monkeypatch.setenv("TURNKEY_ATTESTATION__PUBLISH", "false")  # so that what waits in an outbox is leads only
    return provision_pilot(tmp_path / "pilot", MODELS)


@pytest.fixture
def switch() -> SimulatedSwitch:
    return SimulatedSwitch()


@pytest.fixture
def running(pilot: Pilot, switch: SimulatedSwitch) -> RunningDevice:
    """Opens the pilot device, released where it is not running yet. It plays `pilot.pictures`, or the given camera."""

    @contextmanager
    def open_device(camera: Camera | None = None) -> Iterator[Device]:
        with Device(pilot.settings(), camera=camera, switch=switch) as device:
            switch.close_key()
            if device.settled().state != "RUNNING":
                assert device.key_settled()
                assert isinstance(device.apply_order(pilot.release(device.interlock.release_request())), OrderAccepted)
            yield device

    return open_device
