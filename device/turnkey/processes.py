"""The units `turnkey-notary` and `turnkey-booth`: the same rooms as in `turnkey.device`, wired across processes.

Rules kept here:
1. The booth has neither the signing key nor the ledger: what it has for both is the notary's socket.
2. The booth's gallery is locked the moment that its permit dies, or the notary's process does; no step asks for that.
3. A process that cannot do its work ends, and so ends everything that leans on it: without a notary nothing is
   captured and the interlock does not start, without a booth nothing is captured, without an interlock there is no
   lease. systemd starts it again.
4. A newer authority is asked of the interlock and verified here; until that is done no policy is in force.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from turnkey.booth import Booth
from turnkey.booth_desk import BoothDesk
from turnkey.booth_socket import BoothServer
from turnkey.casework import open_casework
from turnkey.console_rooms import RemoteRoom, open_viewfinder
from turnkey.console_server import ConsoleServer, console_listener
from turnkey.database import StorageError
from turnkey.device import calibration_groups, model_id, new_camera
from turnkey.following import FollowedAuthority
from turnkey.gallery.gallery import Gallery
from turnkey.interlock.lease import DaemonError, LeaseClient, ask
from turnkey.interlock.notify import notify, watchdog_s
from turnkey.interlock.peers import listen, passed_socket
from turnkey.interlock.permit import Permit, Stopped
from turnkey.interlock.status import InterlockStatus
from turnkey.interlock.wire import Request
from turnkey.leads.policy import PolicyReason, PolicyRefusal, SignedPolicy
from turnkey.leads.records import Heartbeat
from turnkey.notary.client import NotaryClient
from turnkey.notary.daemon import NotaryDaemon, rights_of
from turnkey.notary.heartbeat import Heart
from turnkey.notary.journal import Journal
from turnkey.packet_socket import PacketServer, packets_path
from turnkey.policy_file import PolicyFile
from turnkey.recording import heartbeat, leads_waiting, open_notary, policy_adopted, system_clocks
from turnkey.settings import Settings
from turnkey.uplink.outbox import Outbox
from turnkey.vision.analyzer import Analyzer
from turnkey.vision.manifest import read_manifest

STATUS_TIMEOUT_S = 2.0
LOOK_S = 0.02
"""How often it is seen whether there is a permit, and whether the notary is there. A permit's death is not polled."""


class ProcessFailed(Exception):
    """The process cannot go on; its end is what stops the others. Carries the reason code."""


