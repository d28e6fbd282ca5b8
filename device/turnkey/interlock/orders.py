"""Signed orders: to stop, and to run again. Their schemas, and the one decision whether an order is accepted. Pure.

Rules kept here, in the order in which they are enforced:
1. The file is a DSSE envelope of an order; anything else is refused by name.
2. The threshold of the role that it claims signed it, and the authority lets that role sign such an order.
3. It is for this device. A moratorium order may be for every device (`*`), a release order never is.
4. The clock is believed: it was set, and is not behind what this device has seen. Once it ran ahead it is behind that
   for as long; a release order that `sets_clock` ends this. Its signers signed after the stop, since they name its
   challenge, and say by its narrow window that the device's time is the right one.
5. It is valid now: not before, not after, and for no longer than `order_window_days` in all.
6. It was never used.
7. A release order names this epoch and this challenge, lifts every standing order by rank, and is accepted only with
   both channels stably closed and no fault present.
A refused order changes nothing: its nonce is not used up.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from turnkey.envelope import EnvelopeError, peek
from turnkey.interlock.authority import Authority
from turnkey.interlock.latch import StandingOrder

MORATORIUM_TYPE = "application/vnd.turnkey.moratorium-order+json"
RELEASE_TYPE = "application/vnd.turnkey.release-order+json"
EVERY_DEVICE = "*"
UNKNOWN_ORDER_ID = "0" * 32
"""Stands for whatever a lost latch may have held."""
CLOCK_WINDOW = timedelta(days=2)
"""An order that sets the clock says what time it is to within this; a day, and a day to bring it."""

Token = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
DeviceId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
RoleName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


class Order(BaseModel):
    """What every order says.

    Attributes:
        order_id: names it for people and for the ledger.
        nonce: random; an order is applied once.
        role: the body that signs.
        not_before: earliest time of application, UTC.
        not_after: latest time of application. An order that was applied in time stays in force.
        grounds: why, for the ledger; names no person.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    order_id: Token
    nonce: Token
    role: RoleName
    not_before: AwareDatetime
    not_after: AwareDatetime
    grounds: str = Field(default="", max_length=500)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.not_after <= self.not_before:
            raise ValueError("an order ends after it begins")
        return self

    def payload(self) -> bytes:
        """The bytes to sign."""
        return self.model_dump_json().encode()


class MoratoriumOrder(Order):
    """Stop, whatever the key says."""

    device_id: DeviceId | Literal["*"]


class ReleaseOrder(Order):
    """Run again: this device, after this stop, once.

    Attributes:
        sets_clock: the device may take its present time for right, though it has seen a later one.
    """

    device_id: DeviceId
    epoch: int = Field(ge=1)
    challenge: Token
    sets_clock: bool = False

    @model_validator(mode="after")
    def _narrow(self) -> Self:
        if self.sets_clock and self.not_after - self.not_before > CLOCK_WINDOW:
            raise ValueError(f"an order that sets the clock is valid for at most {CLOCK_WINDOW.days} days")
        return self


class ReleaseRequest(BaseModel):
    """What the signers need from the stopped device; it shows this, and it is no secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device_id: DeviceId
    epoch: int = Field(ge=1)
    challenge: Token


def make_release_order(
    request: ReleaseRequest,
    role: str,
    *,
    now: datetime,
    valid_for: timedelta = timedelta(days=1),
    grounds: str = "",
    sets_clock: bool = False,
) -> bytes:
    """The payload of a release order, to be signed as `RELEASE_TYPE` by the threshold of `role`."""
    here = request.model_dump() | {"sets_clock": sets_clock}
    return ReleaseOrder.model_validate(_every_order(role, now, valid_for, grounds) | here).payload()


def make_moratorium_order(
    device_id: str,
    role: str,
    *,
    now: datetime,
    valid_for: timedelta = timedelta(days=30),
    grounds: str = "",
) -> bytes:
    """The payload of a moratorium order for one device or for `EVERY_DEVICE`, to be signed as `MORATORIUM_TYPE`."""
    every = _every_order(role, now, valid_for, grounds)
    return MoratoriumOrder.model_validate(every | {"device_id": device_id}).payload()


def _every_order(role: str, now: datetime, valid_for: timedelta, grounds: str) -> dict[str, object]:
    return {
        "order_id": secrets.token_hex(16),
        "nonce": secrets.token_hex(16),
        "role": role,
        "not_before": now.astimezone(UTC),
        "not_after": now.astimezone(UTC) + valid_for,
        "grounds": grounds,
    }


@dataclass(frozen=True)
class Circumstances:
    """The device as it is when an order arrives.

    Attributes:
        device_id: which device this is.
        stopped: whether there is anything to release.
        epoch: of the present stop.
        challenge: of the present stop.
        standing: orders in force.
        used: nonces used before.
        now: UTC.
        clock_trouble: why the clock is not believed; None where it is.
        obstacle: why it could not run even if released, the clock apart (`key-open`, a fault); None where it could.
        longest: the longest time an order may be valid for.
    """

    device_id: str
    stopped: bool
    epoch: int
    challenge: str
    standing: tuple[StandingOrder, ...]
    used: frozenset[str]
    now: datetime
    clock_trouble: str | None
    obstacle: str | None
    longest: timedelta


@dataclass(frozen=True)
class OrderAccepted:
    """The order holds.

    Attributes:
        order: what it says.
        rank: of the role that signed it.
        signers: names of the holders whose signatures are good.
    """

    order: MoratoriumOrder | ReleaseOrder
    rank: int
    signers: tuple[str, ...]


@dataclass(frozen=True)
class AuthorityFollowed:
    """A successor of the authority holds now.

    Attributes:
        version: its version.
    """

    version: int


@dataclass(frozen=True)
class OrderRefused:
    """The order changes nothing. `reason` is a code for the ledger, `message` tells a person what to do."""

    reason: str
    message: str


class Judged(BaseModel):
    """What became of a document that was presented to the interlock, for the ledger.

    Attributes:
        accepted: whether it changed anything.
        reason: `accepted`, `authority-followed`, or why not.
        digest: SHA-256 of the document, hexadecimal.
        act, order_id: of an accepted one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    accepted: bool
    reason: str
    digest: str
    act: Literal["moratorium", "release", "authority"] | None = None
    order_id: str | None = None


