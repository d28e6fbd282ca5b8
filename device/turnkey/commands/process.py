"""`turnkey run`: the processes of a device whose rooms are apart; systemd starts them.

Each reads its own rooms when it is named, and no others.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import typer

from turnkey.commands.settled import chosen_settings, fail
from turnkey.database import StorageError
from turnkey.envelope import KeyFileError
from turnkey.interlock.authority import AuthorityError
from turnkey.processes import ProcessFailed
from turnkey.settings import Settings

process_app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The processes of a device whose rooms are apart; systemd starts them.",
)


@process_app.command("interlock")
def run_interlock_process() -> None:
    """Watch the key and give out leases, as the unit turnkey-interlock does. Needs the notary's process."""
    from turnkey.interlock.process import run_interlock

    _run_process(run_interlock, "the interlock cannot go on, so nothing runs")


@process_app.command("notary")
def run_notary_process() -> None:
    """Keep the ledger and sign, as the unit turnkey-notary does."""
    from turnkey.notary_process import run_notary
    from turnkey.vision.manifest import ModelError

    _run_process(run_notary, "the notary cannot go on, so nothing is captured", ModelError)


@process_app.command("booth")
def run_booth_process() -> None:
    """Photograph, search and enrol, as the unit turnkey-booth does. Needs the processes of interlock and notary."""
    from turnkey.booth_process import run_booth
    from turnkey.vision.manifest import ModelError

    _run_process(run_booth, "the booth cannot go on, so nothing is captured", ModelError)


@process_app.command("update")
def run_update_process() -> None:
    """Look for updates once, as the unit turnkey-update does when its timer says so. Nothing to do without a server."""
    from turnkey.commands.update import run_update

    run_update()


@process_app.command("console")
def run_console_process() -> None:
    """Serve the officers' console to a browser on this machine, as the unit turnkey-console does."""
    from turnkey.console_process import run_console

    _run_process(run_console, "the console cannot go on")


def _run_process(process: Callable[[Settings, threading.Event], None], failed: str, *also: type[Exception]) -> None:
    """Run a process until systemd ends it; what it cannot go on from is said. `also`: exceptions of its own rooms."""
    settings, stop = chosen_settings(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ends: tuple[type[Exception], ...] = (ProcessFailed, AuthorityError, StorageError, KeyFileError, OSError, *also)
    try:
        process(settings, stop)
    except ends as error:
        fail(f"{failed}: {error}", 2)
