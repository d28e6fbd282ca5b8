"""`turnkey run`: the processes of a device whose rooms are apart; systemd starts them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import typer

from turnkey.commands.chosen import chosen_settings, fail
from turnkey.commands.update import run_update
from turnkey.database import StorageError
from turnkey.envelope import KeyFileError
from turnkey.interlock.authority import AuthorityError
from turnkey.interlock.process import run_interlock
from turnkey.processes import ProcessFailed, run_booth, run_console, run_notary
from turnkey.settings import Settings
from turnkey.vision.manifest import ModelError

process_app = typer.Typer(
    no_args_is_help=True, help="The processes of a device whose rooms are apart; systemd starts them."
)


@process_app.command("interlock")
def run_interlock_process() -> None:
    """Watch the key and give out leases, as the unit turnkey-interlock does. Needs the notary's process."""
    _run_process(run_interlock, "the interlock cannot go on, so nothing runs")


@process_app.command("notary")
def run_notary_process() -> None:
    """Keep the ledger and sign, as the unit turnkey-notary does."""
    _run_process(run_notary, "the notary cannot go on, so nothing is captured")


@process_app.command("booth")
def run_booth_process() -> None:
    """Photograph, search and enrol, as the unit turnkey-booth does. Needs the processes of interlock and notary."""
    _run_process(run_booth, "the booth cannot go on, so nothing is captured")


process_app.command("update")(run_update)


@process_app.command("console")
def run_console_process() -> None:
    """Serve the officers' console to a browser on this machine, as the unit turnkey-console does."""
    _run_process(run_console, "the console cannot go on")


def _run_process(process: Callable[[Settings, threading.Event], None], failed: str) -> None:
    settings, stop = chosen_settings(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        process(settings, stop)
    except (ProcessFailed, AuthorityError, StorageError, ModelError, KeyFileError, OSError) as error:
        fail(f"{failed}: {error}", 2)