def judged(document: bytes, outcome: OrderAccepted | AuthorityFollowed | OrderRefused) -> Judged:
    """What became of `document`, in the words of the ledger."""
    digest = hashlib.sha256(document).hexdigest()
    match outcome:
        case OrderRefused():
            return Judged(accepted=False, reason=outcome.reason, digest=digest)
        case OrderAccepted(order=order):
            act: Literal["moratorium", "release"] = "release" if isinstance(order, ReleaseOrder) else "moratorium"
            return Judged(accepted=True, reason="accepted", digest=digest, act=act, order_id=order.order_id)
        case AuthorityFollowed():
            return Judged(accepted=True, reason="authority-followed", digest=digest, act="authority")


def judge(data: bytes, authority: Authority, here: Circumstances) -> OrderAccepted | OrderRefused:
    """Decide about an order; every rule at the top of this file, in its order."""
    try:
        claim = peek(data)
        order: MoratoriumOrder | ReleaseOrder
        act: Literal["moratorium", "release"]
        if claim.payload_type == MORATORIUM_TYPE:
            order, act = MoratoriumOrder.model_validate_json(claim.payload), "moratorium"
        elif claim.payload_type == RELEASE_TYPE:
            order, act = ReleaseOrder.model_validate_json(claim.payload), "release"
        else:
            return OrderRefused("wrong-type", f"this is not an order but {claim.payload_type[:80]!r}")
        verified = authority.verify(data, claim.payload_type, order.role, act)
    except EnvelopeError as error:
        return OrderRefused(error.reason, str(error))
    except ValidationError as error:
        return OrderRefused("malformed", f"the order is not readable: {error.errors()[0]['msg']}")
    refusal = _untimely(order, here)
    if refusal is None and isinstance(order, ReleaseOrder):
        refusal = _not_releasable(order, authority, here)
    if refusal is not None:
        return refusal
    holders = {key.keyid: authority.name_of(key.to_hex()) for key in authority.roles[order.role].public_keys()}
    signers = tuple(sorted(holders[keyid] for keyid in verified.keyids))
    return OrderAccepted(order, authority.roles[order.role].rank, signers)


def lifts(rank: int, authority: Authority, standing: StandingOrder) -> bool:
    """Whether a body of `rank` is at least the authority that made a standing order, then and now."""
    role = authority.roles.get(standing.role)
    return rank >= max(standing.rank, role.rank if role is not None else 0)


def unknown_order(authority: Authority, now: datetime) -> StandingOrder:
    """What a lost latch may have held: only the highest body that can order a stop lifts it."""
    rank = max((role.rank for role in authority.roles.values() if "moratorium" in role.may), default=0)
    return StandingOrder(order_id=UNKNOWN_ORDER_ID, role="unknown", rank=rank, since=now)


CLOCK_SET_BACK = "clock-set-back"
_CLOCK_ADVICE = (
    "the device's clock is not set: set it, then apply the order again",
    "the device has seen a later time: set its clock; where it is right, open the key, and release with an order "
    "that sets the clock",
)


def _untimely(order: MoratoriumOrder | ReleaseOrder, here: Circumstances) -> OrderRefused | None:
    if order.device_id not in (here.device_id, EVERY_DEVICE):
        return OrderRefused("other-device", f"the order is for {order.device_id!r}, this is {here.device_id!r}")
    sets_clock = isinstance(order, ReleaseOrder) and order.sets_clock and here.clock_trouble == CLOCK_SET_BACK
    if here.clock_trouble is not None and not sets_clock:
        return OrderRefused(here.clock_trouble, _CLOCK_ADVICE[here.clock_trouble == CLOCK_SET_BACK])
    if order.not_after - order.not_before > here.longest:
        return OrderRefused("valid-too-long", f"an order is valid for at most {here.longest.days} days")
    if here.now < order.not_before:
        return OrderRefused("not-yet-valid", f"the order is valid from {order.not_before.isoformat()}")
    if here.now > order.not_after:
        return OrderRefused("expired", f"the order was valid until {order.not_after.isoformat()}")
    if order.nonce in here.used:
        return OrderRefused("used-before", "the order was applied before; an order is good for one use")
    return None


def _not_releasable(order: ReleaseOrder, authority: Authority, here: Circumstances) -> OrderRefused | None:
    if not here.stopped:
        return OrderRefused("not-stopped", "recognition is not stopped: there is nothing to release")
    if order.epoch != here.epoch:
        return OrderRefused("other-epoch", f"the order lifts stop number {order.epoch}, this is number {here.epoch}")
    if order.challenge != here.challenge:
        return OrderRefused("other-challenge", "the order was made for another stop: make a new one from this request")
    for standing in here.standing:
        if not lifts(authority.roles[order.role].rank, authority, standing):
            return OrderRefused(
                "lower-authority",
                f"a moratorium ordered by {standing.role!r} is lifted by a body of at least its rank, "
                f"which {order.role!r} is not",
            )
    if here.obstacle is not None:
        return OrderRefused(here.obstacle, "close both channels, clear the fault if one shows, then apply again")
    return None
