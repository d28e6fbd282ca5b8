"""The device: the one place that wires the rooms together, all in one process.

Rules kept here:
1. The ledger is opened before the interlock, because the interlock's first word is an entry on it.
2. One process drives a device at a time; a second one is refused by name.
3. What opened is closed again where a later part does not open.
4. A stop locks the gallery before the stop is on the ledger.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from turnkey.accepted_models import accepted_manifest
from turnkey.booth import Booth
from turnkey.capture.adapters import open_camera
from turnkey.capture.camera import AbsentCamera, Camera, CameraError
from turnkey.casework import open_casework
from turnkey.database import StorageError
from turnkey.envelope import KeyFileError
from turnkey.gallery.gallery import Gallery
from turnkey.gallery.store import KEY_BYTES
from turnkey.interlock.adapters import open_switch
from turnkey.interlock.authority import Authority, AuthorityError
from turnkey.interlock.authority_folder import AuthorityFolder
from turnkey.interlock.interlock import Interlock, InterlockStatus, Transition
from turnkey.interlock.latch import Latch
from turnkey.interlock.machine import State
from turnkey.interlock.orders import AuthorityFollowed, OrderAccepted, OrderRefused, judged
from turnkey.interlock.switch import Switch
from turnkey.leads.decision import Group, OperatingPoint
from turnkey.leads.policy import PolicyRefusal, SignedPolicy
from turnkey.leads.records import Heartbeat, Refused
from turnkey.notary.heartbeat import Heart
from turnkey.notary.journal import Journal
from turnkey.notary.wire import Standing
from turnkey.notary.witness import ledger_epoch, order_seen, switch_changed
from turnkey.policy_file import PolicyFile
from turnkey.reconciliation import Rounds, reconcile, set_back, stops_missing
from turnkey.recording import heartbeat, leads_waiting, open_notary, policy_adopted, standing_of, system_clocks
from turnkey.settings import Settings
from turnkey.uplink.mqtt import Uplink
from turnkey.uplink.outbox import Outbox
from turnkey.uplink_process import uplink_settings
from turnkey.vision.analyzer import Analyzer
from turnkey.vision.fusion import FUSED_FMR_FACTOR
from turnkey.vision.manifest import Calibration, GroupCalibration, ModelError, model_id

BOOT_TIMEOUT_S = 5.0
"""How long `Device.settled` waits for the key's debounce (1 s) and the first look at the switch."""


class DeviceError(Exception):
    """The device cannot start; the message says what to do."""


class DeviceBusy(DeviceError):
    """Another process is driving this device."""


def calibration_groups(calibration: Calibration) -> tuple[Group, ...]:
    """The manifest's calibration as the decision takes it, for probes that may be fused out of a burst."""
    return tuple(calibration_group(group) for group in calibration.groups)


def calibration_group(group: GroupCalibration) -> Group:
    """One group of a calibration as the decision takes it."""
    points = tuple(OperatingPoint(row.threshold, row.fmr_upper95) for row in group.rows)
    return Group(group.group, points, group.person_pairs, FUSED_FMR_FACTOR)


def new_camera(settings: Settings) -> Camera:
    """The camera that the settings name; one that only says why where it cannot be opened."""
    try:
        return open_camera(settings.camera)
    except CameraError as error:
        return AbsentCamera(error)


def new_switch(settings: Settings) -> Switch:
    """The switch that the settings name."""
    return open_switch(settings.interlock, simulated_switch_file(settings))


def simulated_switch_file(settings: Settings) -> Path:
    """Where a simulated switch keeps its wires, so that `turnkey key` can turn it from another process."""
    return settings.state / "simulated-switch.json"


