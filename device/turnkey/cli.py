"""`turnkey`: the device's command line. Thin: it reads arguments, calls `Device`, and says what came of it.

Exit codes: 0 done; 1 refused, with the reason; 2 the device cannot start, or the arguments are wrong.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Literal, cast, get_args

import typer
from pydantic import ValidationError

from turnkey.booth_line import BoothUnreachable
from turnkey.booth_socket import Errand, Said, ask_booth, said_of
from turnkey.commands.case import case_app
from turnkey.commands.chosen import (
    JsonOption,
    ask_interlock,
    choose,
    chosen_device,
    chosen_settings,
    fail,
    interlock_socket,
)
from turnkey.commands.gallery import gallery_app, have_removed
from turnkey.commands.ledger import ledger_app
from turnkey.commands.officer import officer_app
from turnkey.commands.order import authority_app, order_app
from turnkey.commands.policy import policy_app
from turnkey.commands.process import process_app
from turnkey.commands.stick import stick
from turnkey.commands.update import health, update_app
from turnkey.commands.uplink import uplink
from turnkey.device import Device, DeviceBusy, DeviceError, simulated_switch_file
from turnkey.interlock.machine import State
from turnkey.interlock.status import InterlockStatus
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.interlock.wire import Request
from turnkey.leads.records import Partition
from turnkey.notary.client import ask_standing
from turnkey.removal_socket import Expunge

SEEN_WITHIN_S = 10.0
"""A watched key is seen within milliseconds; a machine may stand still."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turnkey on the device: book, and stop. Settings: --config, TURNKEY_CONFIG or /etc/turnkey/device.toml.",
)
key = typer.Typer(no_args_is_help=True, help="Turn the key of a SIMULATED device. A real key is turned by hand.")
app.add_typer(key, name="key")
app.add_typer(order_app, name="order")
app.add_typer(authority_app, name="authority")
app.add_typer(process_app, name="run")
app.add_typer(officer_app, name="officer")
app.add_typer(gallery_app(), name="gallery")
app.add_typer(update_app, name="update")
app.command()(health)
app.command()(uplink)
app.command()(stick)
app.add_typer(ledger_app, name="ledger")
app.add_typer(case_app, name="case")
app.add_typer(policy_app, name="policy")

PicturesOption = Annotated[
    Path | None, typer.Option(help="Play the pictures of this directory instead of the configured camera.")
]


@app.callback()
def _options(
    config: Annotated[Path | None, typer.Option(help="The device's settings, TOML.", show_default=False)] = None,
) -> None:
    """Turnkey on the device."""
    choose(config)


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Show the interlock, the policy, the ledger and what waits to be sent."""
    socket = interlock_socket()
    if socket is not None:
        interlock = InterlockStatus.model_validate_json(ask_interlock(socket, Request(ask="status")))
        standing = ask_standing(chosen_settings().interlock.socket.notary)
    else:
        with chosen_device() as device:
            interlock, standing = device.interlock.status(), device.standing()
    if as_json:
        facts = standing.model_dump(mode="json", exclude={"policy_message"}) if standing else {}
        typer.echo(json.dumps({"interlock": interlock.model_dump(mode="json")} | facts))
        return
    typer.echo(_shown(interlock))
    if standing is None:
        typer.echo("ledger        the notary does not answer: nothing is captured")
        return
    typer.echo(f"policy        {standing.policy_message or standing.policy}")
    typer.echo(f"ledger        {standing.ledger_entries} entries, root {standing.ledger_root}")
    typer.echo(f"leads to send {standing.leads_waiting}")
    typer.echo(f"model         {standing.model}")


def _shown(now: InterlockStatus) -> str:
    lines = [f"recognition   {now.state} since {now.since:%Y-%m-%d %H:%M:%S} UTC ({now.reason})"]
    lines.append(f"key           {'closed' if now.key_closed else 'open'}; stop number {now.epoch}")
    if now.fault is not None:
        lines.append(f"fault         {now.fault}: it must be put right before a release order is accepted")
    for order in now.standing:
        lines.append(
            f"order         stopped by {order.role} on {order.since:%Y-%m-%d}; only its like or higher lifts it"
        )
    return "\n".join(lines)


@app.command()
def book(booking_number: str, pictures: PicturesOption = None, as_json: JsonOption = False) -> None:
    """Photograph, search what the policy allows, report, enrol. Says "recorded" or why not; never a candidate."""
    if not _booth_did("book", booking_number, pictures, as_json):
        with chosen_device(pictures) as device:
            _say(said_of(device.booth.book(booking_number)), as_json)


@app.command()
def enrol_case(case_number: str, pictures: PicturesOption = None, as_json: JsonOption = False) -> None:
    """Enrol the probe of an open case."""
    if not _booth_did("enrol-case", case_number, pictures, as_json):
        with chosen_device(pictures) as device:
            _say(said_of(device.booth.enrol_case(case_number)), as_json)


@app.command()
def expunge(
    partition: str,
    reference: str,
    reason: Annotated[str, typer.Option(help="Code for the ledger.")],
    receipt: Annotated[Path | None, typer.Option(help="Write the signed receipt here, a new file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Remove every template of a reference from a partition (bookings, cases). Works in a moratorium as well."""
    if partition not in get_args(Partition):
        fail(f"no partition {partition!r}: {' or '.join(get_args(Partition))}", 2)
    if receipt is not None and receipt.exists():
        fail(f"{receipt} is there already: name a new file", 2)
    try:
        errand = Expunge(partition=cast(Partition, partition), reference=reference, reason=reason)
    except ValidationError as error:
        fail(f"refused: {error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}", 2)
    gone = have_removed(errand)
    count = sum(gone.templates.values())
    if receipt is not None and gone.receipts:
        receipt.write_text("\n".join(gone.receipts) + "\n")
    if as_json:
        typer.echo(json.dumps({"templates": count, "receipts": [json.loads(each) for each in gone.receipts]}))
    else:
        typer.echo(f"{count} template(s) of {reference} expunged from {partition}")
    if not count:
        raise typer.Exit(1)


