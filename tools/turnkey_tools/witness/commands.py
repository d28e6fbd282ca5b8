"""`turnkeyctl witness`: hold a device to its history from somewhere else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from turnkey.database import StorageError
from turnkey.envelope import KeyFileError, SigningKey
from turnkey.notary.note import KeyType, NoteError, NoteKey
from turnkey_tools.audit.export_file import NotAnExport
from turnkey_tools.authority import write_new
from turnkey_tools.leads.keys import KeysError, device_keys
from turnkey_tools.provision import Site, SiteError, enlist_witness
from turnkey_tools.witness.judge import Fork, Refused, Verdict
from turnkey_tools.witness.store import Store
from turnkey_tools.witness.witness import EVERY_S, Subscription, Witness

app = typer.Typer(
    no_args_is_help=True,
    help="Hold devices to their history: cosign their checkpoints (C2SP tlog-cosignature/v1), remember every one.",
)

Folder = Annotated[Path, typer.Argument(help="The witness's folder, from `turnkeyctl witness new`.", file_okay=False)]
HostOption = Annotated[str, typer.Option(help="The broker.")]
PortOption = Annotated[int, typer.Option(help="The broker's port.")]
EveryOption = Annotated[int, typer.Option(min=1, help="At least so many seconds between two cosignatures.")]


@app.command("new")
def new(
    folder: Annotated[Path, typer.Argument(help="A new folder for the witness's key and memory.")],
    name: Annotated[str, typer.Option(help="Its name on cosignatures: an address without scheme, say.")],
    keys: Annotated[Path, typer.Option(help="Folder with one ID.pub for each device to watch.", file_okay=False)],
) -> None:
    """Make a witness: a key of its own, an empty memory, and the devices that it watches. Prints its verifier key."""
    with _refusals():
        key = SigningKey.generate()
        verifier_key = NoteKey(name, KeyType.WITNESS, key.public).to_text()
        watched = device_keys(keys)
        (folder / "devices").mkdir(mode=0o700, parents=True)
        write_new(folder / "witness.key", key.to_pem(), private=True)
        write_new(folder / "witness.vkey", f"{verifier_key}\n".encode())
        for device_id, public in watched.items():
            write_new(folder / "devices" / f"{device_id}.pub", public.to_pem())
        Store(folder / "memory.db").__exit__()
    typer.echo(verifier_key)


@app.command("enlist")
def enlist(site: Annotated[Path, typer.Argument(help="A site made by `turnkeyctl provision`.")]) -> None:
    """Give a witness a certificate at a site's broker, for attestations and nothing else: SITE/witness/."""
    with _refusals():
        identity = enlist_witness(Site(site))
    typer.echo(f"{identity.certificate.parent}: take it to the witness; the broker reads its access list on SIGHUP")


@app.command("watch")
def watch(
    folder: Folder,
    site: Annotated[Path, typer.Option(help="The site's folder: ca.pem and witness/, from `enlist`.")],
    host: HostOption = "127.0.0.1",
    port: PortOption = 8883,
    wait: Annotated[float, typer.Option(help="End after so many quiet seconds; 0: run until interrupted.")] = 0.0,
    every: EveryOption = EVERY_S,
) -> None:
    """Listen at a broker and cosign. Exit code 1 where a device was caught with two histories."""
    caught = 0
    with _witness(folder, every) as witness, Subscription(Site(site).witness, host, port, witness) as subscription:
        while (verdict := subscription.next(wait or 60.0)) is not None or not wait:
            caught += isinstance(verdict, Fork)
            if verdict is not None:
                _tell(verdict)
    raise typer.Exit(1 if caught else 0)


@app.command("take")
def take(
    folder: Folder,
    files: Annotated[list[Path], typer.Argument(help="Attestations as published, one envelope a line.")],
    every: EveryOption = EVERY_S,
) -> None:
    """Take attestations from files instead of a broker."""
    with _witness(folder, every) as witness:
        verdicts = [verdict for file in files for verdict in witness.take(file.read_bytes().splitlines())]
    for verdict in verdicts:
        _tell(verdict)
    raise typer.Exit(1 if any(isinstance(verdict, Fork) for verdict in verdicts) else 0)


@app.command("catch-up")
def catch_up(folder: Folder, export: Annotated[Path, typer.Argument(exists=True, dir_okay=False)]) -> None:
    """Follow a device again, where attestations never came, by an export of its ledger."""
    with _witness(folder, EVERY_S) as witness:
        verdict = witness.catch_up(export)
    _tell(verdict)
    raise typer.Exit(0 if not isinstance(verdict, Fork | Refused) else 1)


@app.command("export")
def export(
    folder: Folder,
    device_id: Annotated[str, typer.Argument(help="The device.")],
    out: Annotated[Path, typer.Option(help="The file to write.", dir_okay=False)],
) -> None:
    """Write what the witness saw of a device, for `turnkeyctl audit --witness`."""
    with _witness(folder, EVERY_S) as witness:
        draft = out.with_name(f"{out.name}.draft")
        draft.write_text(witness.testimony(device_id))
        draft.replace(out)
    typer.echo(f"{out}; believe it by {folder / 'witness.vkey'}")


@app.command("show")
def show(folder: Folder, as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Show the largest tree of each device, and who was caught."""
    facts = {}
    with _witness(folder, EVERY_S) as witness:
        for device_id in witness.store.devices():
            newest, (last_s, _) = witness.store.newest(device_id), witness.store.cosigned_last(device_id)
            assert newest is not None  # noqa: S101 - a device is listed by what was seen of it
            facts[device_id] = {
                "entries": newest.checkpoint.size,
                "root": newest.checkpoint.root.hex(),
                "cosigned_at": last_s,
                "forks": len(witness.store.forks(device_id)),
                "refused": witness.store.refusals(device_id),
            }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for device_id, known in facts.items():
        typer.echo(f"{device_id}: {', '.join(f'{name} {value}' for name, value in known.items())}")


@contextmanager
def _witness(folder: Path, every_s: int) -> Iterator[Witness]:
    with _refusals():
        name = NoteKey.from_text((folder / "witness.vkey").read_text()).name
        key = SigningKey.from_pem((folder / "witness.key").read_bytes())
        with Store(folder / "memory.db") as store:
            yield Witness(name, key, device_keys(folder / "devices"), store, lambda: int(time.time()), every_s)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (KeysError, KeyFileError, NoteError, NotAnExport, SiteError, StorageError, OSError) as error:
        typer.echo(f"refused: {error}", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _tell(verdict: Verdict) -> None:
    match verdict:
        case Fork(device_id):
            typer.echo(
                f"{device_id}: TWO HISTORIES, both signed: keep the witness's file, take the device out of service"
            )
        case Refused(device_id, reason, detail) if reason != "duplicate":
            typer.echo(f"{device_id or '?'}: not believed ({reason}): {detail}", err=True)
