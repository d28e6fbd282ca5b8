"""The records of how a device stands: its boots, its switch, its heartbeats, the orders that it was shown. None speaks
of a person; the first three may be published. The rules are those of `records.py`.

This room does no I/O.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from turnkey.leads.fields import AttemptId, InterlockState, ReasonCode, Record, Sha256


class Boot(Record):
    """The notary started. `models` maps model names to the SHA-256 of their files."""

    kind: Literal["boot"] = "boot"
    software: str
    models: dict[str, Sha256]


class SwitchChanged(Record):
    """The interlock went from one state to another (or looked again and stayed, with a new reason).

    `order_id` names the order that caused it, where one did.
    """

    kind: Literal["switch"] = "switch"
    previous: InterlockState
    state: InterlockState
    reason: ReasonCode
    channel_a: bool | None
    channel_b: bool | None
    epoch: Annotated[int, Field(ge=0)]
    order_id: AttemptId | None = None


class Heartbeat(Record):
    """The device is there, and this is how it stands. Counts and codes only.

    Attributes:
        software: version.
        state, reason, epoch: of the interlock.
        channel_a, channel_b, relay_closed: the lines as last read; None where they cannot be.
        policy: `in-force`, or why there is none.
        leads_waiting: signed leads that the broker has not taken.
        uptime_s: since the notary's start, whole seconds.
        sequence: 1, 2, 3, ... since the boot, so that a beat that was left out shows; 0 in a statement before the
            notary put it on the ledger.
        captures, searches, leads: how many of these the ledger holds since the boot.
        models: model names and the SHA-256 of their files, as the boot named them.
    """

    kind: Literal["heartbeat"] = "heartbeat"
    software: str
    state: InterlockState
    reason: ReasonCode
    epoch: Annotated[int, Field(ge=0)]
    channel_a: bool | None
    channel_b: bool | None
    relay_closed: bool | None
    policy: ReasonCode
    leads_waiting: Annotated[int, Field(ge=0)]
    uptime_s: Annotated[int, Field(ge=0)]
    sequence: Annotated[int, Field(ge=0)] = 0
    captures: Annotated[int, Field(ge=0)] = 0
    searches: Annotated[int, Field(ge=0)] = 0
    leads: Annotated[int, Field(ge=0)] = 0
    models: dict[str, Sha256] = Field(default_factory=dict)


class OrderSeen(Record):
    """An order was presented: accepted or refused.

    Attributes:
        order_digest: SHA-256 of the file, so that a copy kept elsewhere can be held against this entry.
        act, order_id: of an accepted order: what it did, and its name, which the change of state that it caused bears.
    """

    kind: Literal["order"] = "order"
    accepted: bool
    reason: ReasonCode
    order_digest: Sha256
    act: Literal["moratorium", "release", "authority"] | None = None
    order_id: AttemptId | None = None
