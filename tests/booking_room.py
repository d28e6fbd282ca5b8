"""What tests that need the whole device share: where things lie, pictures for the camera, the ledger's events."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from turnkey.device import Device
from turnkey.leads.records import Event, LedgerEntry
from turnkey_tools.pilot import Pilot

REPOSITORY = Path(__file__).resolve().parents[1]
FACES = REPOSITORY / "tests" / "faces"
MODELS = REPOSITORY / "models"

RunningDevice = Callable[..., AbstractContextManager[Device]]


def lay(pilot: Pilot, *names: str) -> None:
    """Put portraits into the camera's folder, to be taken in this order, after those that are there."""
    count = len(list(pilot.pictures.iterdir()))
    for place, name in enumerate(names, start=count):
        shutil.copyfile(FACES / name, pilot.pictures / f"{place:02}-{Path(name).name}")


def lay_bytes(pilot: Pilot, name: str, data: bytes) -> None:
    """Put a file into the camera's folder, behind those that are there."""
    (pilot.pictures / f"{len(list(pilot.pictures.iterdir())):02}-{name}").write_bytes(data)


def events(device: Device) -> list[Event]:
    """What is on the device's ledger."""
    entries = device.journal.entries(limit=device.journal.size)
    return [LedgerEntry.model_validate_json(data).event for data in entries]
