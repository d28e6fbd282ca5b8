"""`turnkeyctl order …`: orders to stop a device and to release it, made and signed offline.

Each signer signs a copy on their own machine with `cosign`; `merge` unites the copies; `check` tells beforehand what
the device will say. A release needs the stopped device's request (`turnkey order request` writes it there): it names
the device, the number of the stop and its challenge.

Rules kept here: those of `authority`, and what is signed is shown first.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from turnkey.envelope import EnvelopeError, peek, sign
from turnkey.interlock.authority import Authority, read_authority
from turnkey.interlock.orders import (
    EVERY_DEVICE,
    MORATORIUM_TYPE,
    RELEASE_TYPE,
    Circumstances,
    MoratoriumOrder,
    OrderRefused,
    ReleaseOrder,
    ReleaseRequest,
    judge,
    make_moratorium_order,
    make_release_order,
)
from turnkey.settings import InterlockSettings
from turnkey_tools.authority import FileArgument, KeyOption, OutOption, add_signing, fail, read_key, refusing, write_new

app = typer.Typer(help="Orders to stop a device and to release it.", no_args_is_help=True)

add_signing(app, "cosign", "an order", lambda data: describe(read_order(data)))

RoleOption = Annotated[str, typer.Option(help="The body that signs, as the authority names it.")]
DaysOption = Annotated[float, typer.Option(help="How long the order may be applied, days.", min=0.01)]
GroundsOption = Annotated[str, typer.Option(help="Why, for the ledger. Name no person.")]
AuthorityOption = Annotated[Path, typer.Option(help="The authority that the device follows.", exists=True)]


@app.command()
def moratorium(
    role: RoleOption,
    key: KeyOption,
    out: OutOption,
    device: Annotated[str, typer.Option(help="Device id, or * for every device.")] = EVERY_DEVICE,
    days: DaysOption = 30,
    grounds: GroundsOption = "",
) -> None:
    """Order a stop, and put the first signature on it. It holds until a body of at least the same rank lifts it."""
    with refusing():
        payload = make_moratorium_order(
            device, role, now=datetime.now(UTC), valid_for=timedelta(days=days), grounds=grounds
        )
        _sign_new(MORATORIUM_TYPE, payload, key, out)


@app.command()
def release(
    request: Annotated[Path, typer.Option(help="The stopped device's request.", exists=True)],
    role: RoleOption,
    key: KeyOption,
    out: OutOption,
    days: DaysOption = 1,
    grounds: GroundsOption = "",
    sets_clock: Annotated[
        bool,
        typer.Option("--sets-clock", help="The device's time was looked at and is right, though it saw a later one."),
    ] = False,
) -> None:
    """Order the release that a stopped device asks for, and put the first signature on it."""
    with refusing():
        wanted = ReleaseRequest.model_validate_json(request.read_bytes())
        payload = make_release_order(
            wanted,
            role,
            now=datetime.now(UTC),
            valid_for=timedelta(days=days),
            grounds=grounds,
            sets_clock=sets_clock,
        )
        _sign_new(RELEASE_TYPE, payload, key, out)


@app.command()
def check(
    file: FileArgument,
    authority: AuthorityOption,
    request: Annotated[Path | None, typer.Option(help="The stopped device's request, for a release.")] = None,
) -> None:
    """Judge an order as the device would, as far as that can be known here (not: what was used, or stands)."""
    with refusing():
        data = file.read_bytes()
        body = read_authority(authority.read_bytes())
        wanted = ReleaseRequest.model_validate_json(request.read_bytes()) if request else None
        verdict = judge(data, body, _as_on_the_device(read_order(data), wanted))
        if isinstance(verdict, OrderRefused):
            fail(f"refused ({verdict.reason}): {verdict.message}{_count(data, body)}")
        typer.echo(f"good: signed by {', '.join(verdict.signers)}")


def read_order(data: bytes) -> MoratoriumOrder | ReleaseOrder:
    """Read an order WITHOUT trusting it.

    Raises:
        EnvelopeError: not an order.
    """
    claim = peek(data)
    try:
        if claim.payload_type == MORATORIUM_TYPE:
            return MoratoriumOrder.model_validate_json(claim.payload)
        if claim.payload_type == RELEASE_TYPE:
            return ReleaseOrder.model_validate_json(claim.payload)
    except ValidationError as error:
        raise EnvelopeError("malformed", f"not a readable order: {error.errors()[0]['msg']}") from error
    raise EnvelopeError("wrong-type", f"not an order but {claim.payload_type[:80]!r}")


def describe(order: MoratoriumOrder | ReleaseOrder) -> str:
    """The order for a person."""
    if isinstance(order, ReleaseOrder):
        what = f"RELEASE of {order.device_id} after its stop number {order.epoch} (challenge {order.challenge})"
    else:
        what = f"STOP of {'every device' if order.device_id == EVERY_DEVICE else order.device_id}"
    if isinstance(order, ReleaseOrder) and order.sets_clock:
        what += "\n  AND its present time is right: look at its clock before you sign"
    return "\n".join(
        (
            what,
            f"  signed as       {order.role}",
            f"  to be applied   {order.not_before:%Y-%m-%d %H:%M} to {order.not_after:%Y-%m-%d %H:%M} UTC",
            f"  grounds         {order.grounds or '(none given)'}",
            f"  order id        {order.order_id}",
        )
    )


def _sign_new(payload_type: str, payload: bytes, key: Path, out: Path) -> None:
    data = sign(payload_type, payload, read_key(key))
    typer.echo(describe(read_order(data)))
    write_new(out, data)


def _as_on_the_device(order: MoratoriumOrder | ReleaseOrder, request: ReleaseRequest | None) -> Circumstances:
    """The device as its request describes it; without one, as the order itself does."""
    if isinstance(order, ReleaseOrder):
        here = request or ReleaseRequest(device_id=order.device_id, epoch=order.epoch, challenge=order.challenge)
    else:
        here = request or ReleaseRequest(device_id="any", epoch=1, challenge=secrets.token_hex(16))
        if request is None and order.device_id != EVERY_DEVICE:
            here = here.model_copy(update={"device_id": order.device_id})
    return Circumstances(
        device_id=here.device_id,
        stopped=True,
        epoch=here.epoch,
        challenge=here.challenge,
        standing=(),
        used=frozenset(),
        now=datetime.now(UTC),
        clock_trouble=None,
        obstacle=None,
        longest=timedelta(days=InterlockSettings().order_window_days),
    )


def _count(data: bytes, authority: Authority) -> str:
    role = authority.roles.get(read_order(data).role)
    return f" (the role {read_order(data).role!r} needs {role.threshold} of {len(role.keys)})" if role else ""
