"""What the ledger says of the interlock: its transitions as entries, and the epoch they have reached."""

from __future__ import annotations

from turnkey.interlock.status import Transition
from turnkey.leads.records import LedgerEntry, SwitchChanged
from turnkey.notary.journal import Journal


def switch_changed(transition: Transition) -> SwitchChanged:
    """A transition as it goes onto the ledger."""
    reading = transition.reading
    return SwitchChanged(
        previous=transition.previous.value,
        state=transition.state.value,
        reason=transition.reason,
        channel_a=reading.channel_a if reading else None,
        channel_b=reading.channel_b if reading else None,
        epoch=transition.epoch,
    )


def ledger_epoch(journal: Journal) -> int:
    """The highest epoch on the ledger, 0 where there is none."""
    newest = journal.last("switch")
    if newest is None:
        return 0
    event = LedgerEntry.model_validate_json(newest).event
    return event.epoch if isinstance(event, SwitchChanged) else 0
