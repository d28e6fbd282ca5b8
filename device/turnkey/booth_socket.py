"""The booth's own socket: how `turnkey book` and `turnkey enrol-case` (later the console) reach it where it runs.

One request is one packet and has one answer (SOCK_SEQPACKET, JSON).

Rules kept here:
1. The answer is what an officer may see: "recorded", "enrolled" or why not. Never a candidate, never a lead.
2. One piece of work at a time: there is one camera. Whoever asks meanwhile is told so, and nothing is queued.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from turnkey.booth import Booth, CaseEnrolled, Recorded, Refusal
from turnkey.interlock.lease import connect
from turnkey.interlock.peers import Server, rights_by_user
from turnkey.leads.records import Reference, Step
from turnkey.settings import SocketSettings

MAX_PACKET = 8192
ANSWER_TIMEOUT_S = 120.0
"""The first booking after a start loads the whole gallery."""
OFFICER_RIGHTS = frozenset({"book", "enrol-case"})


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


class BoothUnreachable(Exception):
    """The booth does not answer; the message says what to do."""


class BoothServer:
    """Serves a booth over `listener` to the operator and to the booth's own user (the console)."""

    def __init__(self, booth: Booth, listener: socket.socket, settings: SocketSettings) -> None:
        self._booth = booth
        self._busy = threading.Lock()
        rights = rights_by_user((user, OFFICER_RIGHTS) for user in (settings.operator_user, settings.booth_user))
        self._server = Server(listener, rights, self._serve, name="booth")

    def start(self) -> None:
        """Begin serving."""
        self._server.start()

    def is_alive(self) -> bool:
        """Whether it is being served."""
        return self._server.is_alive()

    def close(self, patience_s: float = 0.5) -> None:
        """Serve nobody any more; work under way has `patience_s` to say what came of it."""
        if self._busy.acquire(timeout=patience_s):
            self._busy.release()
        self._server.close()

    def _serve(self, connection: socket.socket, _uid: int, rights: frozenset[str]) -> None:
        try:
            while packet := connection.recv(MAX_PACKET):
                errand = Errand.model_validate_json(packet)
                if errand.ask not in rights or not self._busy.acquire(blocking=False):
                    said = Said(outcome="refused", step="capture", reason="booth-busy", message="The booth is busy.")
                    connection.send(said.model_dump_json().encode())
                    continue
                try:
                    connection.send(self._run(errand).model_dump_json().encode())
                finally:
                    self._busy.release()
        except (OSError, ValidationError):
            return

    def _run(self, errand: Errand) -> Said:
        if errand.ask == "book":
            return said_of(self._booth.book(errand.number))
        return said_of(self._booth.enrol_case(errand.number))


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
    try:
        with connect(path) as connection:
            connection.settimeout(timeout_s)
            connection.send(errand.model_dump_json().encode())
            return Said.model_validate_json(connection.recv(MAX_PACKET))
    except (OSError, ValidationError) as error:
        raise BoothUnreachable(
            f"the booth does not answer at {path} ({error or type(error).__name__}): recognition is stopped, "
            "or its process has ended"
        ) from error
