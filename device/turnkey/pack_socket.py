"""The booth's socket for template packs: how `turnkey gallery export` and `import-pack` reach a booth that runs.

One request is one message with one open file (SOCK_SEQPACKET, SCM_RIGHTS, unix(7)): a new file that is to become a
pack, or a pack. While the work goes on the booth says how much is done; its last message says what came of it. The
booth has no part of the file system that a stick is mounted on; the open file is all that it gets.

Rules kept here:
1. Only the operator may ask. That is no authority: the order inside needs two people.
2. The answer says how many, and why not. Never a reference, never a template.
3. Where whoever asked goes away, the work ends at the next batch: an export leaves nothing, an import can be finished.
4. What is no regular file is not read: a pipe could keep the booth waiting for ever.
5. One exchange at a time.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from turnkey.attempt import Refusal
from turnkey.booth_line import line_to_booth
from turnkey.envelope import MAX_ENVELOPE_BYTES, KeyFileError
from turnkey.interlock.authority import KeyHex
from turnkey.interlock.peers import Server, rights_by_user
from turnkey.leads.fields import ReasonCode, Step
from turnkey.leads.template_pack import PackReason
from turnkey.pack_export import PackMade, export_pack
from turnkey.pack_import import PackTaken, import_pack
from turnkey.packs import Abandoned, PackRoom, Progress
from turnkey.sealed import SealingKey
from turnkey.settings import SocketSettings

MAX_MESSAGE = MAX_ENVELOPE_BYTES + 4096
RIGHT = "packs"
SAID_EVERY_S = 0.2
SILENCE_S = 600.0
"""Verifying a pack of gigabytes is one silent reading of the file before anything is said."""


def packs_path(settings: SocketSettings) -> Path:
    """Where the socket is: beside the booth's."""
    return settings.booth.with_name("packs")


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Export(_Message):
    """Write a pack into the open file. `order`: the envelope; `receiver`: the key to hold against the policy's."""

    ask: Literal["export"] = "export"
    order: Annotated[str, StringConstraints(max_length=MAX_ENVELOPE_BYTES)]
    receiver: KeyHex | None = None


class Import(_Message):
    """Take the pack in the open file."""

    ask: Literal["import"] = "import"


class PackProgress(_Message):
    """How many rows are done, and of how many."""

    say: Literal["progress"] = "progress"
    done: int
    of: int


class PackSaid(_Message):
    """What came of a pack.

    Attributes:
        device: at the other end.
        rows: how many templates are in it.
        enrolled, enrolled_before: how many were enrolled now, and by an attempt that was cut short.
        left: how many stayed behind, or were not taken, by reason.
        digest: SHA-256 of the rows as they are encrypted: what both ledgers have.
        step, reason, message: where it was refused.
    """

    say: Literal["said"] = "said"
    outcome: Literal["exported", "imported", "refused"]
    pack_id: str = ""
    device: str = ""
    partition: str = ""
    rows: int = 0
    enrolled: int = 0
    enrolled_before: int = 0
    left: dict[ReasonCode, int] = Field(default_factory=dict)
    digest: str = ""
    step: Step | None = None
    reason: str = ""
    message: str = ""


_BUSY, _NO_FILE = (
    PackSaid(outcome="refused", step="template-pack", reason=reason, message=message)
    for reason, message in (
        ("busy", "Another pack is being made or taken: wait for it."),
        (PackReason.UNREADABLE, "That is no file on a disk or a stick."),
    )
)


_ASKED: TypeAdapter[Export | Import] = TypeAdapter(Annotated[Export | Import, Field(discriminator="ask")])
_ANSWER: TypeAdapter[PackProgress | PackSaid] = TypeAdapter(
    Annotated[PackProgress | PackSaid, Field(discriminator="say")]
)


