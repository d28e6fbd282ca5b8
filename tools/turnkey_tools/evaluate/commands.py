"""`turnkeyctl evaluate`: TAR at FMR over all pairs of a folder of faces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(invoke_without_command=True)


@app.callback()
def evaluate(
    context: typer.Context,
    faces: Annotated[Path | None, typer.Option(help="Folder of faces, one folder a person.")] = None,
    models: Annotated[Path, typer.Option(help="The models directory.")] = Path("models"),
    twins: Annotated[
        Path | None, typer.Option(help="Folder with the float twins (`models build --float-twins`), to compare with.")
    ] = None,
    cache: Annotated[Path, typer.Option(help="Keep embeddings here; outside the repository.")] = Path(
        "~/.cache/turnkey/embeddings"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Score every pair of pictures and print the true accept rate at false match rates from 1e-3 to 1e-6.

    The device's own steps run on every picture, none is left out for its quality; in a picture with several faces the
    one nearest the middle is taken. Seven thousand pictures take some five minutes the first time.
    """
    if context.invoked_subcommand is not None:
        return
    if faces is None:
        raise typer.BadParameter("say where the faces are", param_hint="--faces")
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from turnkey.vision.manifest import ModelError
    from turnkey_tools.evaluate import report
    from turnkey_tools.evaluate.faces import NoFacesError

    errors = Console(stderr=True)
    try:
        with Progress(console=errors) as progress:
            tasks: dict[str, TaskID] = {}

            def tick(name: str, done: int, of: int) -> None:
                if name not in tasks:
                    tasks[name] = progress.add_task(name, total=of)
                progress.update(tasks[name], completed=done)

            results = report.evaluate(models, faces, twins=twins, cache=cache.expanduser(), tick=tick)
    except (ModelError, NoFacesError, OSError) as error:
        errors.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps([asdict(result) for result in results], indent=2))
        return
    first = results[0]
    table = Table(
        title=f"{first.persons} persons, {first.pictures} pictures, {first.impostor_pairs:,} impostor and "
        f"{first.mated_pairs:,} mated pairs; TAR (threshold) at FMR"
    )
    for heading in ("pipeline", "centred", "no face", *(f"{point.fmr:.0e}" for point in first.points)):
        table.add_column(heading)
    for result in results:
        cells = [f"{point.tar:.4f} ({point.threshold:.3f})" for point in result.points]
        table.add_row(result.pipeline, "yes" if result.centred else "no", str(result.without_face), *cells)
    Console(width=max(110, Console().width)).print(table)
