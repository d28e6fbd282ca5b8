"""`turnkeyctl evaluate`: how good, how fair, what is not known. Thin: it reads arguments, calls, writes and prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnkey_tools.evaluate.quality_commands import quality
from turnkey_tools.evaluate.scoring_commands import scoring

if TYPE_CHECKING:
    from turnkey_tools.evaluate.report import EvaluationReport

app = typer.Typer(invoke_without_command=True)
app.command()(quality)
app.command()(scoring)


@app.callback()
def evaluate(
    context: typer.Context,
    faces: Annotated[Path | None, typer.Option(help="Folder of faces, one folder a person.")] = None,
    models: Annotated[Path, typer.Option(help="The models directory.")] = Path("models"),
    report: Annotated[
        Path | None, typer.Option(help="Write index.html, evaluation.json and calibration.toml into this folder.")
    ] = None,
    attributes: Annotated[
        Path | None, typer.Option(help="CSV with the columns person (the folder's name) and one or more attributes.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="What the faces are, in words.")] = (None),
    twins: Annotated[
        Path | None, typer.Option(help="Folder with the float twins (`models build --float-twins`), to compare with.")
    ] = None,
    cache: Annotated[Path, typer.Option(help="Keep embeddings here; outside the repository.")] = Path(
        "~/.cache/turnkey/embeddings"
    ),
    fit: Annotated[
        bool, typer.Option("--fit", help="Take the cohort mean from these faces, for a model that has none yet.")
    ] = False,
    sensitivity: Annotated[int, typer.Option(min=0, help="Persons for the worse pictures; 0 leaves them out.")] = 60,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes one a core.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the draws (bootstrap, who is enrolled).")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Measure the pipeline on a folder of faces: 1:1, 1:N, groups, worse pictures, and people not used for tuning.

    The device's own steps run on every picture, none is left out for its quality; in a picture with several faces the
    one nearest the middle is taken. An interrupted run goes on where it stopped; a second one takes seconds. With
    --report it writes one self-contained page, the same as JSON, and the calibration table for models/manifest.toml.
    """
    if context.invoked_subcommand is not None:
        return
    if faces is None:
        raise typer.BadParameter("say where the faces are", param_hint="--faces")
    import os
    import sys
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from turnkey.vision.manifest import ModelError
    from turnkey_tools.evaluate.attributes import AttributesError
    from turnkey_tools.evaluate.faces import NoFacesError
    from turnkey_tools.evaluate.files import write_report
    from turnkey_tools.evaluate.measure import Request
    from turnkey_tools.evaluate.measure import evaluate as measure
    from turnkey_tools.evaluate.plots import PlotsMissing

    errors = Console(stderr=True)
    request = Request(
        models=models,
        faces=faces,
        dataset=dataset or faces.resolve().name,
        attributes=attributes,
        twins=twins,
        cache=cache.expanduser(),
        fit=fit,
        sensitivity=sensitivity,
        workers=workers or len(os.sched_getaffinity(0)),
        seed=seed,
        command=" ".join(["turnkeyctl", *sys.argv[1:]]),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    try:
        with Progress(console=errors) as progress:
            tasks: dict[str, TaskID] = {}

            def tick(stage: str, done: int, of: int) -> None:
                if stage not in tasks:
                    tasks[stage] = progress.add_task(stage, total=of)
                progress.update(tasks[stage], completed=done)

            result = measure(request, tick)
        if report is not None:
            for path in write_report(result, report):
                errors.print(f"wrote {path}", soft_wrap=True)
    except (ModelError, NoFacesError, AttributesError, PlotsMissing, OSError) as error:
        errors.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(result.model_dump_json(indent=1))
    else:
        show(result)


def show(report: EvaluationReport) -> None:
    """The report's main figures on the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(110, Console().width))
    faces = report.faces
    ways = Table(
        title=f"{faces.persons:,} persons, {faces.pictures:,} pictures ({faces.without_face} without a face), "
        f"{faces.impostor_pairs:,} impostor and {faces.mated_pairs:,} mated pairs; TAR (threshold) at FMR"
    )
    rates = [point.fmr for point in report.pipelines[0].points]
    for heading in ("pipeline", "mirrored", "centred", *(f"{rate:.0e}" for rate in rates)):
        ways.add_column(heading)
    for way in report.pipelines:
        cells = [f"{point.tar:.4f} ({point.threshold:.3f})" for point in way.points]
        ways.add_row(way.pipeline, "yes" if way.mirrored else "no", "yes" if way.centred else "no", *cells)
    console.print(ways)
    for point in report.points:
        console.print(
            f"FMR {point.target_fmr:.0e}: threshold {point.threshold:.4f}, FNMR {point.fnmr.rate:.4%} "
            f"(95 % {point.fnmr.low:.4%} to {point.fnmr.high:.4%}), FMR bound over person pairs {point.fmr_upper95:.2e}"
        )
    for result in report.searches:
        found = ", ".join(
            f"{p.fnir.rate:.4f} ({p.fnir.low:.4f} to {p.fnir.high:.4f}) at FPIR {p.fpir:g}" for p in result.points
        )
        console.print(f"gallery of {result.gallery:,}: rank-1 {result.rank_one:.4f}; FNIR {found}")
    if report.holdout is not None:
        for gain in (*report.holdout.gains, *report.holdout.pooled):
            half = "both halves" if gain.half == "both" else f"{gain.half} half"
            console.print(
                f"held out, {half}, FMR {gain.fmr:.0e}: FNMR {gain.raw_fnmr:.4%} raw, "
                f"{gain.shipped_fnmr:.4%} shipped ({gain.lower_by:.0%} lower)"
            )
        claims, broken = report.holdout.claims, report.holdout.broken
        console.print(f"held out: {len(claims) - len(broken)} of {len(claims)} claimed FMR bounds held")
    console.print(report.labels)
    console.print(f"took {report.seconds:.0f} s, {report.cpu_seconds:.0f} CPU seconds")
