"""The notary, as the booth has it where the notary is a process of its own.

Rules kept here:
1. An answer that does not come, or is none, is a ledger that cannot be written: the booth goes no further.
2. A permit that died meanwhile refuses before anything is sent; the notary's own permit is the last word.
3. `present` is known from a connection that is held open and on which the notary is asked each `PULSE_S`: a killed one
   ends it at once, a hung one is silent, and after `silence_s` is taken for gone.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from turnkey.database import StorageError
from turnkey.interlock.lease import connect
from turnkey.interlock.permit import Permit, Stopped
from turnkey.leads.receipts import Removal
from turnkey.leads.records import (
    Captured,
    Discarded,
    Enrolled,
    Event,
    Expunged,
    Lead,
    PackAccepted,
    PackEnrolled,
    PacketAccepted,
    PacketPresented,
    PackImported,
    PackPresented,
    Partition,
    PictureImported,
    Refused,
    Searched,
    TamperFound,
)
from turnkey.leads.template_pack import PackDraft
from turnkey.notary.journal import Tally
from turnkey.notary.notary import LeadDraft
from turnkey.notary.wire import (
    MAX_PACKET,
    AskRows,
    AskStanding,
    Certify,
    HandOver,
    RecordEvent,
    RecordWork,
    Reply,
    Rows,
    SignPack,
    Standing,
    Submit,
)

ANSWER_TIMEOUT_S = 5.0
"""An fsync on a worn card takes half a second, a lock on the outbox at most as long as this."""
RETRY_S = 0.1
PULSE_S = 0.2
SILENCE_S = 1.0

_BEHIND_ALL = 2**53 - 1

_REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)


class NotaryGone(StorageError):
    """The notary does not answer: nothing can be put on record."""


class NotaryClient:
    """Records and submits at the notary at `path`. Its methods may be called from any thread."""

    def __init__(self, path: Path, timeout_s: float = ANSWER_TIMEOUT_S, *, silence_s: float = SILENCE_S) -> None:
        self._path = path
        self._silence_s = silence_s
        self._timeout_s = timeout_s
        self._present = threading.Event()
        self._closing = threading.Event()
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._attend, name="notary-presence", daemon=True)

    def start(self) -> Self:
        """Begin to hold a connection open."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Hold it no longer. Safe to call twice."""
        self._closing.set()
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    @property
    def present(self) -> bool:
        """Whether the notary's process is there."""
        return self._present.is_set()

    def record(self, event: Event, permit: Permit | None = None) -> None:
        """Append one event; on the notary's disk when this returns.

        Raises:
            Stopped: a stop lies between the event's capture and now; nothing was kept.
            StorageError: the ledger cannot be written, or the notary is gone.
        """
        match event:
            case (
                Captured()
                | PictureImported()
                | PacketAccepted()
                | Searched()
                | Enrolled()
                | PackAccepted()
                | PackEnrolled()
            ):
                if permit is None:
                    raise Stopped("no-permit")
                with permit.commit():
                    self._ask(RecordWork(ask="work", event=event, run=permit.run.hex()))
            case (
                PacketPresented()
                | PackPresented()
                | PackImported()
                | Refused()
                | Discarded()
                | Expunged()
                | TamperFound()
            ):
                with permit.commit() if permit else nullcontext():
                    self._ask(RecordEvent(ask="record", event=event))
            case _:
                raise StorageError("not-permitted", f"the notary records {event.kind} itself")

    def submit(self, draft: LeadDraft, permit: Permit) -> Lead:
        """Have a lead signed.

        Raises:
            as `record`.
        """
        with permit.commit():
            reply = self._ask(Submit.model_validate({"ask": "submit", "draft": asdict(draft), "run": permit.run.hex()}))
        if reply.lead is None:
            raise NotaryGone("notary-answers-nonsense", "the notary signed no lead and does not say why")
        return reply.lead

    def certify(self, removal: Removal) -> bytes:
        """Put an expungement on the ledger; returns its signed receipt. Raises: StorageError."""
        return self._ask(Certify(ask="certify", removal=removal)).receipt.encode()

    def sign_pack(self, draft: PackDraft, permit: Permit) -> bytes:
        """Put an export of templates on the ledger; returns its manifest, signed. Raises: as `record`."""
        with permit.commit():
            return self._ask(SignPack(ask="pack", draft=draft, run=permit.run.hex())).receipt.encode()

    def tally(self, partition: Partition) -> Tally:
        """What the ledger says of a partition of the gallery. Raises: StorageError."""
        known = self._rows(partition, _BEHIND_ALL)
        return Tally(known.standing, known.highest)

    def standing_rows(self, partition: Partition, after: int) -> list[int]:
        """Rows that stand on the ledger, rising, some of those above `after`; none: that was all."""
        numbers = self._rows(partition, after).numbers
        return [int(number) for number in numbers.split(",")] if numbers else []

    def _rows(self, partition: Partition, after: int) -> Rows:
        rows = self._ask(AskRows(ask="rows", partition=partition, after=after)).rows
        if rows is None:
            raise NotaryGone("notary-answers-nonsense", "the notary does not say which rows it holds")
        return rows

    def hand_over(self) -> None:
        """Have the notary give the outbox what it has not confirmed. Raises: StorageError."""
        self._ask(HandOver(ask="hand_over"))

    def _ask(self, ask: Any) -> Reply:
        try:
            with connect(self._path) as connection:
                connection.settimeout(self._timeout_s)
                connection.send(ask.model_dump_json().encode())
                reply = _REPLY.validate_json(connection.recv(MAX_PACKET))
        except (OSError, ValidationError) as error:
            raise NotaryGone("notary-gone", f"the notary does not answer: {error}") from error
        if reply.outcome == "stopped":
            raise Stopped(reply.reason)
        if reply.outcome != "done":
            raise StorageError(reply.reason, reply.message)
        return reply

    def _attend(self) -> None:
        while not self._closing.is_set():
            try:
                with connect(self._path) as connection:
                    self._connection = connection
                    while self._answers(connection):
                        self._present.set()
            except (OSError, ValidationError):
                pass
            finally:
                self._present.clear()
                self._connection = None
            self._closing.wait(RETRY_S)

    def _answers(self, connection: socket.socket) -> bool:
        """Ask once whether the notary is there, and wait until it is to be asked again. False where it is gone."""
        connection.settimeout(self._silence_s)
        connection.send(b'{"ask": "attend"}')
        if _REPLY.validate_json(connection.recv(MAX_PACKET)).outcome != "done":
            return False
        connection.settimeout(PULSE_S)
        with contextlib.suppress(TimeoutError):
            connection.recv(MAX_PACKET)
            return False
        return not self._closing.is_set()


def ask_standing(path: Path, timeout_s: float = ANSWER_TIMEOUT_S) -> Standing | None:
    """How ledger and policy stand, by the notary at `path`; None where it does not answer, or not this user."""
    try:
        with connect(path) as connection:
            connection.settimeout(timeout_s)
            connection.send(AskStanding(ask="standing").model_dump_json().encode())
            return Standing.model_validate_json(connection.recv(MAX_PACKET))
    except (OSError, ValidationError):
        return None