def pack_said(outcome: PackMade | PackTaken | Refusal) -> PackSaid:
    """An outcome as an operator may see it."""
    match outcome:
        case Refusal():
            return PackSaid(outcome="refused", step=outcome.step, reason=outcome.reason, message=outcome.message)
        case PackMade():
            return PackSaid(
                outcome="exported",
                pack_id=outcome.pack_id,
                device=outcome.to_device,
                partition=outcome.partition,
                rows=outcome.rows,
                left=outcome.left,
                digest=outcome.digest,
            )
        case PackTaken():
            return PackSaid(
                outcome="imported",
                pack_id=outcome.pack_id,
                device=outcome.from_device,
                partition=outcome.partition,
                rows=outcome.rows,
                enrolled=outcome.enrolled,
                enrolled_before=outcome.enrolled_before,
                left=outcome.refused,
                digest=outcome.digest,
            )


def carry_out(room: PackRoom, errand: Export | Import, file: BinaryIO, progress: Progress) -> PackSaid:
    """Export into a file, or import out of it."""
    if isinstance(errand, Import):
        return pack_said(import_pack(room, file, progress=progress))
    try:
        receiver = SealingKey.from_hex(errand.receiver) if errand.receiver else None
    except KeyFileError as error:
        return PackSaid(outcome="refused", step="template-pack", reason=PackReason.OTHER_KEY, message=str(error))
    return pack_said(export_pack(room, errand.order.encode(), file, receiver=receiver, progress=progress))


def pack_server(room: PackRoom, listener: socket.socket, settings: SocketSettings) -> Server:
    """Serves exports and imports over `listener` to the operator."""
    turn = threading.Lock()

    def serve(connection: socket.socket, _uid: int, _rights: frozenset[str]) -> None:
        with suppress(OSError, ValidationError):
            _serve(connection, room, turn)

    return Server(listener, rights_by_user(((settings.operator_user, frozenset({RIGHT})),)), serve, name=RIGHT)


def _serve(connection: socket.socket, room: PackRoom, turn: threading.Lock) -> None:
    """Carry out one errand. Raises: OSError, ValidationError: the peer has gone, or asked for something else."""
    asked, descriptors, _, _ = socket.recv_fds(connection, MAX_MESSAGE, 1)
    try:
        errand = _ASKED.validate_json(asked)
        if len(descriptors) != 1 or not stat.S_ISREG(os.fstat(descriptors[0]).st_mode):
            said = _NO_FILE
        elif not turn.acquire(blocking=False):
            said = _BUSY
        else:
            try:
                said = _worked(connection, room, errand, descriptors[0])
            finally:
                turn.release()
        connection.send(said.model_dump_json().encode())
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _worked(connection: socket.socket, room: PackRoom, errand: Export | Import, descriptor: int) -> PackSaid:
    own = os.dup(descriptor)
    with os.fdopen(own, "rb") if isinstance(errand, Import) else os.fdopen(own, "r+b") as file:
        return carry_out(room, errand, file, _saying(connection))


def _saying(connection: socket.socket) -> Progress:
    """Progress that is said now and then."""
    next_s = time.monotonic()

    def say(done: int, of: int) -> None:
        nonlocal next_s
        if time.monotonic() < next_s and done < of:
            return
        next_s = time.monotonic() + SAID_EVERY_S
        try:
            connection.send(PackProgress(done=done, of=of).model_dump_json().encode())
        except OSError as error:
            raise Abandoned from error

    return say


def ask_for_pack(
    path: Path, errand: Export | Import, descriptor: int, progress: Callable[[int, int], None]
) -> PackSaid:
    """Have the booth at `path` carry out an errand on an open file.

    Raises:
        BoothUnreachable: it is not there, or ended before it answered.
    """
    with line_to_booth(path, SILENCE_S) as booth:
        socket.send_fds(booth, [errand.model_dump_json().encode()], [descriptor])
        while True:
            answer = _ANSWER.validate_json(booth.recv(MAX_MESSAGE))
            if isinstance(answer, PackSaid):
                return answer
            progress(answer.done, answer.of)
