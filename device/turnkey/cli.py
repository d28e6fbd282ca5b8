"""`turnkey`: the device's command line. Thin: it reads arguments, calls `Device`, and says what came of it.

Exit codes: 0 done; 1 refused, with the reason; 2 the device cannot start, or the arguments are wrong.
"""

from __future__ import annotations

import base64
import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NoReturn, cast, get_args

import typer
from pydantic import ValidationError

from turnkey.booth_socket import BoothUnreachable, Errand, Said, ask_booth, said_of
from turnkey.capture.camera import CameraError
from turnkey.capture.folder import FolderCamera
from turnkey.database import StorageError
from turnkey.device import Device, DeviceBusy, DeviceError, simulated_switch_file, uplink_settings
from turnkey.envelope import KeyFileError
from turnkey.gallery_cli import gallery_app
from turnkey.interlock.authority import AuthorityError
from turnkey.interlock.lease import DaemonError, ask
from turnkey.interlock.orders import OrderAccepted, OrderRefused
from turnkey.interlock.process import run_interlock
from turnkey.interlock.status import InterlockStatus
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.interlock.wire import Request
from turnkey.leads.policy import PolicyRefusal
from turnkey.leads.records import Partition
from turnkey.processes import ProcessFailed, run_booth, run_notary
from turnkey.settings import Settings, SettingsError, read_settings
from turnkey.uplink.mqtt import Uplink
from turnkey.uplink.outbox import Outbox
from turnkey.vision.manifest import ModelError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turnkey on the device: book, and stop. Settings: --config, TURNKEY_CONFIG or /etc/turnkey/device.toml.",
)
key = typer.Typer(no_args_is_help=True, help="Turn the key of a SIMULATED device. A real key is turned by hand.")
order = typer.Typer(no_args_is_help=True, help="Signed orders: what to sign, and applying what was signed.")
app.add_typer(key, name="key")
app.add_typer(order, name="order")
authority = typer.Typer(no_args_is_help=True, help="Who may sign what on this device.")
run = typer.Typer(no_args_is_help=True, help="The processes of a device whose rooms are apart; systemd starts them.")
app.add_typer(authority, name="authority")
app.add_typer(run, name="run")

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")]
PicturesOption = Annotated[
    Path | None, typer.Option(help="Play the pictures of this directory instead of the configured camera.")
]


@dataclass
class _Chosen:
    config: Path | None = None


_chosen = _Chosen()


@app.callback()
def _options(
    config: Annotated[Path | None, typer.Option(help="The device's settings, TOML.", show_default=False)] = None,
) -> None:
    """Turnkey on the device."""
    _chosen.config = config


def _fail(message: str, code: int = 1) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)


def _settings() -> Settings:
    try:
        return read_settings(_chosen.config)
    except SettingsError as error:
        _fail(f"settings: {error}", 2)


@contextmanager
def _device(pictures: Path | None = None) -> Iterator[Device]:
    try:
        camera = FolderCamera(pictures) if pictures is not None else None
        with Device(_settings(), camera=camera) as device:
            device.settled()
            yield device
    except (DeviceError, CameraError) as error:
        _fail(f"the device cannot start: {error}", 2)
    except StorageError as error:
        _fail(f"refused ({error.reason}): {error}")


