"""`turnkeyctl leads list|show|review|close|export|verify|audit|examiner`: casework on a terminal. See casebook.py.

An examiner is a key file of their own, registered once under their name; a login that several people share is nobody's
signature. Looking needs no key, and is on the trail under the login name.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from turnkey.database import StorageError
from turnkey.envelope import KeyFileError, PublicKey, SigningKey
from turnkey_tools.authority import write_new
from turnkey_tools.leads import casework_view, discovery
from turnkey_tools.leads.casebook import Casebook, CasebookError, broken_at, lead_of
from turnkey_tools.leads.keys import KeysError, device_keys
from turnkey_tools.leads.review import Case, ExaminerName, Refusal
from turnkey_tools.leads.store import Received, Store

SiteOption = Annotated[Path | None, typer.Option(help="a site made by `turnkeyctl provision`")]
DeskOption = Annotated[str, typer.Option(help="the desk's name")]
StoreOption = Annotated[Path | None, typer.Option(help="the desk's memory (without --site)")]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON object, for machines")]
KeyOption = Annotated[Path, typer.Option(help="the examiner's private key, PEM", exists=True, dir_okay=False)]
LeadArgument = Annotated[str, typer.Argument(metavar="LEAD", help="the lead's id, or its beginning")]

_SITE: SiteOption = None
_STORE: StoreOption = None


class _Refused(Exception):
    """What was asked cannot be done; the message is for a person."""


@contextmanager
def _casebook(site: Path | None, desk: str, store: Path | None) -> Iterator[tuple[Store, Casebook]]:
    """Open the desk's store. What is refused ends the command with exit code 1, what cannot be opened with 2."""
    note = Console(stderr=True)
    path = store or (site / "desks" / desk / "leads.db" if site else None)
    if path is None or not path.parent.is_dir():
        note.print("refused: give --site, or --store", markup=False)
        raise typer.Exit(2)
    try:
        with Store(path) as memory:
            yield memory, Casebook(memory, getpass.getuser())
    except (_Refused, CasebookError, KeyFileError, ValidationError) as error:
        note.print(f"refused: {error}", markup=False)
        raise typer.Exit(1) from error
    except (StorageError, KeysError, OSError) as error:
        note.print(f"refused: {error}", markup=False)
        raise typer.Exit(2) from error


def _one(store: Store, beginning: str) -> Received:
    found = store.find(beginning)
    if len(found) != 1:
        raise _Refused(f"{len(found) or 'no'} leads begin with {beginning!r}: give more of the id, see `leads list`")
    return found[0]


def _held(outcome: Case | Refusal) -> Case:
    if isinstance(outcome, Refusal):
        raise _Refused(casework_view.WHY[outcome])
    return outcome


