"""`turnkey gallery`: import, stats, retain, rotate, graph. Thin: it reads arguments, calls, and prints."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, NoReturn, cast, get_args

import typer
from rich.console import Console
from rich.progress import Progress

from turnkey.database import StorageError
from turnkey.device import Device
from turnkey.gallery.rows import KEY_BYTES, PARTITIONS
from turnkey.gallery.snapshot import sync_folder
from turnkey.gallery.store import WrongKey
from turnkey.importing import Importer, ImportReport, ManifestError, from_folder, from_manifest
from turnkey.interlock.permit import Permit, Stopped
from turnkey.leads.policy import SignedPolicy
from turnkey.leads.records import Expunged, Partition
from turnkey.recording import system_clocks

Opened = Callable[[], AbstractContextManager[Device]]
PartitionArgument = Annotated[str, typer.Argument(help="bookings or cases.")]


def gallery_app(opened: Opened) -> typer.Typer:
    """The commands, on a device that `opened` opens."""
    app = typer.Typer(no_args_is_help=True, help="The gallery: bulk import, key rotation, retention, figures.")

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
            _fail(str(error), 2)
        done = ImportReport()
        with opened() as device, Progress(console=Console(stderr=True)) as progress:
            importer = _importer(device)
            task = progress.add_task("import", total=len(pictures))
            try:
                for so_far in importer.run(chosen, pictures):
                    done = so_far
                    progress.advance(task)
            except Stopped as stopped:
                _fail(f"stopped ({stopped.reason}) after {len(done.outcomes) + done.passed_over} of {len(pictures)}")
            finally:
                if report is not None:
                    _write_report(report, done)
        for outcome, count in done.counts().items():
            typer.echo(f"{count:8d}  {outcome}")
        typer.echo(f"{done.passed_over:8d}  done before")

    @app.command()
    def stats() -> None:
        """Print how much each partition holds, and what it takes on disk, as JSON."""
        with opened() as device:
            facts: dict[str, object] = {}
            with device.gallery.rows() as store:
                for name in PARTITIONS:
                    facts[name] = {"templates": len(store.numbers(name)), "references": store.references(name)}
                path = store.database.path
            files = [file for file in path.parent.iterdir() if file.name.startswith(path.name)]
            facts["bytes_on_disk"] = sum(file.stat().st_size for file in files)
        typer.echo(json.dumps(facts))

    @app.command()
    def retain() -> None:
        """Remove what retention has ended. Works in a moratorium as well."""
        with opened() as device:
            for name in get_args(Partition):
                removed = device.gallery.retain(name, system_clocks().utc_now())
                for row in removed:
                    device.notary.record(Expunged(partition=name, row=row, reason="retention-ended"))
                typer.echo(f"{len(removed)} template(s) removed from {name}")

    @app.command()
    def rotate(new_key: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="32 random bytes.")]) -> None:
        """Encrypt the gallery with another key. Killed or stopped, call it again with the same key."""
        new = new_key.read_bytes()
        if len(new) != KEY_BYTES:
            _fail(f"{new_key}: a gallery key is {KEY_BYTES} bytes", 2)
        with opened() as device:
            permit = _permit(device)
            old = device.settings.gallery_key.read_bytes()
            try:
                device.gallery.unlock(permit.gallery_key())
            except WrongKey:
                device.gallery.unlock(new)  # begun before, and cut short before the key's file was replaced
            try:
                if old != new and not device.gallery.rotation_pending:
                    device.gallery.rotate(old, new, permit)
                _replace(device.settings.gallery_key, new)
                device.gallery.continue_rotation(permit)
            except Stopped as stopped:
                _fail(f"stopped ({stopped.reason}); call it again with the same key")
        typer.echo("every template is encrypted with the new key; the old one opens nothing")

    @app.command()
    def graph(partition: PartitionArgument) -> None:
        """Build the graph that stands in where a scan exceeds its budget; it takes minutes a hundred thousand."""
        with opened() as device:
            device.gallery.unlock(_permit(device).gallery_key())
            recall = device.gallery.build_graph(_partition(partition))
        typer.echo(f"measured recall {recall:.3f}")

    return app


def _importer(device: Device) -> Importer:
    signed = device.policy()
    if not isinstance(signed, SignedPolicy):
        raise StorageError(signed.reason, signed.message)
    if device.model_id not in signed.policy.models:
        raise StorageError("model-not-permitted", f"the policy does not permit the model {device.model_id}")
    return Importer(
        device.gallery,
        device.analyzer,
        device.notary,
        system_clocks(),
        device.model_id,
        device.interlock.permit,
        signed.policy,
    )


def _permit(device: Device) -> Permit:
    try:
        return device.interlock.permit()
    except Stopped as stopped:
        _fail(f"refused ({stopped.reason}): recognition is stopped, and the gallery's key with it")


def _partition(name: str) -> Partition:
    if name not in get_args(Partition):
        _fail(f"no partition {name!r}: {' or '.join(get_args(Partition))}", 2)
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


def _fail(message: str, code: int = 1) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)
