"""The way of a lead at the desk: two examiners, blind to each other, then a close with a reason. Pure, one table.

Theory of operation. A lead says which open cases to look at; whether the pictures show one person is decided by two
examiners who compare them in the agency's records system, each alone. Each signs a verdict with their own key. Until
both are in, nobody is shown either verdict: the state says only that one is in. Two that agree make a lead confirmed
or rejected; two that differ leave it disputed. "Confirmed" still is no evidence: a lead is closed either with a
reference to **independent evidence** or with a reason why it is not followed, signed as well.

The rules, in the order in which they are enforced by `decide`:
1. The action is about this lead, byte for byte (the digest of what the device signed).
2. Who has examined a lead does not examine it again: a verdict is final, and two verdicts are two people's.
3. The table has the state and the event; what is not in it is refused. Evidence closes only a confirmed lead; a reason
   closes any, since a case can end first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from turnkey.leads.records import MAX_CANDIDATES, AttemptId, Record, Reference, Sha256, Utc

PAYLOAD_TYPE_EXAMINATION: Final = "application/vnd.turnkey.examination.v1+json"
PAYLOAD_TYPE_CLOSING: Final = "application/vnd.turnkey.closing.v1+json"

ExaminerName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,62}$")]
"""As in the agency's staff directory; the key registered under it is the proof."""

Note = Annotated[str, StringConstraints(max_length=2000)]


class State(StrEnum):
    """Where a lead stands. What a person is shown of the two HALF states is `awaiting-second`."""

    NEW = "new"
    HALF_CONFIRMED = "half-confirmed"
    HALF_REJECTED = "half-rejected"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    DISPUTED = "disputed"
    CLOSED = "closed"


class Event(StrEnum):
    """What happens to a lead."""

    CONFIRM = "confirm"
    CONFIRM_ANOTHER = "confirm-another"  # the second examiner confirms, but not the first one's candidate
    REJECT = "reject"
    CLOSE_WITH_EVIDENCE = "close-with-evidence"
    CLOSE_WITH_REASON = "close-with-reason"


TABLE: Final[dict[tuple[State, Event], State]] = {
    (State.NEW, Event.CONFIRM): State.HALF_CONFIRMED,
    (State.NEW, Event.REJECT): State.HALF_REJECTED,
    (State.NEW, Event.CLOSE_WITH_REASON): State.CLOSED,
    (State.HALF_CONFIRMED, Event.CONFIRM): State.CONFIRMED,
    (State.HALF_CONFIRMED, Event.CONFIRM_ANOTHER): State.DISPUTED,
    (State.HALF_CONFIRMED, Event.REJECT): State.DISPUTED,
    (State.HALF_CONFIRMED, Event.CLOSE_WITH_REASON): State.CLOSED,
    (State.HALF_REJECTED, Event.CONFIRM): State.DISPUTED,
    (State.HALF_REJECTED, Event.REJECT): State.REJECTED,
    (State.HALF_REJECTED, Event.CLOSE_WITH_REASON): State.CLOSED,
    (State.CONFIRMED, Event.CLOSE_WITH_EVIDENCE): State.CLOSED,
    (State.CONFIRMED, Event.CLOSE_WITH_REASON): State.CLOSED,
    (State.REJECTED, Event.CLOSE_WITH_REASON): State.CLOSED,
    (State.DISPUTED, Event.CLOSE_WITH_REASON): State.CLOSED,
}

_HALF: Final = {State.HALF_CONFIRMED, State.HALF_REJECTED}


class Examination(Record):
    """One examiner's verdict, signed with the examiner's key.

    Attributes:
        lead_digest: SHA-256 of what the device signed.
        candidate: rank of the one candidate whose pictures show the same person as the probe, in this examiner's
            judgement; None: no candidate's do.
    """

    lead_id: AttemptId
    lead_digest: Sha256
    examiner: ExaminerName
    candidate: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] | None
    note: Note = ""
    at: Utc


class Closing(Record):
    """The end of a lead, signed: with independent evidence, or with the reason why it is not followed."""

    lead_id: AttemptId
    lead_digest: Sha256
    examiner: ExaminerName
    evidence: Reference | None = None
    reason: Annotated[str, StringConstraints(min_length=3, max_length=2000)] | None = None
    at: Utc

    @property
    def event(self) -> Event | None:
        """What it does; None where it gives both or neither of evidence and reason."""
        if (self.evidence is None) == (self.reason is None):
            return None
        return Event.CLOSE_WITH_EVIDENCE if self.evidence is not None else Event.CLOSE_WITH_REASON


class Refusal(StrEnum):
    """Why an action on a lead does not hold."""

    OTHER_LEAD = "other-lead"
    NO_SUCH_CANDIDATE = "no-such-candidate"
    ALREADY_EXAMINED = "already-examined"
    EVIDENCE_OR_REASON = "evidence-or-reason"
    NOT_IN_THIS_STATE = "not-in-this-state"


@dataclass(frozen=True, slots=True)
class Case:
    """A lead at the desk, with what was signed about it, in the order in which it was.

    Attributes:
        candidates: how many the lead has.
    """

    lead_id: str
    lead_digest: str
    candidates: int
    examinations: tuple[Examination, ...] = ()
    closing: Closing | None = None

    @property
    def state(self) -> State:
        """Follows from what was signed, and from nothing else."""
        state, first = State.NEW, None
        for examination in self.examinations:
            state = TABLE[state, _event(examination, first)]
            first = examination
        return State.CLOSED if self.closing is not None else state

    @property
    def shown(self) -> str:
        """The state as everybody may see it."""
        return "awaiting-second" if self.state in _HALF else self.state.value

    @property
    def visible(self) -> Sequence[Examination]:
        """The verdicts that may be seen: none before there are two. A lead closed with one in shows none, for good."""
        return self.examinations if len(self.examinations) == 2 else ()


def decide(case: Case, action: Examination | Closing) -> Case | Refusal:
    """The lead after an action, or why the action does not hold."""
    if (action.lead_id, action.lead_digest) != (case.lead_id, case.lead_digest):
        return Refusal.OTHER_LEAD
    if isinstance(action, Closing):
        event = action.event
        if event is None:
            return Refusal.EVIDENCE_OR_REASON
        if (case.state, event) not in TABLE:
            return Refusal.NOT_IN_THIS_STATE
        return Case(case.lead_id, case.lead_digest, case.candidates, case.examinations, action)
    if any(earlier.examiner == action.examiner for earlier in case.examinations):
        return Refusal.ALREADY_EXAMINED
    if action.candidate is not None and action.candidate > case.candidates:
        return Refusal.NO_SUCH_CANDIDATE
    if (case.state, _event(action, case.examinations[0] if case.examinations else None)) not in TABLE:
        return Refusal.NOT_IN_THIS_STATE
    return Case(case.lead_id, case.lead_digest, case.candidates, (*case.examinations, action))


def _event(examination: Examination, first: Examination | None) -> Event:
    if examination.candidate is None:
        return Event.REJECT
    if first is not None and first.candidate not in (None, examination.candidate):
        return Event.CONFIRM_ANOTHER
    return Event.CONFIRM
