"""What the interlock tells others: each transition to its witness, its present status to whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from turnkey.interlock.latch import StandingOrder
from turnkey.interlock.machine import Event, State
from turnkey.interlock.switch import SwitchReading


@dataclass(frozen=True)
class Transition:
    """One change, as the witness (the ledger) gets it.

    Attributes:
        previous: state before.
        state: state after; the same where an order, a fault or an authority was added to what holds.
        event: what happened.
        reason: code of the cause, finer than the event.
        epoch: of the stop that holds, or that was released.
        monotonic_ns: when.
        utc: when, by the wall clock.
        reading: the lines as last read; None where they could not be.
        order_id: the order that caused it, if one did.
    """

    previous: State
    state: State
    event: Event
    reason: str
    epoch: int
    monotonic_ns: int
    utc: datetime
    reading: SwitchReading | None
    order_id: str | None


class InterlockStatus(BaseModel):
    """What the device shows of itself: `turnkey status`, the console, the attestation. No personal data.

    Attributes:
        state, reason, since, epoch: of the present state.
        channel_a, channel_b, relay_closed: the lines as last read; None where they cannot be.
        key_closed: both channels closed for the whole debounce.
        fault: what now stands in the way of running beside the key: `switch-unreadable`, `channels-disagree`,
            `clock-unset`, ...; a latched fault that has gone is only in `reason`.
        standing: orders in force.
        challenge: what a release order must name.
        authority_version: of the authority whose orders hold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    device_id: str
    state: State
    reason: str
    since: datetime
    epoch: int
    channel_a: bool | None
    channel_b: bool | None
    relay_closed: bool | None
    key_closed: bool
    fault: str | None
    standing: tuple[StandingOrder, ...]
    challenge: str
    authority_version: int
