"""`turnkey order` and `turnkey authority`: what to sign, and applying what was signed."""

from __future__ import annotations

import base64

import typer

from turnkey.commands.chosen import SignedFile, ask_interlock, chosen_device, fail, interlock_socket
from turnkey.interlock.orders import OrderAccepted, OrderRefused
from turnkey.interlock.status import InterlockStatus
from turnkey.interlock.wire import Request

order_app = typer.Typer(no_args_is_help=True, help="Signed orders: what to sign, and applying what was signed.")
authority_app = typer.Typer(no_args_is_help=True, help="Who may sign what on this device.")


@order_app.command("request")
def order_request() -> None:
    """Print what the signers of a release order need: device, stop number, challenge. It is no secret."""
    socket = interlock_socket()
    if socket is not None:
        typer.echo(ask_interlock(socket, Request(ask="request")))
        return
    with chosen_device() as device:
        typer.echo(device.interlock.release_request().model_dump_json())


@order_app.command("apply")
def order_apply(file: SignedFile) -> None:
    """Apply a signed moratorium or release order, from a file or a mounted stick."""
    socket = interlock_socket()
    if socket is not None:
        document = base64.b64encode(file.read_bytes()).decode()
        after = InterlockStatus.model_validate_json(ask_interlock(socket, Request(ask="apply", document=document)))
        typer.echo(f"accepted; recognition is now {after.state}")
        return
    with chosen_device() as device:
        device.key_settled()
        outcome = device.apply_order(file.read_bytes())
        state = device.interlock.state
    if not isinstance(outcome, OrderAccepted):
        fail(f"refused ({outcome.reason}): {outcome.message}")
    typer.echo(f"accepted, signed by {', '.join(outcome.signers)}; recognition is now {state}")


@authority_app.command("follow")
def authority_follow(file: SignedFile) -> None:
    """Replace the authority by its successor, which the present root and its own have signed."""
    socket = interlock_socket()
    if socket is not None:
        ask_interlock(socket, Request(ask="follow", document=base64.b64encode(file.read_bytes()).decode()))
        typer.echo("accepted; notary and booth verify and follow it by themselves")
        return
    with chosen_device() as device:
        outcome = device.follow_authority(file.read_bytes())
    if isinstance(outcome, OrderRefused):
        fail(f"refused ({outcome.reason}): {outcome.message}")
    typer.echo(f"accepted; this device follows version {outcome.version} of its authority")
