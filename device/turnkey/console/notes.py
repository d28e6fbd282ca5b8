"""The console's words to the notary: why a booking has no picture, and that the policy kept an officer out.

Rules kept here:
1. The console may write these two and nothing else there (`turnkey.notary.daemon.CONSOLE_RIGHTS`).
2. No answer is a no: an officer is told that nothing was noted, and tries again.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from turnkey.interlock.lease import connect
from turnkey.leads.records import NotCaptured, SignInRefused
from turnkey.notary.wire import MAX_PACKET, Note, Reply

ANSWER_TIMEOUT_S = 5.0

_REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)


def send_note(notary: Path, note: NotCaptured | SignInRefused) -> str:
    """Put the note on the ledger of the notary that listens at `notary`. Empty, or a reason code for why it is not."""
    try:
        with connect(notary) as connection:
            connection.settimeout(ANSWER_TIMEOUT_S)
            connection.send(Note(ask="note", event=note).model_dump_json().encode())
            reply = _REPLY.validate_json(connection.recv(MAX_PACKET))
    except (OSError, ValidationError):
        return "notary-gone"
    return "" if reply.outcome == "done" else reply.reason