@key.command("open")
def key_open() -> None:
    """Open both contacts: recognition stops."""
    _switch().open_key()
    socket = interlock_socket()
    if socket is not None:
        typer.echo(f"key open; recognition is {_once_stopped(socket)}")
        return
    # Where no process watches the device, this one does for a moment: an opening that nobody saw would stop nothing.
    try:
        with Device(chosen_settings()) as device:
            typer.echo(f"key open; recognition is {device.settled().state}")
    except DeviceBusy:
        typer.echo("key open; the process that drives this device has seen it")
    except DeviceError as error:
        fail(f"key open, but nothing watches this device: {error}", 2)


def _once_stopped(socket: Path) -> str:
    """The interlock's state once it has seen the key open; one that does not see it ends the command."""
    deadline_s = time.monotonic() + SEEN_WITHIN_S
    while time.monotonic() < deadline_s:
        now = InterlockStatus.model_validate_json(ask_interlock(socket, Request(ask="status")))
        if now.state is not State.RUNNING:
            return now.state
        time.sleep(0.02)
    fail("the key is open, and the interlock's process has not seen it: cut the camera's supply", 2)


@key.command("closed")
def key_closed() -> None:
    """Close both contacts. Alone, this starts nothing: a release order is needed too."""
    _switch().close_key()
    typer.echo("key closed; to start again, apply a signed release order")


def _switch() -> SimulatedSwitch:
    settings = chosen_settings()
    if settings.interlock.adapter != "simulated":
        fail("this device has a real key: turn it by hand")
    if interlock_socket() is not None:
        settings = settings.model_copy(update={"state": settings.interlock.socket.interlock_state})
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SimulatedSwitch(simulated_switch_file(settings))


def _booth_did(ask: Literal["book", "enrol-case"], number: str, pictures: Path | None, as_json: bool) -> bool:
    """Have the booth's own process do it, where this device has processes of their own; whether it has."""
    if interlock_socket() is None:
        return False
    if pictures is not None:
        fail("the booth's process has the camera of its settings: --pictures is for a device in one process", 2)
    try:
        _say(ask_booth(chosen_settings().interlock.socket.booth, Errand(ask=ask, number=number)), as_json)
    except ValidationError:
        fail(f"refused ({ask}-number-malformed): {number!r} is no number of the records system")
    except BoothUnreachable as error:
        fail(f"refused (booth-gone): {error}")
    return True


def _say(said: Said, as_json: bool) -> None:
    if said.outcome == "refused":
        if as_json:
            typer.echo(json.dumps({"outcome": "refused", "step": said.step, "reason": said.reason}))
            raise typer.Exit(1)
        fail(f"refused ({said.reason}): {said.message}")
    facts: dict[str, object] = {"outcome": said.outcome}
    if said.outcome == "enrolled":
        facts["case_number"] = said.number
    else:
        facts |= {"booking_number": said.number, "stages_ms": said.stages_ms}
    typer.echo(json.dumps(facts) if as_json else str(facts["outcome"]))


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