def list_leads(
    site: SiteOption = _SITE,
    desk: DeskOption = "lead-desk",
    store: StoreOption = _STORE,
    still_open: Annotated[bool, typer.Option("--open", help="without the closed ones")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the leads that arrived, with where each of them stands, and the numbers that are missing."""
    with _casebook(site, desk, store) as (memory, book):
        rows = [(received, lead_of(received), book.case(received)) for received in memory.received()]
        rows = [row for row in rows if not (still_open and row[2].closing)]
        missing = {device: memory.missing(device) for device in sorted({lead.device_id for _, lead, _ in rows})}
        book.note("listed")
    if as_json:
        typer.echo(casework_view.list_json(rows, missing))
    else:
        Console().print(casework_view.table(rows, missing))


def show(
    lead: LeadArgument,
    site: SiteOption = _SITE,
    desk: DeskOption = "lead-desk",
    store: StoreOption = _STORE,
    as_json: JsonOption = False,
) -> None:
    """Show one lead. Verdicts are shown once both examiners have signed theirs."""
    with _casebook(site, desk, store) as (memory, book):
        received = _one(memory, lead)
        case = book.case(received)
        book.note("shown", received.lead_id)
    if as_json:
        typer.echo(casework_view.lead_json(received, case))
    else:
        Console().print(casework_view.panel(received, case))


def review(
    lead: LeadArgument,
    key: KeyOption,
    confirm: Annotated[
        int | None, typer.Option(min=1, help="rank of the candidate whose pictures show the same person as the probe")
    ] = None,
    reject: Annotated[bool, typer.Option("--reject", help="no candidate's pictures do")] = False,
    note: Annotated[str, typer.Option(help="what the comparison rests on")] = "",
    site: SiteOption = _SITE,
    desk: DeskOption = "lead-desk",
    store: StoreOption = _STORE,
    as_json: JsonOption = False,
) -> None:
    """Sign your verdict on a lead, after comparing the pictures in the records system. It is final."""
    with _casebook(site, desk, store) as (memory, book):
        if (confirm is None) == (not reject):
            raise _Refused("give --confirm RANK or --reject")
        received = _one(memory, lead)
        case = _held(book.examine(received, SigningKey.from_pem(key.read_bytes()), confirm, note))
    _say({"lead_id": case.lead_id, "state": case.shown}, as_json)


def close(
    lead: LeadArgument,
    key: KeyOption,
    evidence: Annotated[
        str | None, typer.Option(help="reference, in the records system, to evidence that is not this lead")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="why the lead is not followed")] = None,
    site: SiteOption = _SITE,
    desk: DeskOption = "lead-desk",
    store: StoreOption = _STORE,
    as_json: JsonOption = False,
) -> None:
    """Close a lead: with independent evidence where two examiners confirmed it, else with a reason."""
    with _casebook(site, desk, store) as (memory, book):
        received = _one(memory, lead)
        case = _held(book.close(received, SigningKey.from_pem(key.read_bytes()), evidence, reason))
    _say({"lead_id": case.lead_id, "state": case.shown}, as_json)


def export(
    lead: LeadArgument,
    out: Annotated[Path, typer.Option(help="the file to write; it must not exist")],
    site: SiteOption = _SITE,
    desk: DeskOption = "lead-desk",
    store: StoreOption = _STORE,
) -> None:
    """Write a lead's file for discovery: the signed envelopes and the trail, to be checked by `leads verify`."""
    with _casebook(site, desk, store) as (memory, book):
        received = _one(memory, lead)
        book.note("exported", received.lead_id)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        case, actions = book.case(received), book.actions(received.lead_id)
        document = discovery.pack(received, case, actions, book.examiners(), book.trail(), now)
        write_new(out, document.model_dump_json(indent=2).encode(), private=True)
    typer.echo(f"{out}: lead {received.lead_id}, {document.state}")


def verify(
    file: Annotated[Path, typer.Argument(help="written by `leads export`", exists=True, dir_okay=False)],
    keys: Annotated[Path, typer.Option("--device-keys", help="directory of the devices' ID.pub")],
    examiner_keys: Annotated[
        Path | None, typer.Option(help="directory of the examiners' NAME.pub; without it the file's own word is taken")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a discovery file by public keys alone: signatures, the order of the actions, the trail. Exit 0 or 1."""
    try:
        examiners = _public_keys(examiner_keys) if examiner_keys else None
        document, findings = discovery.check(file.read_bytes(), device_keys(keys), examiners)
    except (KeysError, KeyFileError, OSError) as error:
        typer.echo(f"refused: {error}", err=True)
        raise typer.Exit(2) from error
    state = document.state if document else None
    if as_json:
        typer.echo(json.dumps({"holds": not findings, "state": state, "findings": findings}))
    else:
        typer.echo("\n".join(findings) or f"holds: signed by the device, {state}, the trail is whole")
        if examiners is None and not findings:
            typer.echo("the examiners' keys are the file's own: give --examiner-keys to check who they are")
    raise typer.Exit(1 if findings else 0)


def audit(
    site: SiteOption = _SITE, desk: DeskOption = "lead-desk", store: StoreOption = _STORE, as_json: JsonOption = False
) -> None:
    """Show the desk's trail: who saw, examined, closed and handed out what. Exit 1 where the chain is broken."""
    with _casebook(site, desk, store) as (_, book):
        trail = book.trail()
    broken = broken_at(trail)
    if as_json:
        typer.echo(
            json.dumps({"whole": broken is None, "broken_at": broken, "entries": [kept.facts for kept in trail]})
        )
    else:
        Console().print(casework_view.trail(trail))
        typer.echo(f"{len(trail)} entries; " + ("the chain is whole" if broken is None else f"BROKEN at {broken}"))
    raise typer.Exit(0 if broken is None else 1)


def examiner(
    name: Annotated[str, typer.Argument(help="as in the staff directory: lower-case letters, digits, dots, hyphens")],
    key: Annotated[Path | None, typer.Option(help="where the new private key goes; it must not exist")] = None,
    public: Annotated[Path | None, typer.Option(help="register a public key that was made elsewhere")] = None,
    site: SiteOption = _SITE,
    desk: DeskOption = "lead-desk",
    store: StoreOption = _STORE,
) -> None:
    """Register an examiner: with a new key pair in a file that only the examiner keeps, or with a public key."""
    with _casebook(site, desk, store) as (_, book):
        if (key is None) == (public is None):
            raise _Refused("give --key FILE for a new key, or --public FILE for one made elsewhere")
        TypeAdapter(ExaminerName).validate_python(name)
        if name in book.examiners():
            raise _Refused(f"{name} is registered already")
        if public is not None:
            book.register(name, PublicKey.from_pem(public.read_bytes()))
        elif key is not None:
            secret = SigningKey.generate()
            write_new(key, secret.to_pem(), private=True)
            write_new(key.with_suffix(".pub"), secret.public.to_pem(), private=False)
            book.register(name, secret.public)
    typer.echo(f"{name} may examine leads")


def _public_keys(folder: Path) -> dict[str, PublicKey]:
    return {file.stem: PublicKey.from_pem(file.read_bytes()) for file in sorted(folder.glob("*.pub"))}


def _say(facts: dict[str, Any], as_json: bool) -> None:
    typer.echo(json.dumps(facts) if as_json else f"lead {facts['lead_id'][:12]}: {facts['state']}")
