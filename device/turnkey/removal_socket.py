"""The booth's socket for removals: how `turnkey expunge` and `turnkey gallery retain` reach a booth that runs.

One request is one packet and has one answer (SOCK_SEQPACKET, JSON).

Rules kept here:
1. The operator may have a reference expunged; the booth's user, whose timer ends what retention ends, may have that.
2. The answer says how many templates are gone, and certifies it. Never what was in them.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from turnkey.booth_line import line_to_booth
from turnkey.database import StorageError
from turnkey.interlock.peers import Server, rights_by_user
from turnkey.leads.fields import Partition, ReasonCode, Reference
from turnkey.removal import Removed, Remover
from turnkey.settings import SocketSettings

MAX_PACKET = 64 * 1024
ANSWER_TIMEOUT_S = 120.0
"""Retention may end many thousand templates in one night."""


def removals_path(settings: SocketSettings) -> Path:
    """Where the socket is: beside the booth's."""
    return settings.booth.with_name("removals")


class Expunge(BaseModel):
    """Remove every template of a reference."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ask: Literal["expunge"] = "expunge"
    partition: Partition
    reference: Reference
    reason: ReasonCode


class Retain(BaseModel):
    """Remove what retention has ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ask: Literal["retain"] = "retain"


class Gone(BaseModel):
    """What was removed, and its receipts (envelopes); `reason` and `message` where nothing could be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Literal["removed", "refused"]
    templates: dict[Partition, int] = {}
    receipts: tuple[str, ...] = ()
    reason: str = ""
    message: str = ""


_ASKED: TypeAdapter[Expunge | Retain] = TypeAdapter(Annotated[Expunge | Retain, Field(discriminator="ask")])


def removal_server(remover: Remover, listener: socket.socket, settings: SocketSettings) -> Server:
    """Serves a remover over `listener` to the operator, and to the booth's user what its timer asks."""
    rights = rights_by_user(
        (
            (settings.operator_user, frozenset({"expunge", "retain"})),
            (settings.booth_user, frozenset({"retain"})),
        )
    )

    def serve(connection: socket.socket, _uid: int, granted: frozenset[str]) -> None:
        with suppress(OSError, ValidationError):
            while packet := connection.recv(MAX_PACKET):
                errand = _ASKED.validate_json(packet)
                connection.send(_answer(remover, errand, granted).model_dump_json().encode())

    return Server(listener, rights, serve, name="removals")


def _answer(remover: Remover, errand: Expunge | Retain, granted: frozenset[str]) -> Gone:
    if errand.ask not in granted:
        return Gone(outcome="refused", reason="not-permitted", message="this user may not ask that")
    try:
        return carry_out(remover, errand)
    except StorageError as error:
        return Gone(outcome="refused", reason=error.reason, message=str(error))


def carry_out(remover: Remover, errand: Expunge | Retain) -> Gone:
    """Remove what is to go. Raises: StorageError."""
    removed: Removed
    if isinstance(errand, Expunge):
        removed = remover.expunge(errand.partition, errand.reference, errand.reason)
    else:
        removed = remover.retain(datetime.now(UTC))
    receipts = tuple(receipt.decode() for receipt in removed.receipts)
    return Gone(outcome="removed", templates=removed.templates, receipts=receipts)


def ask_to_remove(path: Path, errand: Expunge | Retain, timeout_s: float = ANSWER_TIMEOUT_S) -> Gone:
    """Have the booth at `path` remove something.

    Raises:
        BoothUnreachable: it is not there, or ended before it answered; what is to go can be removed without it.
    """
    with line_to_booth(path, timeout_s) as booth:
        booth.send(errand.model_dump_json().encode())
        return Gone.model_validate_json(booth.recv(MAX_PACKET))
