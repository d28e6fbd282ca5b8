"""`turnkeyctl bench sameness`. Thin: it reads arguments, calls, and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sameness(
    faces: Annotated[Path, typer.Option(help="Folder of faces, one folder a person.")],
    models: Annotated[Path, typer.Option(help="The models directory.")] = Path("models"),
    most: Annotated[int, typer.Option(min=20, help="Pictures, spread over the folder.")] = 3000,
    seed: Annotated[int, typer.Option(help="Of the simulated second frames.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """How far two persons stay from being taken for one picture, and how alike two frames of a still person are.

    A burst's frame that shows what a good one before it showed is not embedded. Exits with 1 where any two pictures of
    different persons are so alike.
    """
    from rich.console import Console
    from rich.progress import Progress

    from turnkey.vision.manifest import ModelError
    from turnkey_tools.bench.results import deliver
    from turnkey_tools.bench.sameness import bench_sameness
    from turnkey_tools.evaluate.faces import NoFacesError, list_pictures

    errors = Console(stderr=True)
    try:
        listed = list_pictures(faces)
        chosen = listed[:: max(1, -(-len(listed) // most))]
        with Progress(console=errors) as progress:
            task = progress.add_task("faces", total=len(chosen))
            report = bench_sameness(chosen, models, seed, lambda done: progress.update(task, completed=done))
    except (ModelError, NoFacesError, OSError) as error:
        errors.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    deliver(report, as_json=as_json)
