"""`turnkeyctl pack …`: orders for template packs between two Turnkeys, made and signed offline by two people.

    keys    the table that both devices' policies name each other with
    new     the proposer: from which device, to which, which partition, until when; the first signature
    sign    the approver: a second signature. Where the other device follows another authority, two of its people too
    merge   unites copies that were signed apart
    check   what a device will say to it, as far as that can be known here
            then, on the devices: `turnkey gallery export --order …`, and `turnkey gallery import-pack …`

Rules kept here: those of `authority`, and what is signed is shown first.
"""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from pydantic import ValidationError

from turnkey.envelope import EnvelopeError, PublicKey, peek, sign
from turnkey.interlock.authority import read_authority
from turnkey.leads.policy import PackDevice, Policy
from turnkey.leads.records import Partition, canonical
from turnkey.leads.template_pack import MOST_ROWS, PAYLOAD_TYPE_PACK_ORDER, OrderHolds, PackOrder, Way, judge_order
from turnkey.sealed import SealingKey
from turnkey_tools.authority import KeyOption, OutOption, add_signing, fail, read_key, refusing, write_new

app = typer.Typer(help="Orders for template packs: templates from one Turnkey to another.", no_args_is_help=True)

add_signing(app, "sign", "an order for a template pack", lambda data: describe(read_order(data)))


@app.command()
def keys(
    device: Annotated[str, typer.Option(help="The device's id.")],
    signing: Annotated[Path, typer.Option(help="Its signing.pub.", exists=True, dir_okay=False)],
    encryption: Annotated[Path, typer.Option(help="Its encryption.pub.", exists=True, dir_okay=False)],
) -> None:
    """Print a device as the other one's policy names it: a table for the specification of `turnkeyctl policy new`."""
    with refusing():
        named = PackDevice(
            device_id=device,
            signing_key=PublicKey.from_pem(signing.read_bytes()).to_hex(),
            sealing_key=SealingKey.from_pem(encryption.read_bytes()).to_hex(),
        )
        typer.echo("[[template_packs.devices]]")
        for name, value in named.model_dump().items():
            typer.echo(f'{name} = "{value}"')


@app.command()
def new(
    from_device: Annotated[str, typer.Option("--from", help="The device that exports.")],
    to_device: Annotated[str, typer.Option("--to", help="The device that imports. Nobody else can open the pack.")],
    partition: Annotated[str, typer.Option(help="bookings or cases.")],
    grounds: Annotated[str, typer.Option(help="A code for the ledgers' readers, such as station-closed.")],
    key: KeyOption,
    out: OutOption,
    most: Annotated[int, typer.Option(help="A pack of more templates is refused.", min=1, max=MOST_ROWS)] = MOST_ROWS,
    days: Annotated[float, typer.Option(help="How long it may be exported and imported, days.", min=0.01)] = 7,
) -> None:
    """Order a pack, and put the first signature on it: the proposer's. It is good for one export and one import."""
    if partition not in get_args(Partition):
        fail(f"no partition {partition!r}: {' or '.join(get_args(Partition))}")
    with refusing():
        now = datetime.now(UTC).replace(microsecond=0)
        order = PackOrder(
            pack_id=secrets.token_hex(16),
            from_device=from_device,
            to_device=to_device,
            partition=cast(Partition, partition),
            most_rows=most,
            not_before=now - timedelta(minutes=5),
            not_after=now + timedelta(days=days),
            grounds=grounds,
        )
        typer.echo(describe(order))
        write_new(out, sign(PAYLOAD_TYPE_PACK_ORDER, canonical(order), read_key(key)))


@app.command()
def check(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    authority: Annotated[Path, typer.Option(help="The authority that the device follows.", exists=True)],
    policy: Annotated[Path, typer.Option(help="The policy that it is under.", exists=True)],
    way: Annotated[str, typer.Option(help="As the device that has to `export`, or to `import`.")] = "export",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
) -> None:
    """Judge an order as a device would, as far as that can be known here (not: whether it was used)."""
    if way not in get_args(Way):
        fail(f"no way {way!r}: {' or '.join(get_args(Way))}")
    with refusing():
        data = file.read_bytes()
        order, body = read_order(data), read_authority(authority.read_bytes())
        rules = Policy.model_validate_json(peek(policy.read_bytes()).payload)
        device = order.from_device if way == "export" else order.to_device
        verdict = judge_order(data, cast(Way, way), rules, body, device, datetime.now(UTC))
        if not isinstance(verdict, OrderHolds):
            if as_json:
                typer.echo(json.dumps({"verdict": "refused", "reason": verdict.reason, "message": verdict.message}))
                raise typer.Exit(1)
            fail(f"refused ({verdict.reason}): {verdict.message}")
        names = [body.name_of(signer) for signer in verdict.signers]
        typer.echo(json.dumps({"verdict": "good", "signers": names}) if as_json else f"good: {', '.join(names)} signed")


def read_order(data: bytes) -> PackOrder:
    """Read an order WITHOUT trusting it. Raises: EnvelopeError: it is none."""
    claim = peek(data)
    if claim.payload_type != PAYLOAD_TYPE_PACK_ORDER:
        raise EnvelopeError("wrong-type", f"no order for a template pack but {claim.payload_type[:80]!r}")
    try:
        return PackOrder.model_validate_json(claim.payload)
    except ValidationError as error:
        raise EnvelopeError("malformed", f"no order for a template pack: {error.errors()[0]['msg']}") from error


def describe(order: PackOrder) -> str:
    """The order for a person."""
    return "\n".join(
        (
            f"order for template pack {order.pack_id}",
            f"  from             {order.from_device} to {order.to_device}",
            f"  templates        of {order.partition}, {order.most_rows} at most",
            f"  valid            from {order.not_before:%Y-%m-%d %H:%M} to {order.not_after:%Y-%m-%d %H:%M} UTC",
            f"  grounds          {order.grounds}",
        )
    )
