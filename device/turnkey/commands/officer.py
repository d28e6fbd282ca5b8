"""`turnkey officer`: who may use the console. For root, on the device.

A PIN is typed twice, unseen, or read from standard input; it is never an argument, which other users could see.
"""

from __future__ import annotations

import contextlib
import grp
import json
import sys
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from turnkey.commands.chosen import JsonOption, chosen_settings, fail
from turnkey.console.officers import Officer, Officers, OfficersError, hashed, read_officers, weakness, write_officers

officer_app = typer.Typer(no_args_is_help=True, help="The officers who may sign in at the console. Run it as root.")

BadgeArgument = Annotated[str, typer.Argument(help="As on the badge: letters, digits and hyphens, at most 16.")]
TrainedOption = Annotated[
    datetime, typer.Option(formats=["%Y-%m-%d"], help="The day of the officer's last training on this device.")
]
StdinOption = Annotated[bool, typer.Option("--pin-stdin", help="Read the PIN from standard input, for scripts.")]


@officer_app.command()
def add(badge: BadgeArgument, trained: TrainedOption, pin_stdin: StdinOption = False) -> None:
    """Let an officer sign in, with a PIN of 6 to 12 digits."""
    with _changing() as (path, officers):
        if officers.find(badge) is not None:
            fail(f"{badge} is there already: `turnkey officer pin` changes the PIN, `trained` the training")
        officer = _officer(badge, trained.date(), hashed(_new_pin(pin_stdin)))
        _write(path, officers.including(officer))
    typer.echo(f"{badge} may sign in")


@officer_app.command()
def pin(badge: BadgeArgument, pin_stdin: StdinOption = False) -> None:
    """Give an officer a new PIN."""
    with _changing() as (path, officers):
        known = _known(officers, badge)
        _write(path, officers.including(known.model_copy(update={"pin": hashed(_new_pin(pin_stdin))})))
    typer.echo(f"{badge} has a new PIN")


@officer_app.command()
def trained(badge: BadgeArgument, on: TrainedOption) -> None:
    """Enter an officer's new training."""
    with _changing() as (path, officers):
        known = _known(officers, badge)
        _write(path, officers.including(known.model_copy(update={"trained_on": on.date()})))
    typer.echo(f"{badge} was trained on {on:%Y-%m-%d}")


@officer_app.command()
def remove(badge: BadgeArgument) -> None:
    """Let an officer sign in no longer. A session that is open ends with its next lock."""
    with _changing() as (path, officers):
        _known(officers, badge)
        _write(path, officers.without(badge))
    typer.echo(f"{badge} may no longer sign in")


@officer_app.command("list")
def list_officers(as_json: JsonOption = False) -> None:
    """Show who may sign in, and when each was trained."""
    try:
        officers = read_officers(chosen_settings().console.officers).officers
    except OfficersError as error:
        fail(str(error))
    if as_json:
        facts = [{"badge": officer.badge, "trained_on": officer.trained_on.isoformat()} for officer in officers]
        typer.echo(json.dumps({"officers": facts}))
        return
    table = Table("badge", "trained on")
    for officer in officers:
        table.add_row(officer.badge, officer.trained_on.isoformat())
    Console().print(table)


@contextlib.contextmanager
def _changing() -> Iterator[tuple[Path, Officers]]:
    """The file and what it holds; nobody where there is none yet."""
    path = chosen_settings().console.officers
    try:
        yield path, read_officers(path) if path.exists() else Officers()
    except OfficersError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}. Run this as root.")


def _write(path: Path, officers: Officers) -> None:
    """Write the file, readable for the console's user where this machine has one."""
    group: int | None = None
    with contextlib.suppress(KeyError):
        group = grp.getgrnam(chosen_settings().interlock.socket.console_user).gr_gid
    write_officers(path, officers, group)


def _known(officers: Officers, badge: str) -> Officer:
    known = officers.find(badge)
    if known is None:
        fail(f"there is no officer {badge}")
    return known


def _officer(badge: str, trained_on: date, pin_hash: str) -> Officer:
    try:
        return Officer(badge=badge, pin=pin_hash, trained_on=trained_on)
    except ValidationError:
        fail(f"{badge!r} is no badge number: letters, digits and hyphens, at most 16", 2)


def _new_pin(from_stdin: bool) -> str:
    if from_stdin:
        chosen = sys.stdin.readline().strip()
    else:
        chosen = typer.prompt("PIN", hide_input=True, confirmation_prompt=True)
    found = weakness(chosen)
    if found is not None:
        fail(f"that PIN is refused: {found}")
    return chosen
