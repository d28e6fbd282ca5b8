"""`turnkey ledger`: hand the ledger to somebody who does not trust this device. Needs no process, and disturbs none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from turnkey.commands.chosen import JsonOption, chosen_settings, fail, interlock_socket
from turnkey.database import StorageError
from turnkey.notary.export import stretch, write_export
from turnkey.notary.journal import Journal

ledger_app = typer.Typer(no_args_is_help=True, help="Hand the ledger to somebody who does not trust this device.")

Since = Annotated[datetime | None, typer.Option("--from", help="Begin with the last boot before this time (UTC).")]
Until = Annotated[datetime | None, typer.Option("--to", help="End with the first heartbeat after this time (UTC).")]


@ledger_app.command("export")
def export(
    out: Annotated[Path, typer.Argument(help="The file to write.", dir_okay=False)],
    since: Since = None,
    until: Until = None,
    as_json: JsonOption = False,
) -> None:
    """Write the ledger, or the part of it around a time, to a file for `turnkeyctl audit`.

    Everything up to the newest signed checkpoint is in it; what lies behind that is at most a minute old. The file
    holds counts, codes and times, and no name, no picture and no template.
    """
    with _journal() as journal, Progress(console=Console(stderr=True), transient=True) as progress:
        what = stretch(journal, _utc(since), _utc(until))
        task = progress.add_task("entries", total=what.size - what.first)
        write_export(
            journal, chosen_settings().device_id, what, out, lambda done: progress.update(task, completed=done)
        )
    facts = {"file": str(out), "first": what.first, "size": what.size, "checkpoint_size": what.checkpoint.size}
    typer.echo(json.dumps(facts) if as_json else f"{out}: entries {what.first} to {what.size - 1}")


@ledger_app.command("checkpoint")
def checkpoint() -> None:
    """Print the newest signed checkpoint (a C2SP signed note): size and root of the ledger, for a witness."""
    with _journal() as journal:
        newest = journal.checkpoint()
    if newest is None:
        fail("no checkpoint was signed yet: let the device run for a minute")
    typer.echo(newest.note, nl=False)


@contextmanager
def _journal() -> Iterator[Journal]:
    settings = chosen_settings()
    path = settings.state / "ledger.db"
    if interlock_socket() is not None:
        path = settings.interlock.socket.notary_state / "ledger.db"
    if not path.is_file():
        fail(f"{path}: there is no ledger here; has this device ever run?", 2)
    try:
        journal = Journal(path)
        try:
            yield journal
        finally:
            journal.close()
    except (StorageError, OSError) as error:
        fail(f"refused: {error}")


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
