"""The interlock's state machine: one table, no clock, no I/O.

Theory of operation
-------------------
Recognition runs in one state, `RUNNING`. Every other state is a stop:

* `BOOTING`: the process has started, or lost sight of its inputs, and has not yet seen that everything holds. It is
  left for `RUNNING` only where the latch on disk says that nothing was stopped, and both channels have been closed for
  the whole of the debounce: a power cut does not start what was stopped, nor stop what was not.
* `MORATORIUM`: somebody stopped it, with the key or with an order. Also where a device is fresh from the image.
* `FAULT`: what the interlock sees cannot be trusted, or what happens cannot be recorded.

`MORATORIUM` and `FAULT` are latched. There is one way out of both, the event `RELEASED`, and whoever raises it has
checked all of this first: the signatures of the release order reach their threshold, it names this device, this epoch
and this stop, it was never used, it lifts every standing order, both channels are stably closed and no fault is
present.

A pair that the table does not hold is a fault of the program; `step` raises, and the process stops with its leases.

What each effect means, and why they come in this order:

* `REVOKE`: kill the permit and wipe the gallery key. It comes first in every stop, before even the latch, because it
  only ever takes permission away and must not wait for a disk.
* `LATCH`: the new state is on disk. It comes before anything that anyone outside could rely on. The epoch grows with
  each stop, and with each cause that is added to one.
* `LAMP`: the lamp shows the state. In a stop it goes out before anybody is waited for; in a start it is lit late.
* `WITNESS`: whatever was being stored under the old permit is waited for, but not long; then the transition goes to the
  ledger. Where that fails, the event `FAULT_FOUND` follows.
* `GRANT`: permits may be had. Always last: the release is on disk and on the ledger before anything runs.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple


class State(StrEnum):
    """Where the interlock is. Only `RUNNING` permits anything."""

    BOOTING = "BOOTING"
    RUNNING = "RUNNING"
    MORATORIUM = "MORATORIUM"
    FAULT = "FAULT"


class Event(StrEnum):
    """What can happen to it."""

    FOUND_STOPPED = "found-stopped"  # the latch says moratorium, or is missing, corrupt or too old
    FOUND_FAULTED = "found-faulted"  # the latch says fault
    CONDITIONS_HOLD = "conditions-hold"  # latch released, no standing order, both channels stably closed
    KEY_OPENED = "key-opened"  # the first opening of either channel
    STOP_ORDERED = "stop-ordered"  # a signed moratorium order was accepted
    FAULT_FOUND = "fault-found"  # the switch, the relay, the clock, the latch or the ledger cannot be trusted
    LATCH_DISBELIEVED = "latch-disbelieved"  # the ledger knows a later stop, or the file is not what was written
    RELEASED = "released"  # a signed release order was accepted
    AUTHORITY_FOLLOWED = "authority-followed"  # a successor of the authority was accepted
    WATCH_LOST = "watch-lost"  # the inputs went unread for longer than a lease is valid
    CLOSING_DOWN = "closing-down"  # the process is told to end


class Effect(StrEnum):
    """What a transition does, carried out in the order given."""

    REVOKE = "revoke"
    LATCH = "latch"
    WITNESS = "witness"
    LAMP = "lamp"
    GRANT = "grant"


class Outcome(NamedTuple):
    """The state after an event, and what has to be done on the way."""

    state: State
    effects: tuple[Effect, ...]


STOP: Final = (Effect.REVOKE, Effect.LATCH, Effect.LAMP, Effect.WITNESS)
PAUSE: Final = (Effect.REVOKE, Effect.LAMP, Effect.WITNESS)
START: Final = (Effect.LATCH, Effect.WITNESS, Effect.LAMP, Effect.GRANT)
NOTE: Final = (Effect.LATCH, Effect.WITNESS)
SHOW: Final = (Effect.LAMP, Effect.WITNESS)
NOTHING: Final[tuple[Effect, ...]] = ()

_B, _R, _M, _F = State.BOOTING, State.RUNNING, State.MORATORIUM, State.FAULT

TABLE: Final = MappingProxyType(
    {
        (_B, Event.FOUND_STOPPED): Outcome(_M, (Effect.LATCH, *SHOW)),
        (_B, Event.FOUND_FAULTED): Outcome(_F, (Effect.LATCH, *SHOW)),
        (_B, Event.CONDITIONS_HOLD): Outcome(_R, START),
        (_B, Event.KEY_OPENED): Outcome(_M, STOP),
        (_B, Event.STOP_ORDERED): Outcome(_M, STOP),
        (_B, Event.FAULT_FOUND): Outcome(_F, STOP),
        (_B, Event.LATCH_DISBELIEVED): Outcome(_M, STOP),
        (_B, Event.AUTHORITY_FOLLOWED): Outcome(_B, NOTE),
        (_B, Event.WATCH_LOST): Outcome(_B, NOTHING),
        (_B, Event.CLOSING_DOWN): Outcome(_B, NOTHING),
        (_R, Event.KEY_OPENED): Outcome(_M, STOP),
        (_R, Event.STOP_ORDERED): Outcome(_M, STOP),
        (_R, Event.FAULT_FOUND): Outcome(_F, STOP),
        (_R, Event.LATCH_DISBELIEVED): Outcome(_M, STOP),
        (_R, Event.AUTHORITY_FOLLOWED): Outcome(_R, NOTE),
        (_R, Event.WATCH_LOST): Outcome(_B, PAUSE),
        (_R, Event.CLOSING_DOWN): Outcome(_B, PAUSE),
        (_M, Event.KEY_OPENED): Outcome(_M, NOTHING),
        (_M, Event.STOP_ORDERED): Outcome(_M, NOTE),
        (_M, Event.FAULT_FOUND): Outcome(_F, STOP),
        (_M, Event.LATCH_DISBELIEVED): Outcome(_M, NOTE),
        (_M, Event.RELEASED): Outcome(_R, START),
        (_M, Event.AUTHORITY_FOLLOWED): Outcome(_M, NOTE),
        (_M, Event.WATCH_LOST): Outcome(_M, NOTHING),
        (_M, Event.CLOSING_DOWN): Outcome(_M, NOTHING),
        (_F, Event.KEY_OPENED): Outcome(_F, NOTHING),
        (_F, Event.STOP_ORDERED): Outcome(_F, NOTE),
        (_F, Event.FAULT_FOUND): Outcome(_F, NOTE),
        (_F, Event.LATCH_DISBELIEVED): Outcome(_F, NOTE),
        (_F, Event.RELEASED): Outcome(_R, START),
        (_F, Event.AUTHORITY_FOLLOWED): Outcome(_F, NOTE),
        (_F, Event.WATCH_LOST): Outcome(_F, NOTHING),
        (_F, Event.CLOSING_DOWN): Outcome(_F, NOTHING),
    }
)


class ImpossibleEvent(RuntimeError):
    """An event that cannot happen in this state: the program around the table is wrong."""


def step(state: State, event: Event) -> Outcome:
    """Look the transition up.

    Raises:
        ImpossibleEvent: the table does not hold the pair.
    """
    try:
        return TABLE[state, event]
    except KeyError:
        raise ImpossibleEvent(f"{event} in {state}") from None


def diagram() -> str:
    """The table as a Mermaid state diagram: what systemd/README.md shows, and a test holds it to."""
    lines = ["stateDiagram-v2", "    [*] --> BOOTING"]
    for (state, event), (after, effects) in TABLE.items():
        if after is not state:
            lines.append(f"    {state} --> {after}: {event} / {', '.join(effects)}")
    return "\n".join(lines) + "\n"
