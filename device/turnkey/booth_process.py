"""The unit `turnkey-booth`: camera, models, gallery; it photographs, searches and enrols under a lease."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from turnkey.booth import Booth
from turnkey.booth_desk import BoothDesk
from turnkey.booth_socket import BoothServer
from turnkey.casework import open_casework
from turnkey.console_rooms import open_viewfinder
from turnkey.device import calibration_groups, new_camera
from turnkey.gallery_room import booth_room
from turnkey.interlock.peers import listen, passed_socket
from turnkey.pack_socket import pack_server, packs_path
from turnkey.packet_socket import packet_server, packets_path
from turnkey.packs import pack_room
from turnkey.processes import End
from turnkey.reconciliation import HeldToLedger, Rounds, set_back
from turnkey.recording import system_clocks
from turnkey.removal import Remover
from turnkey.removal_socket import removal_server, removals_path
from turnkey.settings import Settings


def run_booth(settings: Settings, stop: threading.Event) -> None:
    """Photograph, search and enrol for whoever asks at the booth's socket, until `stop`.

    Raises:
        ProcessFailed: what happened could not be put on record.
        StorageError, ModelError, AuthorityError, OSError: it cannot start.
    """
    end = End(stop)
    sockets = settings.interlock.socket
    with ExitStack() as parts:
        room = parts.enter_context(booth_room(settings))
        camera = new_camera(settings)
        parts.callback(camera.close)

        def halt(reason: str) -> None:
            end.fail(reason)
            room.gallery.lock()

        gate = HeldToLedger(room.permit, room.gallery, room.notary, halt)
        booth = Booth(
            gate=gate,
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
            pack_server(pack_room(room, gate.permit), listen(packs_path(sockets)), sockets),
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
