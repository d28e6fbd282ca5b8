"""`turnkeyctl audit`: what can be proved from an export, and the reports that are drawn from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress
from typer.core import TyperGroup

from turnkey.envelope import KeyFileError, PublicKey
from turnkey.notary.note import KeyType, NoteError, NoteKey, Verifier
from turnkey_tools.audit import view
from turnkey_tools.audit.auditor import Audit, Evidence, Observer
from turnkey_tools.audit.auditor import audit as run_audit
from turnkey_tools.audit.export_file import ExportFile, NotAnExport
from turnkey_tools.audit.intervals import GAP_S, IN_TIME_S, Limits, Verdict
from turnkey_tools.audit.witnessed import WitnessFileError
from turnkey_tools.leads.keys import KeysError, device_keys

EXIT = {Verdict.PROVEN: 0, Verdict.VIOLATION: 1, Verdict.LATE: 3, Verdict.UNKNOWN: 3}
UNREADABLE = 2


class _LedgerByDefault(TyperGroup):
    """`turnkeyctl audit EXPORT` is `turnkeyctl audit ledger EXPORT`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "--install-completion"):
            args = ["ledger", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_LedgerByDefault,
    no_args_is_help=True,
    help="Check a device's history offline, with public keys, an export and a witness's file. "
    "`turnkeyctl audit EXPORT --keys KEYS` is `turnkeyctl audit ledger EXPORT --keys KEYS`.",
)

ExportArgument = Annotated[
    Path, typer.Argument(help="What `turnkey ledger export` wrote.", exists=True, dir_okay=False)
]
KeysOption = Annotated[Path, typer.Option("--keys", help="The device's public key: a file, or a folder of ID.pub.")]
WitnessOption = Annotated[
    Path | None, typer.Option("--witness", help="What `turnkeyctl witness export` wrote.", exists=True, dir_okay=False)
]
WitnessKeyOption = Annotated[
    str | None, typer.Option("--witness-key", help="The witness's verifier key, or a file that holds it.")
]
SinceOption = Annotated[datetime | None, typer.Option("--from", help="Begin here (UTC).")]
UntilOption = Annotated[datetime | None, typer.Option("--to", help="End here (UTC).")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")]


@app.command("ledger")
def ledger(
    export: ExportArgument,
    keys: KeysOption,
    witness: WitnessOption = None,
    witness_key: WitnessKeyOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    gap: Annotated[float, typer.Option(help="Silence for longer is UNKNOWN, seconds.")] = GAP_S,
    in_time: Annotated[float, typer.Option(help="Witnessed later than this is LATE-ATTESTED, seconds.")] = IN_TIME_S,
    html: Annotated[Path | None, typer.Option(help="Also write a page with a timeline, in one file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say for each interval what can be proved: PROVEN, LATE-ATTESTED, UNKNOWN or VIOLATION, and which entries say so.

    Nothing is asked of the device or of any network. Exit code: 0 all of it PROVEN; 1 a VIOLATION; 3 none, but some of
    it LATE-ATTESTED or UNKNOWN; 2 a file could not be used.
    """
    with evidence_errors():
        found = checked(evidence(export, keys, witness, witness_key), since, until, Limits(gap, in_time))
        if html is not None:
            view.write_page(found, html)
    typer.echo(view.as_json(found)) if as_json else view.show(found, Console())
    raise typer.Exit(EXIT[found.verdict])


def evidence(export: Path, keys: Path, witness: Path | None, witness_key: str | None) -> Evidence:
    """The files and keys that the options name.

    Raises:
        KeysError, KeyFileError, NoteError, NotAnExport, OSError: one cannot be used.
    """
    if (witness is None) != (witness_key is None):
        raise KeysError("--witness and --witness-key go together: a witness is believed by its key")
    file = ExportFile(export)
    file.close()
    if keys.is_dir():
        known = device_keys(keys)
        if file.head.device_id not in known:
            raise KeysError(f"{keys}: no {file.head.device_id}.pub here")
        key = known[file.head.device_id]
    else:
        key = PublicKey.from_pem(keys.read_bytes())
    if witness is None or witness_key is None:
        return Evidence(export, key)
    text = Path(witness_key).read_text() if Path(witness_key).is_file() else witness_key
    verifier_key = NoteKey.from_text(text)
    if verifier_key.type is not KeyType.WITNESS:
        raise KeysError("--witness-key is not a witness's key (tlog-cosignature/v1)")
    return Evidence(export, key, (witness, Verifier(verifier_key)))


def checked(
    what: Evidence,
    since: datetime | None,
    until: datetime | None,
    limits: Limits | None = None,
    observers: tuple[Observer, ...] = (),
) -> Audit:
    """The audit, with a bar on standard error while it runs."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("entries", total=None)
        return run_audit(
            what,
            since=utc(since),
            until=utc(until),
            limits=limits,
            observers=observers,
            progress=lambda done, of: progress.update(task, completed=done, total=of),
        )


@contextmanager
def evidence_errors() -> Iterator[None]:
    """What cannot be used is said, and ends the command with 2."""
    try:
        yield
    except (KeysError, KeyFileError, NoteError, NotAnExport, WitnessFileError, OSError) as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(f"cannot be audited: {message}", err=True)
    raise typer.Exit(UNREADABLE)


def utc(moment: datetime | None) -> datetime | None:
    """A time given without its offset is UTC."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
