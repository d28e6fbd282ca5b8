"""`turnkey gallery export` and `turnkey gallery import-pack`: templates from one Turnkey to another, and nobody else.

Rules kept here:
1. A pack appears under its name once it is whole, signed and on disk. Until then it has another name, and goes again
   whatever comes in between.
2. What is there already is not overwritten.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from turnkey.booth_line import BoothUnreachable
from turnkey.commands.chosen import JsonOption, chosen_device, chosen_settings, fail, interlock_socket
from turnkey.envelope import MAX_ENVELOPE_BYTES, KeyFileError
from turnkey.gallery.snapshot import sync_folder
from turnkey.gallery_room import room_of
from turnkey.pack_socket import Export, Import, PackSaid, ask_for_pack, carry_out, packs_path
from turnkey.packs import Progress as Told
from turnkey.packs import pack_room
from turnkey.sealed import SealingKey

PACK_SUFFIX = ".tkpack"


def add_packs(app: typer.Typer) -> None:
    """Mount the two commands."""

    @app.command("export")
    def export_command(
        order: Annotated[
            Path, typer.Option(exists=True, dir_okay=False, help="The order that two people signed: `turnkeyctl pack`.")
        ],
        to: Annotated[Path, typer.Option(help=f"The pack: a new file, *{PACK_SUFFIX} by custom.")],
        receiver: Annotated[
            Path | None,
            typer.Option(
                "--for",
                exists=True,
                dir_okay=False,
                help="The other device's encryption.pub, as it was handed over: refused where the policy has another.",
            ),
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Encrypt a partition's templates for one other Turnkey, signed by this one.

        Nothing goes to anybody whom the policy in force does not name under `template_packs`, with the key that it
        has for them, and nothing without an order that a proposer and an approver signed (`turnkeyctl pack new`, then
        `sign`). Each order is good for one pack. Templates that came in a pack themselves, and what retention has
        ended, stay behind. The pack is opened by the other device alone: `turnkey gallery import-pack` there.

        What is expunged here afterwards is not expunged there: have the other station expunge it too.

        Recognition must be running: in a moratorium there is no key. A stop in between leaves no file. The export is
        on this device's ledger with the digest that the other's import will have. Exit code 1 where it is refused.
        """
        if order.stat().st_size > MAX_ENVELOPE_BYTES:
            fail(f"{order}: an order has at most {MAX_ENVELOPE_BYTES} bytes", 2)
        try:
            key = SealingKey.from_pem(receiver.read_bytes()).to_hex() if receiver else None
            errand = Export(order=order.read_text(), receiver=key)
        except (KeyFileError, UnicodeDecodeError) as error:
            fail(f"{receiver if isinstance(error, KeyFileError) else order}: {error}", 2)
        with _new_file(to) as file, _bar("export", as_json) as told:
            said = _done(errand, file, told)
            if said.outcome == "refused":
                _say(said, as_json)
        _say(said, as_json, to)

    @app.command("import-pack")
    def import_command(
        file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A pack that another Turnkey made.")],
        as_json: JsonOption = False,
    ) -> None:
        """Take the templates that another Turnkey exported for this one.

        The whole pack is verified before a single template enters: who signed it, the order inside it, every byte. A
        pack of another model, for another device, expired, used before, changed or cut short is refused, and the
        refusal is on the ledger with its reason. What holds is enrolled in small batches, each on disk and on the
        ledger; a template that this device's policy does not keep is left out, and counted by its reason.

        Stopped or killed, call it again with the same file, as long as its order is valid: it goes on where it was,
        and ends with every template enrolled once. After that the pack is used up. Exit code 1 where it is refused.

        A search is refused where a partition outgrows what the model's calibration supports: look at that before
        a large pack is taken (`turnkey gallery stats`).
        """
        try:
            with file.open("rb") as opened, _bar("import", as_json) as told:
                said = _done(Import(), opened, told)
        except OSError as error:
            fail(f"{file}: {error.strerror}", 2)
        _say(said, as_json)


def _done(errand: Export | Import, file: BinaryIO, told: Told) -> PackSaid:
    """Have the booth's process do it, where this device has processes of their own; do it here where it has not."""
    if interlock_socket() is None:
        with chosen_device() as device:
            return carry_out(pack_room(room_of(device)), errand, file, told)
    try:
        return ask_for_pack(packs_path(chosen_settings().interlock.socket), errand, file.fileno(), told)
    except BoothUnreachable as error:
        fail(f"refused (booth-gone): {error}")


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when all has gone well, and is gone where it has not."""
    if path.exists():
        fail(f"{path} is there already: name a new file", 2)
    draft = path.with_name(f".{path.name}.part")
    try:
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        fail(f"{draft}: {error.strerror}", 2)
    try:
        with os.fdopen(descriptor, "r+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _bar(what: str, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=as_json) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def _say(said: PackSaid, as_json: bool, file: Path | None = None) -> None:
    """Print what came of it; a refusal ends the command."""
    if as_json:
        typer.echo(json.dumps(said.model_dump(mode="json", exclude={"say"}, exclude_defaults=True)))
        if said.outcome == "refused":
            raise typer.Exit(1)
        return
    if said.outcome == "refused":
        fail(f"refused ({said.reason}): {said.message}")
    if said.outcome == "exported":
        typer.echo(f"{file}: {said.rows} template(s) of {said.partition}; only {said.device} opens it")
        counts = said.left
    else:
        typer.echo(f"{said.rows} template(s) of {said.device}'s {said.partition}, pack {said.pack_id}")
        counts = {
            "enrolled": said.enrolled,
            "enrolled before, by an import cut short": said.enrolled_before,
            **said.left,
        }
    for reason, count in counts.items():
        if count:
            typer.echo(f"{count:9d}  {reason}")
    typer.echo(f"digest on both ledgers: {said.digest}")