class Device:
    """All rooms of one device in one process. Start with `with`.

    Args:
        settings: see `turnkey.settings`.
        camera: in place of the one that the settings name.
        switch: likewise.

    Raises:
        DeviceError: a part cannot be used; everything opened before is closed again.
    """

    def __init__(self, settings: Settings, *, camera: Camera | None = None, switch: Switch | None = None) -> None:
        self.settings = settings
        self._clocks = system_clocks()
        self._began_ns = self._clocks.monotonic_ns()
        self._uplink_stop = threading.Event()
        self._uplink_thread: threading.Thread | None = None
        with ExitStack() as parts:
            try:
                self._open(parts, camera, switch)
            except (StorageError, ModelError, AuthorityError, KeyFileError, OSError) as error:
                raise DeviceError(str(error)) from error
            self._parts = parts.pop_all()

    def _open(self, parts: ExitStack, camera: Camera | None, switch: Switch | None) -> None:
        settings = self.settings
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        parts.callback(os.close, hold(settings.state / "in-use"))
        successors = settings.state / "authorities"
        successors.mkdir(mode=0o700, exist_ok=True)
        self._authorities = AuthorityFolder(settings.authority.read_bytes(), successors)
        self.manifest = manifest = accepted_manifest(settings.models, self._authorities.current)
        self.analyzer = Analyzer.load(settings.models, manifest, threads=settings.threads)
        self.outbox = Outbox(settings.outbox_file)
        parts.callback(self.outbox.close)
        self.journal = Journal(settings.state / "ledger.db")
        parts.callback(self.journal.close)
        self.notary = open_notary(settings, manifest, self.journal, self.outbox, self._clocks)
        self._policies = PolicyFile(
            settings.policy,
            settings.state / "policy-in-force.json",
            settings.device_id,
            adopted=lambda policy: self.notary.record(policy_adopted(policy)),
        )
        self.model_id = model_id(manifest.embedder)
        self.gallery = Gallery(settings.state / "gallery.db", self.model_id, **settings.gallery.model_dump())
        parts.callback(self.gallery.lock)
        self._disagreement = reconcile(self.gallery, self.notary)
        known_epoch = ledger_epoch(self.journal)
        self.interlock = Interlock(
            switch or new_switch(settings),
            Latch(settings.state / "latch"),
            device_id=settings.device_id,
            authority=self._authorities,
            settings=settings.interlock,
            monotonic_ns=self._clocks.monotonic_ns,
            utc_now=self._clocks.utc_now,
            witness=self._witness,
            gallery_key=_gallery_key(settings.gallery_key),
            ledger_epoch=known_epoch,
        )
        parts.callback(self.interlock.close)
        latched = self.interlock.status().epoch
        self._disagreement = self._disagreement or stops_missing(self.notary, known_epoch, latched)
        picture_source = camera or new_camera(settings)
        parts.callback(picture_source.close)
        self.booth = Booth(
            gate=self.interlock,
            camera=picture_source,
            analyzer=self.analyzer,
            gallery=self.gallery,
            notary=self.notary,
            policy=self.policy,
            calibration=calibration_groups(manifest.calibration),
            model_id=self.model_id,
            clocks=self._clocks,
            burst=settings.camera.burst,
            halt=self.interlock.halt,
        )
        self.casework = open_casework(
            self.booth,
            settings,
            parts=parts,
            analyzer=self.analyzer,
            notary=self.notary,
            authority=self.authority,
            clocks=self._clocks,
        )
        self.uplink = Uplink(self.outbox, uplink_settings(settings))
        self.heart = Heart(self.notary, self._heartbeat, self.interlock.halt, settings.attestation.heartbeat_s)
        parts.callback(self.heart.close)
        self.rounds = Rounds(self._look, self.interlock.halt)
        parts.callback(self.rounds.close)

    def __enter__(self) -> Self:
        if self._disagreement is not None:
            self.interlock.halt(self._disagreement)
        self.interlock.start()
        self.heart.start()
        self.rounds.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything and close every file. Safe to call twice."""
        self._uplink_stop.set()
        if self._uplink_thread is not None:
            self._uplink_thread.join()
        self._parts.close()

    def settled(self, timeout_s: float = BOOT_TIMEOUT_S) -> InterlockStatus:
        """The interlock's status once it knows what holds: running, or stopped and why; at the latest after a while."""
        deadline_s = time.monotonic() + timeout_s
        while self.interlock.state is State.BOOTING and time.monotonic() < deadline_s:
            time.sleep(0.02)
        return self.interlock.status()

    def key_settled(self, timeout_s: float = BOOT_TIMEOUT_S) -> bool:
        """Wait until a key that is being closed counts as closed (it takes a second). False where it stays open."""
        deadline_s = time.monotonic() + timeout_s
        while not (closed := self.interlock.status().key_closed) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        return closed

    def start_uplink(self) -> None:
        """Publish what is in the outbox, and what comes, in a thread of its own."""
        self._uplink_thread = threading.Thread(target=self.uplink.run, args=(self._uplink_stop,), name="uplink")
        self._uplink_thread.start()

    def apply_order(self, envelope: bytes) -> OrderAccepted | OrderRefused:
        """Apply a moratorium or release order; accepted or refused, it is on the ledger."""
        outcome = self.interlock.apply(envelope)
        self.notary.record(order_seen(judged(envelope, outcome)))
        return outcome

    def follow_authority(self, envelope: bytes) -> AuthorityFollowed | OrderRefused:
        """Replace the authority by its successor; followed or refused, it is on the ledger."""
        outcome = self.interlock.follow(envelope)
        self.notary.record(order_seen(judged(envelope, outcome)))
        return outcome

    def authority(self) -> Authority:
        """Who may sign what."""
        return self._authorities.current

    def follow_policy(self, envelope: bytes) -> SignedPolicy | PolicyRefusal:
        """Replace the policy by one that follows it; followed or refused, it is on the ledger. Raises: OSError."""
        outcome = self._policies.follow(envelope, self.authority(), self._clocks.utc_now())
        if isinstance(outcome, PolicyRefusal):
            self.notary.record(Refused(step="policy", reason=outcome.reason))
        return outcome

    def policy(self) -> SignedPolicy | PolicyRefusal:
        """The policy in force: signed by a role that the authority lets sign policies. Read anew each time."""
        now = self._clocks.utc_now()
        return self._policies.in_force(self.authority(), now)

    def _witness(self, transition: Transition) -> None:
        if transition.state is not State.RUNNING:
            self.gallery.lock()
        self.notary.record(switch_changed(transition))

    def leads_waiting(self) -> int:
        """Signed leads that the broker has not taken yet."""
        return leads_waiting(self.settings, self.journal, self.outbox)

    def standing(self) -> Standing:
        """How ledger and policy stand."""
        return standing_of(self.policy(), self.journal, self.leads_waiting(), self.model_id)

    def _look(self) -> str | None:
        """Whether ledger, published checkpoint and gallery still agree; why the device must stop where not."""
        self.interlock.hold_to(ledger_epoch(self.journal))
        self.notary.hold()
        return set_back(self.gallery, self.notary)

    def _heartbeat(self) -> Heartbeat:
        up_ns = self._clocks.monotonic_ns() - self._began_ns
        return heartbeat(self.interlock.status(), self.policy(), self.leads_waiting(), up_ns)


def _gallery_key(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise DeviceError(f"{path}: a gallery key is {KEY_BYTES} bytes, this file has {len(key)}")
    return key


def hold(path: Path) -> int:
    """Take the device for this process; the returned descriptor holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise DeviceBusy(f"another process is driving this device ({path.parent})") from error
    return descriptor