app.add_typer(gallery_app(lambda: _device()), name="gallery")


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Show the interlock, the policy, the ledger and what waits to be sent; only the interlock where it is apart."""
    socket = _interlock_socket()
    if socket is not None:
        now = InterlockStatus.model_validate_json(_ask(socket, Request(ask="status")))
        typer.echo(json.dumps({"interlock": now.model_dump(mode="json")}) if as_json else _shown(now))
        return
    with _device() as device:
        interlock, policy = device.interlock.status(), device.policy()
        refusal = policy if isinstance(policy, PolicyRefusal) else None
        facts = {
            "interlock": interlock.model_dump(mode="json"),
            "policy": refusal.reason if refusal else "in force",
            "ledger_entries": device.journal.size,
            "ledger_root": device.journal.root().hex(),
            "leads_waiting": device.leads_waiting(),
            "model": device.model_id,
        }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(_shown(interlock))
    typer.echo(f"policy        {refusal.message if refusal else 'in force'}")
    typer.echo(f"ledger        {facts['ledger_entries']} entries, root {facts['ledger_root']}")
    typer.echo(f"leads to send {facts['leads_waiting']}")
    typer.echo(f"model         {facts['model']}")


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
        with _device(pictures) as device:
            _say(said_of(device.booth.book(booking_number)), as_json)


@app.command()
def enrol_case(case_number: str, pictures: PicturesOption = None, as_json: JsonOption = False) -> None:
    """Enrol the probe of an open case."""
    if not _booth_did("enrol-case", case_number, pictures, as_json):
        with _device(pictures) as device:
            _say(said_of(device.booth.enrol_case(case_number)), as_json)


@app.command()
def expunge(partition: str, reference: str, reason: Annotated[str, typer.Option(help="Code for the ledger.")]) -> None:
    """Remove every template of a reference from a partition (bookings, cases). Works in a moratorium as well."""
    if partition not in get_args(Partition):
        _fail(f"no partition {partition!r}: {' or '.join(get_args(Partition))}", 2)
    with _device() as device:
        removed = device.booth.expunge(cast(Partition, partition), reference, reason)
    typer.echo(f"{removed} template(s) of {reference} expunged from {partition}")
    if not removed:
        raise typer.Exit(1)


@app.command()
def uplink(
    flush: Annotated[float, typer.Option(help="Send what waits, for at most so many seconds, and end; 0: run.")] = 0.0,
) -> None:
    """Send signed leads to the broker. Runs until interrupted."""
    settings = _settings()
    try:
        with Outbox(settings.outbox_file) as outbox:
            sender = Uplink(outbox, uplink_settings(settings))
            if not flush:
                sender.run(threading.Event())
            elif not sender.flush(flush):
                _fail(f"{outbox.depth()} message(s) still wait ({sender.status.reason}): {sender.status.detail}")
    except StorageError as error:
        _fail(f"refused ({error.reason}): {error}")
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@key.command("open")
def key_open() -> None:
    """Open both contacts: recognition stops."""
    _switch().open_key()
    # Where no process watches the device, this one does for a moment: an opening that nobody saw would stop nothing.
    try:
        with Device(_settings()) as device:
            typer.echo(f"key open; recognition is {device.settled().state}")
    except DeviceBusy:
        typer.echo("key open; the process that drives this device has seen it")
    except DeviceError as error:
        _fail(f"key open, but nothing watches this device: {error}", 2)


@key.command("closed")
def key_closed() -> None:
    """Close both contacts. Alone, this starts nothing: a release order is needed too."""
    _switch().close_key()
    typer.echo("key closed; to start again, apply a signed release order")


def _switch() -> SimulatedSwitch:
    settings = _settings()
    if settings.interlock.adapter != "simulated":
        _fail("this device has a real key: turn it by hand")
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SimulatedSwitch(simulated_switch_file(settings))


@order.command("request")
def order_request() -> None:
    """Print what the signers of a release order need: device, stop number, challenge. It is no secret."""
    socket = _interlock_socket()
    if socket is not None:
        typer.echo(_ask(socket, Request(ask="request")))
        return
    with _device() as device:
        typer.echo(device.interlock.release_request().model_dump_json())


@order.command("apply")
def order_apply(file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)]) -> None:
    """Apply a signed moratorium or release order, from a file or a mounted stick."""
    socket = _interlock_socket()
    if socket is not None:
        document = base64.b64encode(file.read_bytes()).decode()
        after = InterlockStatus.model_validate_json(_ask(socket, Request(ask="apply", document=document)))
        typer.echo(f"accepted; recognition is now {after.state}")
        return
    with _device() as device:
        device.key_settled()
        outcome = device.apply_order(file.read_bytes())
        state = device.interlock.state
    if not isinstance(outcome, OrderAccepted):
        _fail(f"refused ({outcome.reason}): {outcome.message}")
    typer.echo(f"accepted, signed by {', '.join(outcome.signers)}; recognition is now {state}")


@authority.command("follow")
def authority_follow(file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)]) -> None:
    """Replace the authority by its successor, which the present root and its own have signed."""
    socket = _interlock_socket()
    if socket is not None:
        _ask(socket, Request(ask="follow", document=base64.b64encode(file.read_bytes()).decode()))
        typer.echo("accepted; put the same file where the settings name the authority, for notary and booth")
        return
    with _device() as device:
        outcome = device.follow_authority(file.read_bytes())
    if isinstance(outcome, OrderRefused):
        _fail(f"refused ({outcome.reason}): {outcome.message}")
    typer.echo(f"accepted; this device follows version {outcome.version} of its authority")


@run.command("interlock")
def run_interlock_process() -> None:
    """Watch the key and give out leases, as the unit turnkey-interlock does. Needs the notary's process."""
    _run_process(run_interlock, "the interlock cannot go on, so nothing runs")


@run.command("notary")
def run_notary_process() -> None:
    """Keep the ledger and sign, as the unit turnkey-notary does."""
    _run_process(run_notary, "the notary cannot go on, so nothing is captured")


@run.command("booth")
def run_booth_process() -> None:
    """Photograph, search and enrol, as the unit turnkey-booth does. Needs the processes of interlock and notary."""
    _run_process(run_booth, "the booth cannot go on, so nothing is captured")


def _run_process(process: Callable[[Settings, threading.Event], None], failed: str) -> None:
    settings, stop = _settings(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        process(settings, stop)
    except (ProcessFailed, AuthorityError, StorageError, ModelError, KeyFileError, OSError) as error:
        _fail(f"{failed}: {error}", 2)


def _booth_did(ask: Literal["book", "enrol-case"], number: str, pictures: Path | None, as_json: bool) -> bool:
    """Have the booth's own process do it, where this device has processes of their own; whether it has."""
    if _interlock_socket() is None:
        return False
    if pictures is not None:
        _fail("the booth's process has the camera of its settings: --pictures is for a device in one process", 2)
    try:
        _say(ask_booth(_settings().interlock.socket.booth, Errand(ask=ask, number=number)), as_json)
    except ValidationError:
        _fail(f"refused ({ask}-number-malformed): {number!r} is no number of the records system")
    except BoothUnreachable as error:
        _fail(f"refused (booth-gone): {error}")
    return True


def _interlock_socket() -> Path | None:
    """The socket of the interlock's own process, where this device has one."""
    socket = _settings().interlock.socket.path
    return socket if socket.is_socket() else None


def _ask(socket: Path, request: Request) -> str:
    try:
        answer = ask(socket, request)
    except DaemonError as error:
        _fail(str(error), 2)
    if not answer.done:
        _fail(f"refused ({answer.reason}): {answer.message}")
    return answer.body


def _say(said: Said, as_json: bool) -> None:
    if said.outcome == "refused":
        if as_json:
            typer.echo(json.dumps({"outcome": "refused", "step": said.step, "reason": said.reason}))
            raise typer.Exit(1)
        _fail(f"refused ({said.reason}): {said.message}")
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
