"""The units `turnkey-notary` and `turnkey-booth`: the same rooms as in `turnkey.device`, wired across processes.

Rules kept here:
1. A process that cannot do its work ends, and so ends everything that leans on it: without a notary nothing is
   captured and the interlock does not start, without a booth nothing is captured, without an interlock there is no
   lease. systemd starts it again.
2. A newer authority is asked of the interlock and verified here; until that is done no policy is in force.
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
from turnkey.following import followed, interlock_status, policy_apart, policy_known
from turnkey.gallery_room import booth_room
from turnkey.interlock.lease import LeaseClient
from turnkey.interlock.notify import notify, watchdog_s
from turnkey.interlock.peers import listen, passed_socket
from turnkey.leads.records import Heartbeat
from turnkey.notary.daemon import NotaryDaemon, rights_of
from turnkey.notary.heartbeat import Heart
from turnkey.notary.journal import Journal
from turnkey.notary.wire import Standing
from turnkey.packet_socket import packet_server, packets_path
from turnkey.policy_file import PolicyFile
from turnkey.reconciliation import HeldToLedger, Rounds, set_back
from turnkey.recording import heartbeat, leads_waiting, open_notary, policy_adopted, standing_of, system_clocks
from turnkey.removal import Remover
from turnkey.removal_socket import removal_server, removals_path
from turnkey.settings import Settings
from turnkey.uplink.outbox import Outbox
from turnkey.vision.manifest import read_manifest


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
        following = followed(settings)
        notary = open_notary(settings, manifest, journal, outbox, clocks)
        policies = PolicyFile(
            settings.policy,
            settings.state / "policy-in-force.json",
            settings.device_id,
            adopted=lambda policy: notary.record(policy_adopted(policy)),
        )

        def statement() -> Heartbeat | None:
            status = interlock_status(sockets.path)
            if status is None:
                return None
            policy = policy_apart(policies, following, status)
            waiting = leads_waiting(settings, journal, outbox)
            return heartbeat(status, policy, waiting, clocks.monotonic_ns() - began_ns)

        def standing() -> Standing:
            status = interlock_status(sockets.path)
            policy = policy_apart(policies, following, status) if status else None
            return standing_of(policy, journal, leads_waiting(settings, journal, outbox), model_id(manifest.embedder))

        gate = LeaseClient(sockets.path, silence_s=settings.interlock.lease_validity_ms / 1e3).start()
        parts.callback(gate.close)
        listener = passed_socket() or listen(sockets.notary)
        daemon = NotaryDaemon(
            notary, journal, gate, listener, rights=rights_of(sockets), failed=end.fail, standing=standing
        )
        parts.callback(daemon.close)
        heart = Heart(notary, statement, end.fail, settings.attestation.heartbeat_s)
        parts.callback(heart.close)
        rounds = Rounds(notary.hold, end.fail)
        parts.callback(rounds.close)
        daemon.start()
        heart.start()
        rounds.start()
        end.wait(daemon.is_alive)


def run_booth(settings: Settings, stop: threading.Event) -> None:
    """Photograph, search and enrol for whoever asks at the booth's socket, until `stop`.

    Raises:
        ProcessFailed: what happened could not be put on record.
        StorageError, ModelError, AuthorityError, OSError: it cannot start.
    """
    end = _End(stop)
    sockets = settings.interlock.socket
    with ExitStack() as parts:
        room = parts.enter_context(booth_room(settings))
        camera = new_camera(settings)
        parts.callback(camera.close)

        def halt(reason: str) -> None:
            end.fail(reason)
            room.gallery.lock()

        booth = Booth(
            gate=HeldToLedger(room.permit, room.gallery, room.notary, halt),
            camera=camera,
            analyzer=room.analyzer,
            gallery=room.gallery,
            notary=room.notary,
            policy=room.policy,
            calibration=calibration_groups(room.manifest.calibration),
            model_id=room.model_id,
            clocks=system_clocks(),
            burst=settings.camera.burst,
            halt=halt,
        )
        casework = open_casework(
            booth,
            settings,
            parts=parts,
            analyzer=room.analyzer,
            notary=room.notary,
            authority=room.authority,
            clocks=system_clocks(),
        )
        desk = BoothDesk(booth, open_viewfinder(settings, room.manifest, camera, room.permit, room.policy))
        remover = Remover(room.gallery, room.notary)
        servers = (
            packet_server(casework, listen(packets_path(sockets)), sockets),
            removal_server(remover, listen(removals_path(sockets)), sockets),
            BoothServer(desk, passed_socket() or listen(sockets.booth), sockets),
        )
        for server in servers:
            parts.callback(server.close)
            server.start()
        rounds = Rounds(lambda: set_back(room.gallery, room.notary), halt)
        parts.callback(rounds.close)
        rounds.start()
        end.wait(lambda: room.attended() and all(server.is_alive() for server in servers))


def run_console(settings: Settings, stop: threading.Event) -> None:
    """Serve the console to this machine's browser, running or stopped, until `stop`.

    Raises:
        StorageError, AuthorityError, OSError: it cannot start.
    """
    sockets = settings.interlock.socket
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    policy = policy_known(settings, followed(settings), "policy-of-the-console.json")
    room = RemoteRoom(sockets, settings.state, lambda: interlock_status(sockets.path), policy)
    with ConsoleServer(room, settings, passed_socket() or console_listener(settings.console)) as server:
        _End(stop).wait(server.is_alive)


def _shared_outbox(path: Path) -> Outbox:
    """The outbox, readable and writable by its group too: the uplink is another user."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660))
    except OSError as error:
        raise StorageError("unwritable", f"{path}: {error.strerror}") from error
    return Outbox(path)
