"""What the notary's process and its clients say to each other over the Unix socket. Pure.

One request is one packet and has one answer (SOCK_SEQPACKET, JSON). `epoch`, `keep` and `judged` are the interlock's
(`turnkey.interlock.witness`); `update`, `quiet` and `units` are the updater's, `health` is root's;
the rest is the booth's.

Rules kept here:
1. The booth can say nothing but a record of these schemas; a packet that is none has no answer but a refusal.
2. What only a running device does names the run of the lease it was done under. What happens stopped as well does not.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from turnkey.interlock.orders import Judged
from turnkey.interlock.status import Transition
from turnkey.leads.receipts import Removal
from turnkey.leads.records import (
    Captured,
    Discarded,
    Enrolled,
    Expunged,
    HealthChecked,
    Lead,
    NotCaptured,
    PackAccepted,
    PackEnrolled,
    PacketAccepted,
    PacketPresented,
    PackImported,
    PackPresented,
    Partition,
    PictureImported,
    Refused,
    Searched,
    SignInRefused,
    TamperFound,
    Updated,
)
from turnkey.leads.template_pack import PackDraft
from turnkey.notary.notary import LeadDraft

MAX_PACKET = 64 * 1024
"""A lead with the longest list of candidates is below 8 KiB."""

Run = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""The lease's run, hexadecimal."""


class _Packet(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AskEpoch(_Packet):
    """The highest epoch on the ledger?"""

    ask: Literal["epoch"]


class Keep(_Packet):
    """Put a transition of the interlock on the ledger."""

    ask: Literal["keep"]
    transition: Transition


class KeepJudgement(_Packet):
    """Put on the ledger what became of an order, or of a successor of the authority."""

    ask: Literal["judged"]
    judged: Judged


class RecordWork(_Packet):
    """Put a step of a running device's work on the ledger."""

    ask: Literal["work"]
    event: Annotated[
        Captured | PictureImported | PacketAccepted | Searched | Enrolled | PackAccepted | PackEnrolled,
        Field(discriminator="kind"),
    ]
    run: Run


class RecordEvent(_Packet):
    """Put on the ledger what happens in a moratorium as well."""

    ask: Literal["record"]
    event: Annotated[
        PacketPresented | PackPresented | PackImported | Refused | Discarded | Expunged | TamperFound,
        Field(discriminator="kind"),
    ]


class Note(_Packet):
    """Put on the ledger why a booking has no picture, or that an officer was kept out. The console's one right here."""

    ask: Literal["note"]
    event: Annotated[NotCaptured | SignInRefused, Field(discriminator="kind")]


class Submit(_Packet):
    """Sign a lead."""

    ask: Literal["submit"]
    draft: LeadDraft
    run: Run


class Certify(_Packet):
    """Put an expungement on the ledger, and sign its receipt."""

    ask: Literal["certify"]
    removal: Removal


class SignPack(_Packet):
    """Put an export of templates on the ledger, and sign its manifest."""

    ask: Literal["pack"]
    draft: PackDraft
    run: Run


class AskStanding(_Packet):
    """How do ledger and policy stand? The operator's."""

    ask: Literal["standing"]


class Standing(_Packet):
    """The answer to `AskStanding`.

    Attributes:
        policy: `in force`, or the code why there is none.
        policy_message: what to do about that.
        ledger_entries, ledger_root: of the tree now.
        leads_waiting: signed leads that the broker has not taken.
        model: the embedder in use.
    """

    policy: str
    policy_message: str = ""
    ledger_entries: int
    ledger_root: str
    leads_waiting: int
    model: str


class HandOver(_Packet):
    """Give the outbox what it has not confirmed."""

    ask: Literal["hand_over"]


class RecordUpdate(_Packet):
    """Put on the ledger what the updater did."""

    ask: Literal["update"]
    event: Updated


class RecordHealth(_Packet):
    """Put on the ledger what the device found when it examined itself. The updater, which has a network, may not."""

    ask: Literal["health"]
    event: HealthChecked


class AskRows(_Packet):
    """Which rows of the gallery does the ledger hold above a number? With their count and the highest ever."""

    ask: Literal["rows"]
    partition: Partition
    after: Annotated[int, Field(ge=0)]


class Rows(_Packet):
    """The answer to `AskRows`. `numbers`: the next few that stand, joined by commas; none: that was all."""

    standing: int
    highest: int
    numbers: Annotated[str, StringConstraints(pattern=r"^([0-9]+(,[0-9]+)*)?$")]


class AskQuiet(_Packet):
    """How long ago was the last picture taken?"""

    ask: Literal["quiet"]


class AskUnits(_Packet):
    """Which units did the device's first good examination of itself find?"""

    ask: Literal["units"]


class Quiet(_Packet):
    """The answer to `AskQuiet`: seconds since the last capture on the ledger, of this boot or an earlier one; None
    where there is none."""

    since_capture_s: float | None


class Units(_Packet):
    """The answer to `AskUnits`; None where there was none yet."""

    units: dict[str, str] | None


class Attend(_Packet):
    """Nothing but this connection: that it breaks is how a client knows that the notary is gone."""

    ask: Literal["attend"]


Ask = (
    AskEpoch
    | Keep
    | KeepJudgement
    | RecordWork
    | RecordEvent
    | Note
    | Submit
    | HandOver
    | Attend
    | RecordUpdate
    | RecordHealth
    | AskQuiet
    | AskUnits
    | Certify
    | SignPack
    | AskStanding
    | AskRows
)
ASK: TypeAdapter[Ask] = TypeAdapter(Annotated[Ask, Field(discriminator="ask")])


class Reply(_Packet):
    """What the booth is told.

    Attributes:
        outcome: `done`; `stopped`, nothing was kept; `storage`, the ledger or the outbox cannot be written; `refused`,
            what was asked is none of the above, or is not this user's.
        reason, message: where it is not done.
        lead: what was signed, for `Submit`.
        rows: for `AskRows`.
        receipt: the envelope, for `Certify` and `SignPack`.
    """

    outcome: Literal["done", "stopped", "storage", "refused"]
    reason: str = ""
    message: str = ""
    lead: Lead | None = None
    rows: Rows | None = None
    receipt: str = ""
