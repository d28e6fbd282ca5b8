"""The device examines itself: what has to hold before a new system counts as good. `turnkey health` runs it; the image
marks the slot good only where it passes, and the boot loader returns to the old system where it does not.

Rules kept here:
1. Each check says what it found; one that could not be made has failed.
2. It holds in a moratorium as well: the booth may be down, the rest may not. The models are tried on one published
   portrait; no camera, no gallery and no lease has a part in it.
3. The last check is that this examination is on the ledger, with the units as measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from turnkey.interlock.lease import DaemonError, ask
from turnkey.interlock.machine import State
from turnkey.interlock.status import InterlockStatus
from turnkey.interlock.wire import Request
from turnkey.leads.upkeep import HealthChecked
from turnkey.update.ledger import Ledger
from turnkey.update.refusals import UpdateError
from turnkey.update.units import INTERLOCK, UnitsUnknown, changed_guards
from turnkey.vision.detector import Detector
from turnkey.vision.embedder import Embedder
from turnkey.vision.golden import (
    MAX_LANDMARK_ERROR,
    MIN_COSINE,
    GoldenError,
    embedding_cosine,
    landmark_error,
    read_golden,
    read_portrait,
)
from turnkey.vision.litert import Model, verified_bytes
from turnkey.vision.manifest import ModelError, read_manifest

ALWAYS_UP = (
    INTERLOCK,
    "turnkey-notary.service",
    "turnkey-uplink.service",
    "turnkey-update.timer",
    # A unit that is as it was, and that nothing starts any more, ends no booth and restarts nothing.
    "turnkey-stopped.path",
    "turnkey-running.path",
    "turnkey-restart.path",
)
BOOTH = "turnkey-booth.service"
UNWRITTEN = ("record-unwritable", "latch-unwritable")
"""Why an interlock stands at FAULT that reached neither ledger nor latch: it can be released by nobody. Any other fault
may be of the wires, and the other system would find it too."""

States = Callable[[tuple[str, ...]], Mapping[str, str]]
"""Active state by unit. Raises: UnitsUnknown."""


@dataclass(frozen=True)
class Check:
    """One check: its code, whether it holds, what was found."""

    name: str
    holds: bool
    found: str


@dataclass(frozen=True)
class Health:
    """The examination.

    Attributes:
        checks: in the order in which they were made.
        units: as measured.
    """

    checks: tuple[Check, ...]
    units: Mapping[str, str]

    @property
    def passed(self) -> bool:
        return all(check.holds for check in self.checks)


def examine(
    software: str, models: Path, interlock: Path, ledger: Ledger, states: States, units: Mapping[str, str]
) -> Health:
    """Make every check.

    Args:
        software: version of this software.
        models: the models' directory.
        interlock: the interlock's socket.
        ledger: where the examination goes.
        states: what systemd says.
        units: the units as measured on disk.
    """
    answered, status = _interlock(interlock)
    checks = [
        answered,
        interlock_records(status),
        units_up(states, status),
        *_models(models),
        _units_unchanged(ledger, units),
    ]
    failed = tuple(check.name for check in checks if not check.holds)
    event = HealthChecked(software=software, passed=not failed, failed=failed, units=dict(units))
    try:
        ledger.record(event)
        checks.append(Check("ledger-appends", True, "this examination is on it"))
    except UpdateError as error:
        checks.append(Check("ledger-appends", False, str(error)))
    return Health(tuple(checks), units)


def started(interlock: Path, states: States) -> bool:
    """Whether the device has come up so far that an examination can pass."""
    answered, status = _interlock(interlock)
    return answered.holds and units_up(states, status).holds


def units_up(states: States, status: InterlockStatus | None) -> Check:
    """Whether what has to run runs; the booth only where recognition is permitted."""
    running = status is not None and status.state is State.RUNNING
    wanted = (*ALWAYS_UP, BOOTH) if running else ALWAYS_UP
    try:
        found = states(wanted)
    except UnitsUnknown as error:
        return Check("units-up", False, str(error))
    down = [f"{name} is {found.get(name, 'unknown')}" for name in wanted if found.get(name) != "active"]
    return Check("units-up", not down, ", ".join(down) or f"{len(wanted)} units are active")


def _interlock(socket: Path) -> tuple[Check, InterlockStatus | None]:
    try:
        status = InterlockStatus.model_validate_json(ask(socket, Request(ask="status")).body)
    except (DaemonError, ValueError) as error:
        return Check("interlock-answers", False, str(error)), None
    return Check("interlock-answers", True, f"{status.state} ({status.reason}), stop number {status.epoch}"), status


def interlock_records(status: InterlockStatus | None) -> Check:
    """Whether the interlock could write what it did, to the ledger and to its latch."""
    if status is None:
        return Check("interlock-records", False, "it does not say")
    unwritten = status.state is State.FAULT and status.reason in UNWRITTEN
    return Check(
        "interlock-records", not unwritten, status.reason if unwritten else "ledger and latch took what it did"
    )


def _models(models: Path) -> list[Check]:
    try:
        manifest = read_manifest(models)
        every = (manifest.detector, manifest.embedder, manifest.mesh, manifest.guide)
        entries = [entry for entry in every if entry is not None]
        for entry in entries:
            verified_bytes(models, entry)
        verified = Check("models-verified", True, ", ".join(f"{entry.id} {entry.sha256[:12]}" for entry in entries))
        golden = read_golden(models)
        portrait = read_portrait(golden, models, models.parent)
        error = landmark_error(golden, portrait, Detector.load(models, manifest.detector))
        # The golden vectors are the model's own: of the face as it is, whatever is averaged with it.
        embedder = Embedder(Model.load(models, manifest.embedder), manifest.embedder.centre())
        cosine = embedding_cosine(golden, portrait, embedder)
    except ModelError as failure:
        return [Check("models-verified", False, str(failure)), Check("face-recognised", False, "no models to try")]
    except GoldenError as failure:
        return [verified, Check("face-recognised", False, str(failure))]
    holds = error <= MAX_LANDMARK_ERROR and cosine >= MIN_COSINE
    found = f"landmarks {error:.4f} of the inter-eye distance off, cosine {cosine:.4f} with the golden template"
    return [verified, Check("face-recognised", holds, found)]


def _units_unchanged(ledger: Ledger, units: Mapping[str, str]) -> Check:
    try:
        changed = changed_guards(ledger.first_good_units(), units)
    except UpdateError as error:
        return Check("interlock-units-unchanged", False, str(error))
    if changed:
        said = f"{', '.join(changed)}: missing, or not what the first good examination found"
        return Check("interlock-units-unchanged", False, said)
    return Check("interlock-units-unchanged", True, "as the first good examination found them")
