"""`turnkey gallery`: import, stats, retain, rotate, graph. The exchange with other devices is in `gallery_pack`.

Thin: it reads arguments, calls, and prints.
"""

from __future__ import annotations

import csv
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich.console import Console
from rich.progress import Progress

from turnkey.booth_line import BoothUnreachable
from turnkey.commands.chosen import chosen_room, chosen_settings, fail, interlock_socket
from turnkey.commands.gallery_pack import add_packs
from turnkey.database import StorageError
from turnkey.gallery.rows import KEY_BYTES, PARTITIONS
from turnkey.gallery.snapshot import sync_folder
from turnkey.gallery.store import WrongKey
from turnkey.gallery_room import GalleryRoom
from turnkey.importing import Importer, ImportReport, ManifestError, from_folder, from_manifest
from turnkey.interlock.permit import Permit, Stopped
from turnkey.leads.policy import SignedPolicy
from turnkey.leads.records import Partition
from turnkey.recording import system_clocks
from turnkey.removal import Remover
from turnkey.removal_socket import Expunge, Gone, Retain, ask_to_remove, carry_out, removals_path

SETTLE_S = 5.0
"""How long a command waits for its first lease, or for the key's debounce."""
PartitionArgument = Annotated[str, typer.Argument(help="bookings or cases.")]


def gallery_app() -> typer.Typer:
    """The commands, on the gallery that the options chose."""
    app = typer.Typer(
        no_args_is_help=True,
        help="The gallery: bulk import, exchange with another Turnkey, key rotation, retention, figures.",
    )

    @app.command("import")
    def import_pictures(
        partition: PartitionArgument,
        folder: Annotated[Path | None, typer.Option(help="FOLDER/<reference>/<picture>.")] = None,
        manifest: Annotated[Path | None, typer.Option(help="CSV: file, reference, date.")] = None,
        report: Annotated[Path | None, typer.Option(help="Write what became of each file here, CSV.")] = None,
    ) -> None:
        """Enrol many pictures. Killed or stopped, call it again: what is done is passed over."""
        chosen = _partition(partition)
        try:
            if (folder is None) == (manifest is None):
                raise ManifestError("give a folder or a manifest")
            pictures = from_folder(folder) if folder is not None else from_manifest(cast(Path, manifest))
        except ManifestError as error:
            fail(str(error), 2)
        done = ImportReport()
        with chosen_room() as room, Progress(console=Console(stderr=True)) as progress:
            importer = _importer(room)
            task = progress.add_task("import", total=len(pictures))
            try:
                for so_far in importer.run(chosen, pictures):
                    done = so_far
                    progress.advance(task)
            except Stopped as stopped:
                fail(f"stopped ({stopped.reason}) after {len(done.outcomes) + done.passed_over} of {len(pictures)}")
            finally:
                if report is not None:
                    _write_report(report, done)
        for outcome, count in done.counts().items():
            typer.echo(f"{count:8d}  {outcome}")
        typer.echo(f"{done.passed_over:8d}  done before")

    @app.command()
    def stats() -> None:
        """Print how much each partition holds, and what it takes on disk, as JSON."""
        with chosen_room() as room:
            facts: dict[str, object] = {}
            with room.gallery.rows() as store:
                for name in PARTITIONS:
                    facts[name] = {"templates": len(store.numbers(name)), "references": store.references(name)}
                path = store.database.path
            files = [file for file in path.parent.iterdir() if file.name.startswith(path.name)]
            facts["bytes_on_disk"] = sum(file.stat().st_size for file in files)
        typer.echo(json.dumps(facts))

    @app.command()
    def retain() -> None:
        """Remove what retention has ended; a timer does it each day. Works in a moratorium as well."""
        for name, count in have_removed(Retain()).templates.items():
            typer.echo(f"{count} template(s) removed from {name}")

    @app.command()
    def rotate(new_key: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="32 random bytes.")]) -> None:
        """Encrypt the gallery with another key. Killed or stopped, call it again with the same key."""
        new = new_key.read_bytes()
        if len(new) != KEY_BYTES:
            fail(f"{new_key}: a gallery key is {KEY_BYTES} bytes", 2)
        with chosen_room() as room:
            permit = _permit(room)
            old = room.gallery_key.read_bytes() if room.gallery_key else bytes(permit.gallery_key())
            try:
                room.gallery.unlock(permit.gallery_key())
            except WrongKey:
                room.gallery.unlock(new)  # begun before, and cut short before the key's file was replaced
            try:
                if old != new and not room.gallery.rotation_pending:
                    room.gallery.rotate(old, new, permit)
                if room.gallery_key is not None:
                    _replace(room.gallery_key, new)
                room.gallery.continue_rotation(permit)
            except Stopped as stopped:
                fail(f"stopped ({stopped.reason}); call it again with the same key")
        typer.echo("every template is encrypted with the new key; the old one opens nothing")
        if room.gallery_key is None:
            typer.echo(f"now give it to the interlock: systemd-creds encrypt --name=gallery.key {new_key} -")

    @app.command()
    def graph(partition: PartitionArgument) -> None:
        """Build the graph that stands in where a scan exceeds its budget; it takes minutes a hundred thousand."""
        with chosen_room() as room:
            room.gallery.unlock(_permit(room).gallery_key())
            recall = room.gallery.build_graph(_partition(partition))
        typer.echo(f"measured recall {recall:.3f}")

    add_packs(app)
    return app


def have_removed(errand: Expunge | Retain) -> Gone:
    """Have the booth's process remove it where that runs; do it here where it does not."""
    gone: Gone | None = None
    if interlock_socket() is not None:
        with suppress(BoothUnreachable):
            gone = ask_to_remove(removals_path(chosen_settings().interlock.socket), errand)
    if gone is None:
        with chosen_room() as room:
            gone = carry_out(Remover(room.gallery, room.notary), errand)
    if gone.outcome == "refused":
        fail(f"refused ({gone.reason}): {gone.message}")
    return gone


def _importer(room: GalleryRoom) -> Importer:
    _permit(room)
    signed = room.policy()
    if not isinstance(signed, SignedPolicy):
        raise StorageError(signed.reason, signed.message)
    if room.model_id not in signed.policy.models:
        raise StorageError("model-not-permitted", f"the policy does not permit the model {room.model_id}")
    return Importer(
        room.gallery, room.analyzer, room.notary, system_clocks(), room.model_id, room.permit, signed.policy
    )


def _permit(room: GalleryRoom) -> Permit:
    deadline_s = time.monotonic() + SETTLE_S
    while True:
        try:
            return room.permit()
        except Stopped as stopped:
            if stopped.reason not in ("no-lease-yet", "notary-gone") or time.monotonic() > deadline_s:
                fail(f"refused ({stopped.reason}): recognition is stopped, and the gallery's key with it")
        time.sleep(0.02)


def _partition(name: str) -> Partition:
    if name not in get_args(Partition):
        fail(f"no partition {name!r}: {' or '.join(get_args(Partition))}", 2)
    return cast(Partition, name)


def _replace(path: Path, key: bytes) -> None:
    temporary = path.with_name(f"{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, key)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    sync_folder(path.parent)


def _write_report(path: Path, report: ImportReport) -> None:
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(["file", "outcome"])
        writer.writerows((str(file), outcome) for file, outcome in report.outcomes.items())
