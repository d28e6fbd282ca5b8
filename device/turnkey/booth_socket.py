"""The booth's own socket: how `turnkey book`, `turnkey enrol-case` and the console reach it where it runs.

One request is one packet and has one answer (SOCK_SEQPACKET, JSON). The answer to `LOOK` is a `Glance`, a line end, and
then the preview's JPEG where there is one.

Rules kept here:
1. The answer is what an officer may see: "recorded", "enrolled" or why not. Never a candidate, never a lead.
2. One piece of work at a time: `turnkey.booth_desk` sees to it.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from turnkey.booth import CaseEnrolled, Recorded, Refusal
from turnkey.booth_desk import BoothDesk
from turnkey.booth_line import line_to_booth
from turnkey.console.room import Dark, Seen
from turnkey.interlock.peers import Server, rights_by_user
from turnkey.leads.records import Reference, Step
from turnkey.settings import SocketSettings

MAX_PACKET = 8192
ANSWER_TIMEOUT_S = 120.0
"""The first booking after a start loads the whole gallery."""
OFFICER_RIGHTS = frozenset({"book", "enrol-case"})
CONSOLE_RIGHTS = frozenset({"book", "look"})
LOOK = b"look"
MAX_GLANCE = 192 * 1024
"""A packet must fit into the socket's buffer (net.core.wmem_default, 208 KiB); a preview takes a quarter of it."""


class Errand(BaseModel):
    """What is asked of the booth. `number`: the booking's or the case's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ask: Literal["book", "enrol-case"]
    number: Reference


class Said(BaseModel):
    """What came of it. `step`, `reason` and `message` where it was refused, `stages_ms` where a booking was not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Literal["recorded", "enrolled", "refused"]
    number: str = ""
    step: Step | None = None
    reason: str = ""
    message: str = ""
    stages_ms: dict[str, float] = {}


class Glance(BaseModel):
    """What a look showed: see `turnkey.console.room.Seen` and `Dark`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dark: Literal["stopped", "busy", "camera", "booth-gone"] | None = None
    reason: str = ""
    advice: str = ""
    face: tuple[float, float, float, float] | None = None


NOT_PERMITTED = Said(outcome="refused", step="capture", reason="not-permitted", message="This user may not ask that.")


class BoothServer:
    """Serves a booth over `listener` to the operator, to the console, and to the booth's own user."""

    def __init__(self, desk: BoothDesk, listener: socket.socket, settings: SocketSettings) -> None:
        self._desk = desk
        rights = rights_by_user(
            (
                (settings.operator_user, OFFICER_RIGHTS),
                (settings.booth_user, OFFICER_RIGHTS),
                (settings.console_user, CONSOLE_RIGHTS),
            )
        )
        self._server = Server(listener, rights, self._serve, name="booth")

    def start(self) -> None:
        """Begin serving."""
        self._server.start()

    def is_alive(self) -> bool:
        """Whether it is being served."""
        return self._server.is_alive()

    def close(self, patience_s: float = 0.5) -> None:
        """Serve nobody any more; work under way has `patience_s` to say what came of it."""
        with self._desk.quiet(patience_s):
            self._server.close()

    def _serve(self, connection: socket.socket, _uid: int, rights: frozenset[str]) -> None:
        try:
            while packet := connection.recv(MAX_PACKET):
                if packet == LOOK:
                    connection.send(glance_packet(self._desk.look() if LOOK.decode() in rights else Dark("booth-gone")))
                    continue
                errand = Errand.model_validate_json(packet)
                said = self._run(errand) if errand.ask in rights else NOT_PERMITTED
                connection.send(said.model_dump_json().encode())
        except (OSError, ValidationError):
            return

    def _run(self, errand: Errand) -> Said:
        if errand.ask == "book":
            return said_of(self._desk.book(errand.number))
        return said_of(self._desk.enrol_case(errand.number))


def glance_packet(outcome: Seen | Dark) -> bytes:
    """What a look showed, as a packet."""
    if isinstance(outcome, Dark):
        return Glance(dark=outcome.cause, reason=outcome.reason).model_dump_json().encode() + b"\n"
    glance = Glance(advice=outcome.advice, face=outcome.face).model_dump_json().encode()
    return glance + b"\n" + outcome.jpeg


def unpack_glance(packet: bytes) -> Seen | Dark:
    """The opposite of `glance_packet`. Raises: ValidationError."""
    line, _, jpeg = packet.partition(b"\n")
    glance = Glance.model_validate_json(line)
    if glance.dark is not None:
        return Dark(glance.dark, glance.reason)
    return Seen(jpeg, glance.advice, glance.face)


def said_of(outcome: Recorded | CaseEnrolled | Refusal) -> Said:
    """An outcome as an officer may see it."""
    match outcome:
        case Refusal():
            return Said(outcome="refused", step=outcome.step, reason=outcome.reason, message=outcome.message)
        case CaseEnrolled():
            return Said(outcome="enrolled", number=outcome.case_number)
        case Recorded():
            stages = {name: round(spent, 2) for name, spent in outcome.stages_ms.items()}
            return Said(outcome="recorded", number=outcome.booking_number, stages_ms=stages)


def ask_booth(path: Path, errand: Errand, timeout_s: float = ANSWER_TIMEOUT_S) -> Said:
    """Ask the booth at `path`.

    Raises:
        BoothUnreachable: it is not there, or ended before it answered.
    """
    with line_to_booth(path, timeout_s) as booth:
        booth.send(errand.model_dump_json().encode())
        return Said.model_validate_json(booth.recv(MAX_PACKET))
