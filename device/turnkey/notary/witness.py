"""What the ledger says to those who ask: the interlock's epoch, the last capture, the first good units."""

from __future__ import annotations

from datetime import datetime

from turnkey.interlock.orders import Judged
from turnkey.interlock.status import Transition
from turnkey.leads.records import HealthChecked, LedgerEntry, OrderSeen, SwitchChanged
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
        order_id=transition.order_id,
    )


def order_seen(judged: Judged) -> OrderSeen:
    """What became of an order, or of a successor of the authority, as it goes onto the ledger."""
    return OrderSeen(
        accepted=judged.accepted,
        reason=judged.reason,
        order_digest=judged.digest,
        act=judged.act,
        order_id=judged.order_id,
    )


def ledger_epoch(journal: Journal) -> int:
    """The highest epoch on the ledger, 0 where there is none."""
    newest = journal.last("switch")
    if newest is None:
        return 0
    event = LedgerEntry.model_validate_json(newest).event
    return event.epoch if isinstance(event, SwitchChanged) else 0


def since_capture_s(journal: Journal, now: datetime) -> float | None:
    """Seconds from the newest capture to `now` (UTC), never below 0; None where nothing was ever captured."""
    newest = journal.last("capture")
    if newest is None:
        return None
    return max(0.0, (now - LedgerEntry.model_validate_json(newest).at).total_seconds())


def first_good_units(journal: Journal) -> dict[str, str] | None:
    """The units that the device's first good examination of itself found: what later ones are held against."""
    for data in journal.of_kind("health"):
        event = LedgerEntry.model_validate_json(data).event
        if isinstance(event, HealthChecked) and event.passed:
            return event.units
    return None
