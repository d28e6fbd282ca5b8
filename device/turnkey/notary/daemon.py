"""The notary as a process of its own: the interlock's witness, and the only way for the booth's records to be signed.

Rules kept here, in the order in which they are enforced:
1. Who asks is known from the kernel, and gets what its user may have: the interlock witnesses, the booth submits,
   the updater (and an operator who updates by hand) says what it did.
2. What is no record of `turnkey.notary.wire` is refused; a stolen booth can emit nothing else.
3. Work is taken only under the run that the notary's own lease is of, and within the window that its capture, its
   import, its case packet or its template pack opened; a window that touches a stop is refused.
4. The notary's own permit is checked last, inside the transaction that keeps the record.
5. A stop and a record are put on the ledger one after the other, never at once: what stands behind a stop was asked
   behind it, and was refused.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from pydantic import BaseModel, ValidationError

from turnkey.database import StorageError
from turnkey.interlock.machine import State
from turnkey.interlock.peers import Rights, Server, rights_by_user
from turnkey.interlock.permit import Permit, Stopped
from turnkey.interlock.status import Transition
from turnkey.leads.records import Captured, Lead, PackAccepted, PacketAccepted, PictureImported
from turnkey.notary.journal import Journal
from turnkey.notary.notary import Notary
from turnkey.notary.window import Windows
from turnkey.notary.wire import (
    ASK,
    MAX_PACKET,
    Ask,
    AskEpoch,
    AskQuiet,
    AskRows,
    AskStanding,
    AskUnits,
    Attend,
    Certify,
    HandOver,
    Keep,
    KeepJudgement,
    Note,
    Quiet,
    RecordEvent,
    RecordHealth,
    RecordUpdate,
    RecordWork,
    Reply,
    Rows,
    SignPack,
    Standing,
    Submit,
    Units,
)
from turnkey.notary.witness import first_good_units, ledger_epoch, order_seen, since_capture_s, switch_changed
from turnkey.settings import SocketSettings

WITNESS_RIGHTS = frozenset({"epoch", "keep", "judged"})
UPDATE_RIGHTS = frozenset({"update", "quiet", "units"})
BOOTH_RIGHTS = frozenset({"work", "record", "submit", "hand_over", "attend", "certify", "rows", "pack"})
OPERATOR_RIGHTS = frozenset({"standing", "health"})
CONSOLE_RIGHTS = frozenset({"note", "standing"})


_BEGINNINGS = (Captured, PictureImported, PacketAccepted, PackAccepted)
"""What opens the window of a piece of work."""


class Gate(Protocol):
    """The notary's own lease."""

    def permit(self) -> Permit:
        """A live permit. Raises: Stopped."""
        ...


def rights_of(settings: SocketSettings) -> Rights:
    """User ids and what each may ask."""
    return rights_by_user(
        (
            (settings.interlock_user, WITNESS_RIGHTS),
            (settings.booth_user, BOOTH_RIGHTS),
            (settings.update_user, UPDATE_RIGHTS),
            (settings.operator_user, UPDATE_RIGHTS | OPERATOR_RIGHTS),
            (settings.console_user, CONSOLE_RIGHTS),
        )
    )


