"""The ledger as the updater has it: three questions at the notary's socket."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from turnkey.interlock.lease import connect
from turnkey.leads.upkeep import HealthChecked, Updated
from turnkey.notary.wire import MAX_PACKET, AskQuiet, AskUnits, Quiet, RecordHealth, RecordUpdate, Reply, Units
from turnkey.update.refusals import UpdateError, UpdateReason

ANSWER_TIMEOUT_S = 10.0
"""An fsync on a worn card takes half a second; a booking's records may stand before it."""

Answer = TypeVar("Answer", bound=BaseModel)


class Ledger(Protocol):
    """Where each step of an update is put before the next one is taken."""

    def record(self, event: Updated | HealthChecked) -> None:
        """Append; on disk when this returns. Raises: UpdateError."""
        ...

    def since_capture_s(self) -> float | None:
        """Seconds since the last picture was taken; None where none ever was. Raises: UpdateError."""
        ...

    def first_good_units(self) -> dict[str, str] | None:
        """What the first good examination found. Raises: UpdateError."""
        ...


class NotarySocket:
    """The ledger behind the notary's socket."""

    def __init__(self, path: Path, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def record(self, event: Updated | HealthChecked) -> None:
        """As the protocol's."""
        if isinstance(event, HealthChecked):
            reply = self._ask(RecordHealth(ask="health", event=event), Reply)
        else:
            reply = self._ask(RecordUpdate(ask="update", event=event), Reply)
        if reply.outcome != "done":
            raise UpdateError(
                UpdateReason.NO_LEDGER, f"the notary refuses the record ({reply.reason}): {reply.message}"
            )

    def since_capture_s(self) -> float | None:
        """As the protocol's."""
        return self._ask(AskQuiet(ask="quiet"), Quiet).since_capture_s

    def first_good_units(self) -> dict[str, str] | None:
        """As the protocol's."""
        return self._ask(AskUnits(ask="units"), Units).units

    def _ask(self, question: BaseModel, form: type[Answer]) -> Answer:
        try:
            with connect(self._path) as connection:
                connection.settimeout(self._timeout_s)
                connection.send(question.model_dump_json().encode())
                return form.model_validate_json(connection.recv(MAX_PACKET))
        except (OSError, ValidationError) as error:
            raise UpdateError(UpdateReason.NO_LEDGER, f"the notary does not answer: {error}") from error
