"""The way through a booking: one table, no clock, no I/O.

Theory of operation
-------------------
An officer gives a booking number, takes the frontal picture, and is told "recorded" or what to redo. A refused
picture is taken again, as often as it takes; where the quality floor cannot be met, the reason why there is no picture
is put on the ledger instead. Cancelling is possible everywhere before something is on record.

A stop is no state of this table: while recognition is stopped every state but `NOTED` is shown as the stopped screen
(`Page.STOPPED`), which offers the one event that needs no recognition, `NOTE_KEPT`. So an officer is where they were
when the city lets the device run again.

A pair that the table does not hold is a button of an old page that was pressed late: the console shows the page that
holds now, and nothing happens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Screen(StrEnum):
    """Where in a booking an officer is."""

    NUMBER = "number"
    CAMERA = "camera"
    REFUSED = "refused"
    RECORDED = "recorded"
    REASON = "reason"
    NOTED = "noted"


class Page(StrEnum):
    """What is shown: a screen of the booking, or what takes its place."""

    SIGN_IN = "sign-in"
    LOCKED = "locked"
    STOPPED = "stopped"
    NUMBER = "number"
    CAMERA = "camera"
    REFUSED = "refused"
    RECORDED = "recorded"
    REASON = "reason"
    NOTED = "noted"


class Event(StrEnum):
    """What can happen in a booking."""

    NUMBER_GIVEN = "number-given"
    PICTURE_RECORDED = "picture-recorded"
    PICTURE_REFUSED = "picture-refused"
    RETAKE = "retake"
    GIVE_UP = "give-up"
    NOTE_KEPT = "note-kept"
    CANCEL = "cancel"
    NEXT = "next"


_N, _C, _F, _R, _W, _D = (
    Screen.NUMBER,
    Screen.CAMERA,
    Screen.REFUSED,
    Screen.RECORDED,
    Screen.REASON,
    Screen.NOTED,
)

TABLE: Final = MappingProxyType(
    {
        (_N, Event.NUMBER_GIVEN): _C,
        (_N, Event.NOTE_KEPT): _D,
        (_C, Event.PICTURE_RECORDED): _R,
        (_C, Event.PICTURE_REFUSED): _F,
        (_C, Event.GIVE_UP): _W,
        (_C, Event.NOTE_KEPT): _D,
        (_C, Event.CANCEL): _N,
        (_F, Event.RETAKE): _C,
        (_F, Event.GIVE_UP): _W,
        (_F, Event.NOTE_KEPT): _D,
        (_F, Event.CANCEL): _N,
        (_W, Event.RETAKE): _C,
        (_W, Event.NOTE_KEPT): _D,
        (_W, Event.CANCEL): _N,
        (_R, Event.NEXT): _N,
        (_R, Event.NOTE_KEPT): _D,
        (_D, Event.NEXT): _N,
    }
)


@dataclass(frozen=True)
class Visit:
    """One person at the desk.

    Attributes:
        screen: where the booking is.
        number: the booking's; empty before it is given.
        refusals: pictures refused so far.
        reason: the last refusal's code; empty where the last picture was not refused.
        step: the step that refused.
    """

    screen: Screen = Screen.NUMBER
    number: str = ""
    refusals: int = 0
    reason: str = ""
    step: str = ""


def permits(visit: Visit, event: Event) -> bool:
    """Whether the event can happen now."""
    return (visit.screen, event) in TABLE


def after(visit: Visit, event: Event, *, number: str = "", reason: str = "", step: str = "") -> Visit:
    """The visit after an event; the same visit where the event cannot happen now.

    Args:
        number: with `NUMBER_GIVEN` and `NOTE_KEPT`.
        reason, step: with `PICTURE_REFUSED`.
    """
    screen = TABLE.get((visit.screen, event))
    if screen is None:
        return visit
    if screen is Screen.NUMBER:
        return Visit()
    match event:
        case Event.NUMBER_GIVEN:
            return Visit(screen, number)
        case Event.PICTURE_REFUSED:
            return replace(visit, screen=screen, refusals=visit.refusals + 1, reason=reason, step=step)
        case Event.NOTE_KEPT:
            return replace(visit, screen=screen, number=number, reason="", step="")
        case _:
            return replace(visit, screen=screen)


def page(visit: Visit | None, *, locked: bool, running: bool) -> Page:
    """What is shown.

    Args:
        visit: None where nobody is signed in.
        locked: the session waits for its PIN.
        running: the interlock permits recognition.
    """
    if visit is None:
        return Page.SIGN_IN
    if locked:
        return Page.LOCKED
    if not running and visit.screen is not Screen.NOTED:
        return Page.STOPPED
    return Page(visit.screen.value)