class _End:
    """When a process is to end: systemd asks for it, or it has failed."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self.reason: str | None = None

    def fail(self, reason: str) -> None:
        """End, and say that it was a failure. The first reason stands."""
        self.reason = self.reason or reason
        self._stop.set()

    def wait(self, alive: Callable[[], bool]) -> None:
        """Tell systemd that all is well for as long as it is. Raises: ProcessFailed."""
        every_s = min(watchdog_s() or 1.0, 1.0) / 2
        notify("READY=1")
        while not self._stop.wait(every_s):
            if alive():
                notify("WATCHDOG=1")
        notify("STOPPING=1")
        if self.reason is not None:
            raise ProcessFailed(self.reason)


def run_notary(settings: Settings, stop: threading.Event) -> None:
    """Keep the ledger and sign, until `stop`.

    Raises:
        ProcessFailed: the ledger cannot be written any more.
        StorageError, KeyFileError, ModelError, AuthorityError, OSError: it cannot start.
    """
    clocks, end = system_clocks(), _End(stop)
    began_ns = clocks.monotonic_ns()
    sockets = settings.interlock.socket
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as parts:
        outbox = _shared_outbox(settings.outbox_file)
        parts.callback(outbox.close)
        journal = Journal(settings.state / "ledger.db")
        parts.callback(journal.close)
        manifest = read_manifest(settings.models)
        authority = _authority(settings)
        notary = open_notary(settings, manifest, journal, outbox, clocks)
        policies = PolicyFile(
            settings.policy,
            settings.state / "policy-in-force.json",
            settings.device_id,
            adopted=lambda policy: notary.record(policy_adopted(policy)),
        )

        def statement() -> Heartbeat | None:
            status = _status(sockets.path)
            if status is None:
                return None
            policy = _policy(policies, authority, status)
            waiting = leads_waiting(settings, journal, outbox)
            return heartbeat(status, policy, waiting, clocks.monotonic_ns() - began_ns)

        gate = LeaseClient(sockets.path, silence_s=settings.interlock.lease_validity_ms / 1e3).start()
        parts.callback(gate.close)
        listener = passed_socket() or listen(sockets.notary)
        daemon = NotaryDaemon(notary, journal, gate, listener, rights=rights_of(sockets), failed=end.fail)
        parts.callback(daemon.close)
        heart = Heart(notary, statement, end.fail, settings.attestation.heartbeat_s)
        parts.callback(heart.close)
        daemon.start()
        heart.start()
        end.wait(daemon.is_alive)


class _NotaryAndLease:
    """The booth's gate: a permit of the interlock's, and a notary to put the work on record."""

    def __init__(self, lease: LeaseClient, notary: NotaryClient) -> None:
        self._lease = lease
        self._notary = notary

    def permit(self) -> Permit:
        """A live permit. Raises: Stopped."""
        if not self._notary.present:
            raise Stopped("notary-gone")
        return self._lease.permit()


class _Lock(threading.Thread):
    """Locks the gallery at each death of a permit, and while the notary is gone."""

    def __init__(self, gate: _NotaryAndLease, gallery: Gallery, end: threading.Event) -> None:
        super().__init__(name="gallery-lock", daemon=True)
        self._gate = gate
        self._gallery = gallery
        self._end = end

    def run(self) -> None:
        """Watch until the process ends."""
        held: Permit | None = None
        while not self._end.is_set():
            try:
                held = self._gate.permit()
                held.wait(LOOK_S)
                held.check()
            except Stopped:
                if held is not None:
                    self._gallery.lock()
                    held = None
                self._end.wait(LOOK_S)


def run_booth(settings: Settings, stop: threading.Event) -> None:
    """Photograph, search and enrol for whoever asks at the booth's socket, until `stop`.

    Raises:
        ProcessFailed: what happened could not be put on record.
        StorageError, ModelError, AuthorityError, OSError: it cannot start.
    """
    end = _End(stop)
    sockets = settings.interlock.socket
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as parts:
        manifest = read_manifest(settings.models)
        analyzer = Analyzer.load(settings.models, threads=settings.threads)
        authority = _authority(settings)
        model = model_id(manifest.embedder)
        gallery = Gallery(settings.state / "gallery.db", model, **settings.gallery.model_dump())
        parts.callback(gallery.lock)
        camera = new_camera(settings)
        parts.callback(camera.close)
        notary = NotaryClient(sockets.notary).start()
        parts.callback(notary.close)
        lease = LeaseClient(sockets.path, silence_s=settings.interlock.lease_validity_ms / 1e3).start()
        parts.callback(lease.close)
        gate = _NotaryAndLease(lease, notary)

        def halt(reason: str) -> None:
            end.fail(reason)
            gallery.lock()

        booth = Booth(
            gate=gate,
            camera=camera,
            analyzer=analyzer,
            gallery=gallery,
            notary=notary,
            policy=_policy_known(settings, authority, "policy-of-the-booth.json"),
            calibration=calibration_groups(manifest.calibration),
            model_id=model,
            clocks=system_clocks(),
            halt=halt,
        )
        casework = open_casework(
            booth,
            settings,
            parts=parts,
            analyzer=analyzer,
            notary=notary,
            authority=lambda: authority.current,
            clocks=system_clocks(),
        )
        packets = PacketServer(casework, listen(packets_path(sockets)), sockets)
        parts.callback(packets.close)
        packets.start()
        lock = _Lock(gate, gallery, stop)
        lock.start()
        desk = BoothDesk(booth, open_viewfinder(settings, manifest, camera, gate.permit))
        server = BoothServer(desk, passed_socket() or listen(sockets.booth), sockets)
        parts.callback(server.close)
        server.start()
        end.wait(lambda: server.is_alive() and packets.is_alive() and lock.is_alive())


def run_console(settings: Settings, stop: threading.Event) -> None:
    """Serve the console to this machine's browser, running or stopped, until `stop`.

    Raises:
        StorageError, AuthorityError, OSError: it cannot start.
    """
    sockets = settings.interlock.socket
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    policy = _policy_known(settings, _authority(settings), "policy-of-the-console.json")
    room = RemoteRoom(sockets, settings.state, lambda: _status(sockets.path), policy)
    with ConsoleServer(room, settings, passed_socket() or console_listener(settings.console)) as server:
        _End(stop).wait(server.is_alive)


def _authority(settings: Settings) -> FollowedAuthority:
    first, own = settings.authority.read_bytes(), settings.state / "authorities"
    return FollowedAuthority(first, own, settings.interlock.socket.path)


def _status(path: Path) -> InterlockStatus | None:
    try:
        return InterlockStatus.model_validate_json(ask(path, Request(ask="status"), STATUS_TIMEOUT_S).body)
    except (DaemonError, ValueError):
        return None


def _policy_known(
    settings: Settings, authority: FollowedAuthority, memory: str
) -> Callable[[], SignedPolicy | PolicyRefusal]:
    """The policy in force, for a process beside the notary's; `memory`: the name of its own memory of what was.

    The notary has another, and puts what comes into force on the ledger.
    """
    policies = PolicyFile(settings.policy, settings.state / memory, settings.device_id)

    def policy() -> SignedPolicy | PolicyRefusal:
        status = _status(settings.interlock.socket.path)
        if status is None:
            return PolicyRefusal(PolicyReason.NOT_SIGNED, "the interlock does not say whose policies hold")
        return _policy(policies, authority, status)

    return policy


def _policy(
    policies: PolicyFile, following: FollowedAuthority, status: InterlockStatus
) -> SignedPolicy | PolicyRefusal:
    authority = following.at(status.authority_version)
    if authority is None:
        return PolicyRefusal(
            PolicyReason.NOT_SIGNED,
            f"the interlock follows version {status.authority_version} of the authority, and this process cannot "
            "verify how it came to be: provision the device anew",
        )
    return policies.in_force(authority, system_clocks().utc_now())


def _shared_outbox(path: Path) -> Outbox:
    """The outbox, readable and writable by its group too: the uplink is another user."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660))
    except OSError as error:
        raise StorageError("unwritable", f"{path}: {error.strerror}") from error
    return Outbox(path)
