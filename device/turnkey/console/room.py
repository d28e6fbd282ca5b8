"""What the console asks of the device, and what it is told: the port between this room and everything before it.

Two adapters: `turnkey.console_rooms.LocalRoom` (all rooms in one process) and `RemoteRoom` (each in its own, over their
sockets). tests/console books, stops and notes through both.

Rules kept here:
1. What comes back is what an officer may see. No answer has a candidate, a score or a name in it.
2. Nothing here raises for what can happen on a normal night: a stop, a lost camera and a booth that is gone are values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, Protocol, runtime_checkable

from turnkey.interlock.machine import State
from turnkey.interlock.status import InterlockStatus
from turnkey.leads.records import NotCaptured, SignInRefused


@dataclass(frozen=True)
class Seen:
    """A preview picture and the one thing to do about it.

    Attributes:
        jpeg: the picture, upright.
        advice: a code with words in every language; `good` where a press of the shutter should succeed.
        face: left, top, width and height of the face as shares of the picture, 0 to 1; None where there is not one.
    """

    jpeg: bytes
    advice: str
    face: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Dark:
    """No preview picture, and why: `stopped`, `busy` (a picture is being taken), `camera`, or `booth-gone`."""

    cause: Literal["stopped", "busy", "camera", "booth-gone"]
    reason: str = ""


@dataclass(frozen=True)
class Answer:
    """What came of a picture. `step` and `reason` where it was refused."""

    recorded: bool
    step: str = ""
    reason: str = ""


@dataclass(frozen=True)
class PolicyState:
    """What the console needs of the policy.

    Attributes:
        refusal: why there is none in force; empty where there is one.
        booking_number_format: regular expression for a whole booking number.
        training_days: how long an officer's training counts.
        until: when it ends.
    """

    refusal: str = ""
    booking_number_format: str = ""
    training_days: int = 0
    until: datetime | None = None

    def permits(self, booking_number: str) -> bool:
        """Whether this is a booking number of the agency's form. Without a policy none is."""
        return not self.refusal and re.fullmatch(self.booking_number_format, booking_number) is not None

    def training_counts(self, trained_on: date, today: date) -> bool:
        """Whether a training of `trained_on` counts on `today`. Without a policy none does."""
        return timedelta() <= today - trained_on < timedelta(days=self.training_days)


@dataclass(frozen=True)
class Health:
    """How the device stands, for the status page.

    Attributes:
        software: version.
        leads_waiting: signed messages that the broker has not taken; None where that cannot be told.
        disk_free_share: of the disk that holds the records, 0 to 1.
        camera: `working`, `stopped`, or the reason why there is no picture.
    """

    software: str
    leads_waiting: int | None
    disk_free_share: float
    camera: str


@runtime_checkable
class Room(Protocol):
    """The port. Its methods block for as long as the device needs, and may be called from any thread."""

    def standing(self) -> InterlockStatus | None:
        """The interlock's status; None where it does not answer, which is a stop as well."""
        ...

    def policy(self) -> PolicyState:
        """The policy in force, or why there is none."""
        ...

    def look(self) -> Seen | Dark:
        """One preview picture. A picture being taken goes first."""
        ...

    def book(self, booking_number: str) -> Answer:
        """Take the pictures of a booking and do with them what the policy says."""
        ...

    def note(self, note: NotCaptured | SignInRefused) -> str:
        """Put on the ledger that no picture was taken, or nobody let in; stopped or not. Empty, or why it cannot be."""
        ...

    def health(self) -> Health:
        """For the status page."""
        ...


def is_running(status: InterlockStatus | None) -> bool:
    """Whether recognition is permitted, as far as this room knows. What is not known is a stop."""
    return status is not None and status.state is State.RUNNING
