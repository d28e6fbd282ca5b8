"""One run of the updater: look, decide, fetch, put in place, restart. Everything it touches is passed in.

Rules kept here, in the order in which they are enforced:
1. One run at a time.
2. Each step is on the ledger before the next one begins; without a ledger there is no update.
3. What became of the last system is settled first: one that the device came back from is not taken again.
4. Nothing is decided on metadata that was not refreshed in this run: a device that cannot look does nothing.
5. An update goes its way stopped as well as running, and knows nothing of the key: latch, authority and epoch belong to
   the interlock's user and to no other. What was stopped before the restart is stopped after it.
6. The device restarts only while no booking is open: no picture was taken for `quiet_s`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from turnkey.leads.upkeep import Updated
from turnkey.update.client import Client, Way
from turnkey.update.installer import Installer, Progress
from turnkey.update.ledger import Ledger
from turnkey.update.placing import Placer
from turnkey.update.refusals import UpdateError, UpdateReason, UpdateRefusal
from turnkey.update.release import KINDS, Kind, Release, order
from turnkey.update.rollout import DeviceFacts, Stay, Take, decide
from turnkey.update.state import Attempt, StateFile

SPARE_BYTES = 32 << 20
"""What an update leaves free: ledger and gallery are on the same disk."""

Step = Literal["offered", "downloaded", "installed", "restarting", "arrived", "returned", "refused"]


@dataclass(frozen=True)
class Device:
    """Who takes updates here.

    Attributes:
        device_id, group, board: as the metadata names them.
        boot: the present boot (proc_sys_kernel(5), random/boot_id).
        quiet_s: seconds without a picture after which no booking is open.
    """

    device_id: str
    group: str
    board: str
    boot: str
    quiet_s: float


@dataclass
class Report:
    """What a run did.

    Attributes:
        steps: what was put on the ledger, in order.
        stays: why nothing was taken, by kind.
        refusal: what ended the run before its end.
        restart: `none` is needed, `asked` for, or `waits` for the end of a booking.
    """

    steps: list[Updated] = field(default_factory=list)
    stays: dict[Kind, str] = field(default_factory=dict)
    refusal: UpdateRefusal | None = None
    restart: Literal["none", "asked", "waits"] = "none"


class Updating:
    """The updater.

    Args:
        device: whose.
        folder: its state: trusted metadata, files, partial files, memory.
        root: the provisioned TUF root.
        installer: for systems.
        placers: for the other kinds; a kind that has none is not taken.
        ledger: where each step goes.
        restart: asks the system to restart.
        progress: told how far an installation is.
    """

    def __init__(
        self,
        device: Device,
        folder: Path,
        root: bytes,
        installer: Installer,
        placers: Mapping[Kind, Placer],
        ledger: Ledger,
        restart: Callable[[], None],
        progress: Progress = lambda _percent, _doing: None,
    ) -> None:
        self._device = device
        self._folder = folder
        self._root = root
        self._installer = installer
        self._placers = placers
        self._ledger = ledger
        self._restart = restart
        self._progress = progress
        self._memory = StateFile(folder / "state.json")
        self._report = Report()

    def run(self, way: Way | None) -> Report:
        """Look at a repository once, and do what follows from it. Never raises for what a repository can cause.

        Without a way nothing is looked at, and what a stick brought is brought to its end.
        """
        self._report = Report()
        with self._refusing(), _alone(self._folder):
            self._settle()
            # What was installed before gets its restart also where this look is refused.
            with self._refusing():
                if way is not None:
                    self._look(way)
            self._restart_if_quiet()
        return self._report

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except UpdateError as error:
            self._refused(error.refusal)
        except OSError as error:
            self._refused(UpdateRefusal(UpdateReason.DISK, str(error)))

    def _settle(self) -> None:
        state = self._memory.read()
        attempt = state.attempt
        if attempt is None:
            return
        running = self._installer.running_version()
        if running is not None and order(running) == order(attempt.version):
            if not attempt.arrived:
                self._said("arrived", "bundle", attempt.version, attempt.digest, "runs")
                arrived = attempt.model_copy(update={"installed": True, "arrived": True})
                self._memory.write(state.model_copy(update={"attempt": arrived}))
        elif attempt.installed and attempt.boot != self._device.boot:
            self._said("returned", "bundle", attempt.version, attempt.digest, "another-system-runs")
            self._memory.write(state.came_back(attempt.digest))

    def _look(self, way: Way) -> None:
        client = Client(self._folder / "metadata", self._root, way, self._folder / "files")
        client.refresh()
        releases = client.releases()
        state = self._memory.read()
        if state.refused.startswith("metadata "):
            self._memory.write(state.model_copy(update={"refused": ""}))
        for kind in KINDS:
            if kind != "bundle" and kind not in self._placers:
                continue
            if kind == "bundle" and self._installer.running_version() is None:
                self._report.stays[kind] = "running-version-unknown"
                continue
            decision = decide(releases, kind, self._facts())
            match decision:
                case Stay():
                    self._report.stays[kind] = decision.reason
                case Take():
                    self._take(client, decision.release)
        self._sweep()

    def _facts(self) -> DeviceFacts:
        state = self._memory.read()
        versions = dict(state.placed)
        running = self._installer.running_version()
        installed = state.attempt.version if state.attempt is not None and state.attempt.installed else None
        newest = max((each for each in (running, installed) if each is not None), key=order, default=None)
        if newest is not None:
            versions["bundle"] = newest
        device = self._device
        return DeviceFacts(device.device_id, device.group, device.board, versions, frozenset(state.returned))

    def _take(self, client: Client, release: Release) -> None:
        kind, version, digest = release.terms.kind, release.terms.version, release.digest
        state = self._memory.read()
        if state.offered != digest:
            self._said("offered", kind, version, digest, "granted")
            state = state.model_copy(update={"offered": digest})
            self._memory.write(state)
        try:
            if kind == "bundle":
                self._installer.admit()
            self._has_room_for(release)
            file = client.fetch(release)
            self._said("downloaded", kind, version, digest, "length-and-hash-hold")
            if kind == "bundle":
                attempt = Attempt(version=version, digest=digest, boot=self._device.boot)
                self._memory.write(state.model_copy(update={"attempt": attempt}))
                self._installer.install(file, version, self._progress)
                self._memory.write(
                    state.model_copy(update={"attempt": attempt.model_copy(update={"installed": True}), "refused": ""})
                )
            else:
                self._placers[kind].place(file, release)
                placed = {**state.placed, kind: version}
                self._memory.write(state.model_copy(update={"placed": placed, "refused": ""}))
        except UpdateError as error:
            self._refused(error.refusal, release)
            return
        self._said("installed", kind, version, digest, "in-place")
        if kind == "models":
            self._memory.write(self._memory.read().model_copy(update={"restart_for_models": self._device.boot}))

    def _has_room_for(self, release: Release) -> None:
        # The part that is being fetched, and the checked file that it becomes.
        needed, free = 2 * release.length + SPARE_BYTES, shutil.disk_usage(self._folder).free
        if free < needed:
            raise UpdateError(UpdateReason.DISK, f"{release.name} needs {needed} bytes, {free} are free")

    def _restart_if_quiet(self) -> None:
        state = self._memory.read()
        attempt = state.attempt
        waiting = attempt is not None and attempt.installed and not attempt.arrived
        models = state.restart_for_models == self._device.boot
        if not waiting and not models:
            return
        since_s = self._ledger.since_capture_s()
        if since_s is not None and since_s < self._device.quiet_s:
            self._report.restart = "waits"
            return
        if attempt is not None and waiting:
            self._said("restarting", "bundle", attempt.version, attempt.digest, "no-booking-open")
        else:
            self._said("restarting", "models", state.placed.get("models"), None, "no-booking-open")
        self._report.restart = "asked"
        self._restart()

    def _sweep(self) -> None:
        """Files are of no use once they are in place; what a power cut left half-written goes too."""
        state = self._memory.read()
        pending = state.attempt.digest if state.attempt is not None and not state.attempt.installed else ""
        for file in (self._folder / "files").iterdir():
            if file.name not in (pending, state.offered):
                file.unlink(missing_ok=True)
        if state.attempt is not None and state.attempt.installed and state.attempt.digest == state.offered:
            (self._folder / "files" / state.offered).unlink(missing_ok=True)
        if self._report.refusal is None:  # nothing waits to be fetched further: what was begun was withdrawn
            for begun in (self._folder / "partials").iterdir():
                begun.unlink(missing_ok=True)

    def _said(self, step: Step, what: Kind, version: str | None, digest: str | None, reason: str) -> None:
        event = Updated(step=step, what=what, version=version, digest=digest, reason=reason)
        self._ledger.record(event)
        self._report.steps.append(event)

    def _refused(self, refusal: UpdateRefusal, release: Release | None = None) -> None:
        """On the ledger once, until something else happens: an outage of weeks is one entry, not one an hour."""
        self._report.refusal = self._report.refusal or refusal
        if refusal.reason in (UpdateReason.NO_LEDGER, UpdateReason.BUSY):
            return
        event = Updated(
            step="refused",
            what=release.terms.kind if release else "metadata",
            version=release.terms.version if release else None,
            digest=release.digest if release else None,
            reason=refusal.reason,
        )
        state = self._memory.read()
        said = f"{event.what} {event.reason} {event.digest}"
        if state.refused == said:
            return
        with suppress(UpdateError, OSError):
            self._ledger.record(event)
            self._report.steps.append(event)
            self._memory.write(state.model_copy(update={"refused": said}))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "partials").mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / "in-use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UpdateError(UpdateReason.BUSY, f"another run of the updater is under way ({folder})") from error
    try:
        yield
    finally:
        os.close(descriptor)
