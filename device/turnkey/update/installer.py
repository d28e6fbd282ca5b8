"""The port to whatever puts a system into the other slot, and its simulated form.

A device has two slots: it runs from one, and an update is written to the other, which the boot loader then tries. That
the new one counts as good is said elsewhere, by the device's examination of itself (`health.py`).

Rules kept here:
1. The slot that runs is never written.
2. An installation that failed, or that a power cut ended, leaves the device starting from the slot it runs from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from turnkey.leads.upkeep import Version
from turnkey.update.refusals import UpdateError, UpdateReason

Progress = Callable[[int, str], None]
"""Told the percentage (0 to 100) and what is being done."""


@dataclass(frozen=True)
class Slot:
    """One of the two places for a system.

    Attributes:
        name: as the installer calls it.
        booted: the device runs from it.
        good: the boot loader may start it; None where that is not known.
        version: of the system last installed into it; None where none was.
    """

    name: str
    booted: bool
    good: bool | None
    version: str | None


class Installer(Protocol):
    """What the updater needs of an installer."""

    def running_version(self) -> str | None:
        """The version of the system that runs; None where it does not say."""
        ...

    def admit(self) -> None:
        """Say whether this board may be given another system at all. Raises: UpdateError: it may not, and why."""
        ...

    def install(self, bundle: Path, version: str, progress: Progress) -> None:
        """Write a bundle to the slot that does not run, and have it tried at the next start.

        Args:
            bundle: the file.
            version: what the metadata calls it. A bundle that says another is refused: yesterday's was signed as well.
            progress: told how far it is.

        Raises:
            UpdateError: `install-failed` with the installer's words, `installer-unreachable`, `update-under-way`,
                `another-version`.
        """
        ...

    def slots(self) -> tuple[Slot, ...]:
        """Both slots. Raises: UpdateError."""
        ...


SIMULATED_MAGIC = b"turnkey simulated bundle "
"""A simulated bundle's first line is this and its version; any other file is refused as RAUC refuses a bad bundle."""


class _SlotState(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Version | None
    good: bool


class _State(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    booted: str
    primary: str
    slots: dict[str, _SlotState]


class SimulatedInstaller:
    """Two slots in one JSON file, for a machine without RAUC. `restart` plays the boot loader.

    Args:
        path: the file; made where there is none.
        version: of the system in the first slot of a new file.
    """

    def __init__(self, path: Path, version: str = "0") -> None:
        self._path = path
        if not path.exists():
            first, second = _SlotState(version=version, good=True), _SlotState(version=None, good=False)
            self._write(_State(booted="A", primary="A", slots={"A": first, "B": second}))

    def running_version(self) -> str | None:
        """As the port's."""
        state = self._read()
        return state.slots[state.booted].version

    def admit(self) -> None:
        """As the port's: there is no board."""

    def install(self, bundle: Path, version: str, progress: Progress) -> None:
        """As the port's."""
        state = self._read()
        other = next(name for name in state.slots if name != state.booted)
        progress(0, "checking the bundle")
        with bundle.open("rb") as file:
            line = file.readline(64)
        try:
            if not line.startswith(SIMULATED_MAGIC):
                raise ValueError("its first line is another")
            written = _SlotState(version=line.removeprefix(SIMULATED_MAGIC).decode().strip(), good=True)
        except (ValueError, ValidationError) as error:
            raise UpdateError(UpdateReason.NOT_INSTALLED, f"{bundle.name} is no simulated bundle: {error}") from error
        refuse_another(bundle, str(written.version), version)
        torn = _SlotState(version=None, good=False)
        self._write(state.model_copy(update={"slots": {**state.slots, other: torn}, "primary": state.booted}))
        progress(50, f"writing slot {other}")
        self._write(state.model_copy(update={"slots": {**state.slots, other: written}, "primary": other}))
        progress(100, "done")

    def slots(self) -> tuple[Slot, ...]:
        """As the port's."""
        state = self._read()
        return tuple(
            Slot(name, booted=name == state.booted, good=slot.good, version=slot.version)
            for name, slot in state.slots.items()
        )

    def restart(self, healthy: bool = True) -> None:
        """Start from the primary slot; where its system is not healthy, come back to the other one."""
        state = self._read()
        tried = state.primary
        if not healthy and tried != state.booted:
            bad = state.slots[tried].model_copy(update={"good": False})
            self._write(state.model_copy(update={"primary": state.booted, "slots": {**state.slots, tried: bad}}))
        else:
            self._write(state.model_copy(update={"booted": tried}))

    def _read(self) -> _State:
        try:
            return _State.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError) as error:
            raise UpdateError(UpdateReason.NO_INSTALLER, f"{self._path} is not to be read: {error}") from error

    def _write(self, state: _State) -> None:
        write_whole(self._path, json.dumps(state.model_dump(), indent=1).encode())


def refuse_another(bundle: Path, says: str, version: str) -> None:
    """Refuse a bundle that is not of the version that it is offered as. Raises: UpdateError."""
    if says != version:
        message = f"{bundle.name} is offered as {version} and says that it is {says!r}"
        raise UpdateError(UpdateReason.ANOTHER_VERSION, message)


def write_whole(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file whole or not at all: draft, fsync, rename, fsync of the directory. Raises: OSError.

    The mode is the file's whatever the umask: the updater's unit has 0077, and others read what it places.
    """
    draft = path.with_name(f".{path.name}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have a directory's entries on the disk. Raises: OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
