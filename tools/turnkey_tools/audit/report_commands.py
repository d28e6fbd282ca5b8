"""`turnkeyctl audit report` and `turnkeyctl audit discovery`: what the laws ask for, drawn from a verified ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from turnkey_tools.audit import discovery, transparency
from turnkey_tools.audit.commands import (
    EXIT,
    ExportArgument,
    JsonOption,
    KeysOption,
    SinceOption,
    UntilOption,
    WitnessKeyOption,
    WitnessOption,
    checked,
    evidence,
    evidence_errors,
    utc,
)
from turnkey_tools.audit.commands import app as app
from turnkey_tools.audit.statistics import Statistics

OutOption = Annotated[Path, typer.Option("--out", help="The folder to write to; made where there is none.")]


@app.command("report")
def report(
    export: ExportArgument,
    keys: KeysOption,
    out: OutOption,
    witness: WitnessOption = None,
    witness_key: WitnessKeyOption = None,
    year: Annotated[int | None, typer.Option(help="A calendar year (UTC), in place of --from and --to.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
) -> None:
    """Write the transparency report: report.html and report.csv.

    Searches by offence category and outcome, refusals by reason, leads, stops and their length, thresholds and quality,
    versions. The ledger is verified first, and the report says how far it could be. Exit code as `audit ledger`.
    """
    if year is not None:
        since, until = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    since, until = utc(since), utc(until)
    counted = Statistics(since.timestamp() if since else float("-inf"), until.timestamp() if until else float("inf"))
    with evidence_errors():
        found = checked(evidence(export, keys, witness, witness_key), since, until, observers=(counted.take,))
        lines = transparency.figures(found, counted)
        title = f"Transparency report {year}" if year is not None else "Transparency report"
        out.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("report.html", transparency.page(found, lines, title)),
            ("report.csv", transparency.as_csv(lines)),
        ):
            draft = out / f"{name}.draft"
            draft.write_text(text, newline="")
            draft.replace(out / name)
    typer.echo(f"{out / 'report.html'}, {out / 'report.csv'}: {len(lines)} figures; the history is {found.verdict}")
    raise typer.Exit(EXIT[found.verdict])


@app.command("discovery")
def discover(
    number: Annotated[str, typer.Argument(help="A case number (or a booking number).")],
    export: ExportArgument,
    keys: KeysOption,
    witness: WitnessOption = None,
    witness_key: WitnessKeyOption = None,
    html: Annotated[Path | None, typer.Option(help="Also write the pack as a page, in one file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say all that the device did about one number: system, versions, databases, thresholds, results, "none" too.

    Exit code as `audit ledger`: it says how far the history that this was drawn from can be believed.
    """
    case = discovery.CaseFile(number)
    with evidence_errors():
        found = checked(evidence(export, keys, witness, witness_key), None, None, observers=(case.take,))
        if html is not None:
            draft = html.with_name(f"{html.name}.draft")
            draft.write_text(discovery.page(found, case))
            draft.replace(html)
    if as_json:
        typer.echo(discovery.as_json(found, case))
    else:
        for line in case.lines:
            facts = ", ".join(f"{name} {value}" for name, value in line.facts.items())
            typer.echo(f"{line.at[:19]} entry {line.index}: {line.what}{f' ({facts})' if facts else ''}")
        if not case.lines:
            typer.echo(f"none: the ledger holds nothing about {number}")
        typer.echo(f"{case.searches_against} searches of others were compared with it, {case.named} named it in a lead")
        typer.echo(f"the history this was drawn from is {found.verdict}")
    raise typer.Exit(EXIT[found.verdict])
