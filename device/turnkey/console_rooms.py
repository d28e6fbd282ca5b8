"""The console's port (`turnkey.console.room`) over a device in one process, and over the processes of another.

Rules kept here:
1. The console is a process of its own on the device, because a moratorium ends the booth's, and the console must still
   say that recognition is stopped and take down that a booking has no picture. It has no camera, no model, no gallery
   and no key.
2. What does not answer is a stop, or a booth that is gone; never a reason to guess.
"""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from turnkey import __version__
from turnkey.attempt import Refusal
from turnkey.booth_desk import BoothDesk
from turnkey.booth_line import BoothUnreachable
from turnkey.booth_socket import (
    LOOK,
    MAX_GLANCE,
    Errand,
    ask_booth,
    unpack_glance,
)
from turnkey.capture.camera import Camera
from turnkey.console.notes import send_note
from turnkey.console.room import Answer, Dark, Health, PolicyState, Seen
from turnkey.console.viewfinder import Viewfinder
from turnkey.database import StorageError
from turnkey.device import Device
from turnkey.interlock.lease import connect
from turnkey.interlock.permit import Permit
from turnkey.interlock.status import InterlockStatus
from turnkey.leads.policy import PolicyRefusal, SignedPolicy
from turnkey.leads.records import NotCaptured, SignInRefused
from turnkey.notary.client import ask_standing
from turnkey.settings import Settings, SocketSettings
from turnkey.vision.framing import framing_guide
from turnkey.vision.inspector import Inspector
from turnkey.vision.limits import QualityLimits
from turnkey.vision.manifest import Manifest

LOOK_TIMEOUT_S = 3.0
"""A first look starts the camera; none takes longer."""


def open_viewfinder(
    settings: Settings,
    manifest: Manifest,
    camera: Camera,
    permit: Callable[[], Permit],
    policy: Callable[[], SignedPolicy | PolicyRefusal],
) -> Viewfinder:
    """The viewfinder of a booth's camera: asks of a preview what the policy asks of a picture. Raises: ModelError."""
    guide = framing_guide(settings.models, threads=settings.threads)
    inspector = Inspector.load(settings.models, manifest, threads=settings.threads)

    def limits() -> QualityLimits:
        device, known = QualityLimits(), policy()
        if isinstance(known, PolicyRefusal):
            return device
        # A preview is a fraction of the picture's size: how many pixels the policy wants is the picture's to show.
        return replace(known.policy.quality_limits(device), min_inter_eye_px=device.min_inter_eye_px)

    return Viewfinder(camera, guide, inspector, permit, limits)


class LocalRoom:
    """The port over a device in this process.

    Args:
        device: running.
        desk: over the device's booth and camera.
    """

    def __init__(self, device: Device, desk: BoothDesk) -> None:
        self._device = device
        self._desk = desk

    def standing(self) -> InterlockStatus | None:
        return self._device.interlock.status()

    def policy(self) -> PolicyState:
        return policy_state(self._device.policy())

    def look(self) -> Seen | Dark:
        return self._desk.look()

    def book(self, booking_number: str) -> Answer:
        outcome = self._desk.book(booking_number)
        if isinstance(outcome, Refusal):
            return Answer(False, outcome.step, outcome.reason)
        return Answer(True)

    def note(self, note: NotCaptured | SignInRefused) -> str:
        try:
            self._device.notary.record(note)
        except StorageError as error:
            self._device.interlock.halt("ledger-unwritable")
            return error.reason
        return ""

    def health(self) -> Health:
        try:
            waiting: int | None = self._device.leads_waiting()
        except StorageError:
            waiting = None
        return Health(__version__, waiting, free_share(self._device.settings.state), camera_state(self.look()))


class RemoteRoom:
    """The port over the sockets of the other processes.

    Args:
        sockets: where they are.
        state: this process's own directory, on the disk that the records are on too.
        standing: asks the interlock.
        policy: the policy in force.
    """

    def __init__(
        self,
        sockets: SocketSettings,
        state: Path,
        standing: Callable[[], InterlockStatus | None],
        policy: Callable[[], SignedPolicy | PolicyRefusal],
    ) -> None:
        self._sockets = sockets
        self._state = state
        self._standing = standing
        self._policy = policy
        self._looking = threading.Lock()
        self._connection: socket.socket | None = None

    def standing(self) -> InterlockStatus | None:
        # Asked again: where all processes are one user's, as in the demo, one may be turned away for a moment.
        return self._standing() or self._standing()

    def policy(self) -> PolicyState:
        return policy_state(self._policy())

    def look(self) -> Seen | Dark:
        with self._looking:
            try:
                if self._connection is None:
                    self._connection = connect(self._sockets.booth)
                    self._connection.settimeout(LOOK_TIMEOUT_S)
                self._connection.send(LOOK)
                return unpack_glance(self._connection.recv(MAX_GLANCE))
            except (OSError, ValidationError):
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
        status = self._standing()
        return Dark("booth-gone") if status is not None and status.state == "RUNNING" else Dark("stopped")

    def book(self, booking_number: str) -> Answer:
        try:
            said = ask_booth(self._sockets.booth, Errand(ask="book", number=booking_number))
        except BoothUnreachable:
            status = self._standing()
            stopped = status is None or status.state != "RUNNING"
            return Answer(False, "interlock" if stopped else "booth", "booth-gone")
        return Answer(said.outcome == "recorded", said.step or "", said.reason)

    def note(self, note: NotCaptured | SignInRefused) -> str:
        return send_note(self._sockets.notary, note)

    def health(self) -> Health:
        standing = ask_standing(self._sockets.notary)
        waiting = standing.leads_waiting if standing is not None else None
        return Health(__version__, waiting, free_share(self._state), camera_state(self.look()))


def policy_state(policy: SignedPolicy | PolicyRefusal) -> PolicyState:
    """What the console needs of the policy in force."""
    if isinstance(policy, PolicyRefusal):
        return PolicyState(refusal=policy.reason)
    terms = policy.policy
    return PolicyState(
        booking_number_format=terms.booking_number_format,
        training_days=terms.officer_training_days,
        until=terms.valid_until,
    )


def free_share(folder: Path) -> float:
    """Share of the disk under `folder` that is free, 0 to 1."""
    usage = shutil.disk_usage(folder)
    return usage.free / usage.total


def camera_state(outcome: Seen | Dark) -> str:
    """The camera, for the status page: `working`, `stopped`, or why there is no picture."""
    if isinstance(outcome, Seen) or outcome.cause == "busy":
        return "working"
    return "stopped" if outcome.cause == "stopped" else outcome.reason or outcome.cause