class NotaryDaemon:
    """Serves a notary over a socket.

    Args:
        notary, journal: the ledger, and who may write it.
        gate: the notary's own lease.
        listener: a listening SOCK_SEQPACKET socket.
        rights: what each user id may ask.
        failed: told, with a reason code, that the ledger cannot be written.
        standing: how ledger and policy stand.
    """

    def __init__(
        self,
        notary: Notary,
        journal: Journal,
        gate: Gate,
        listener: socket.socket,
        *,
        rights: Rights,
        failed: Callable[[str], None],
        standing: Callable[[], Standing],
    ) -> None:
        self._notary = notary
        self._journal = journal
        self._gate = gate
        self._failed = failed
        self._standing = standing
        self._windows = Windows()
        self._order = threading.Lock()
        self._server = Server(listener, rights, self._serve, name="notary")

    def start(self) -> None:
        """Begin serving."""
        self._server.start()

    def is_alive(self) -> bool:
        """Whether it is being served."""
        return self._server.is_alive()

    def close(self) -> None:
        """Serve nobody any more."""
        self._server.close()

    def _serve(self, connection: socket.socket, _uid: int, rights: frozenset[str]) -> None:
        try:
            while packet := connection.recv(MAX_PACKET):
                connection.send(self._answer(packet, rights))
        except OSError:
            return

    def _answer(self, packet: bytes, rights: frozenset[str]) -> bytes:
        try:
            ask = ASK.validate_json(packet)
        except ValidationError:
            return _packed(Reply(outcome="refused", reason="not-a-record", message="this is no record of the notary's"))
        if ask.ask not in rights:
            return _packed(Reply(outcome="refused", reason="not-permitted", message="this user may not ask that"))
        try:
            return self._carry_out(ask)
        except Stopped as stopped:
            return _packed(Reply(outcome="stopped", reason=stopped.reason))
        except ValidationError:
            return _packed(Reply(outcome="refused", reason="not-a-record", message="this is no lead of the notary's"))
        except StorageError as error:
            if not isinstance(ask, HandOver):  # a full outbox keeps a booth from capturing, and no more
                self._failed("ledger-unwritable")
            return _packed(Reply(outcome="storage", reason=error.reason, message=str(error)))

    def _carry_out(self, ask: Ask) -> bytes:
        lead: Lead | None = None
        match ask:
            case AskEpoch():
                return b'{"epoch": %d}' % ledger_epoch(self._journal)
            case Keep():
                self._keep(ask.transition)
                return b'{"kept": true}'
            case KeepJudgement():
                self._notary.record(order_seen(ask.judged))
                return b'{"kept": true}'
            case RecordWork():
                self._work(ask)
            case AskQuiet():
                return _packed(Quiet(since_capture_s=since_capture_s(self._journal, datetime.now(UTC))))
            case AskUnits():
                return _packed(Units(units=first_good_units(self._journal)))
            case RecordEvent() | RecordUpdate() | RecordHealth() | Note():
                self._notary.record(ask.event)
            case Submit():
                lead = self._submit(ask)
            case Certify():
                return _packed(Reply(outcome="done", receipt=self._notary.certify(ask.removal).decode()))
            case SignPack():
                return _packed(Reply(outcome="done", receipt=self._sign_pack(ask).decode()))
            case AskRows(partition=partition, after=after):
                known, rows = self._notary.tally(partition), self._notary.standing_rows(partition, after)
                answer = Rows(standing=known.standing, highest=known.highest, numbers=",".join(map(str, rows)))
                return _packed(Reply(outcome="done", rows=answer))
            case AskStanding():
                return _packed(self._standing())
            case HandOver():
                self._notary.hand_over()
            case Attend():
                pass
        return _packed(Reply(outcome="done", lead=lead))

    def _keep(self, transition: Transition) -> None:
        with self._order:
            if transition.state is not State.RUNNING:
                self._windows.stop(self._run())
            self._notary.record(switch_changed(transition))

    def _work(self, ask: RecordWork) -> None:
        run, event = bytes.fromhex(ask.run), ask.event
        with self._order:
            permit = self._gate.permit()
            self._windows.admit(run, permit)
            if not isinstance(event, _BEGINNINGS):
                self._windows.check(event.attempt_id, run)
            self._notary.record(event, permit)
            if isinstance(event, _BEGINNINGS):
                self._windows.open(event.attempt_id, run)

    def _submit(self, ask: Submit) -> Lead:
        run = bytes.fromhex(ask.run)
        with self._order:
            permit = self._gate.permit()
            self._windows.admit(run, permit)
            self._windows.check(ask.draft.attempt_id, run)
            return self._notary.submit(ask.draft, permit)

    def _sign_pack(self, ask: SignPack) -> bytes:
        with self._order:
            permit = self._gate.permit()
            self._windows.admit(bytes.fromhex(ask.run), permit)
            return self._notary.sign_pack(ask.draft, permit)

    def _run(self) -> bytes | None:
        try:
            return self._gate.permit().run
        except Stopped:
            return None


def _packed(reply: BaseModel) -> bytes:
    return reply.model_dump_json().encode()
