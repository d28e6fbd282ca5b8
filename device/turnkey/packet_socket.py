"""The booth's other socket: how `turnkey case apply` hands a packet to the booth's process.

One request is one message with one open file (SOCK_SEQPACKET, SCM_RIGHTS, unix(7)) and has one answer (JSON). The
booth has no part of the file system that a stick is mounted on; the open file is all that it gets.

Rules kept here:
1. Only the operator may ask: neither an officer nor the console applies packets.
2. The answer says what was enrolled, or why not. Never a candidate, never a lead.
3. What is no regular file is not read: a pipe could keep the booth waiting for ever.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from turnkey.attempt import Refusal
from turnkey.booth_line import line_to_booth
from turnkey.casework import Casework, PacketApplied, read_packet_file
from turnkey.interlock.peers import Server, rights_by_user
from turnkey.leads.packet import PacketReason
from turnkey.leads.records import Reference, Step
from turnkey.settings import SocketSettings

MAX_ANSWER = 8192
ANSWER_TIMEOUT_S = 120.0
"""The first attempt after a start loads the whole gallery."""
RIGHT = "apply"


def packets_path(settings: SocketSettings) -> Path:
    """Where the socket is: beside the booth's."""
    return settings.booth.with_name("packets")


class PacketSaid(BaseModel):
    """What came of a packet.

    Attributes:
        outcome: `enrolled` or `refused`.
        case_number: where it was enrolled.
        step, reason, message: where it was refused.
        search: whether the one search was `done`, the policy wants `none`, or it was `refused`.
        search_reason: why, where it was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Literal["enrolled", "refused"]
    case_number: Reference | None = None
    step: Step | None = None
    reason: str = ""
    message: str = ""
    search: Literal["done", "none", "refused"] = "none"
    search_reason: str = ""


def packet_said(outcome: PacketApplied | Refusal) -> PacketSaid:
    """An outcome as whoever applies a packet may see it."""
    if isinstance(outcome, Refusal):
        return PacketSaid(outcome="refused", step=outcome.step, reason=outcome.reason, message=outcome.message)
    return PacketSaid(
        outcome="enrolled",
        case_number=outcome.case_number,
        search=outcome.search,
        search_reason=outcome.refusal.reason if outcome.refusal else "",
    )


def packet_server(casework: Casework, listener: socket.socket, settings: SocketSettings) -> Server:
    """Serves casework over `listener` to the operator."""

    def serve(connection: socket.socket, _uid: int, _rights: frozenset[str]) -> None:
        with suppress(OSError):
            while _served(connection, casework):
                pass

    return Server(listener, rights_by_user(((settings.operator_user, frozenset({RIGHT})),)), serve, name="packets")


def _served(connection: socket.socket, casework: Casework) -> bool:
    """Answer one request; False where the peer has gone, or asked for something else. Raises: OSError."""
    asked, descriptors, _, _ = socket.recv_fds(connection, len(RIGHT), 1)
    try:
        if asked != RIGHT.encode() or len(descriptors) != 1:
            return False
        connection.send(_applied(casework, descriptors[0]).model_dump_json().encode())
        return True
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _applied(casework: Casework, descriptor: int) -> PacketSaid:
    try:
        file = read_packet_file(descriptor)
    except OSError as error:
        message = f"The packet cannot be read: {error}."
        return PacketSaid(outcome="refused", step="case-packet", reason=PacketReason.UNREADABLE, message=message)
    return packet_said(casework.apply(file))


def ask_to_apply(path: Path, descriptor: int, timeout_s: float = ANSWER_TIMEOUT_S) -> PacketSaid:
    """Have the booth at `path` apply an open packet file.

    Raises:
        BoothUnreachable: it is not there, or ended before it answered.
    """
    with line_to_booth(path, timeout_s) as booth:
        socket.send_fds(booth, [RIGHT.encode()], [descriptor])
        return PacketSaid.model_validate_json(booth.recv(MAX_ANSWER))
