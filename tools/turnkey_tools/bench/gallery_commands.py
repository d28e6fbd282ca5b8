"""`turnkeyctl bench gallery` and `bench spread`. Thin: they read arguments, call, and print."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer


def gallery(
    n: Annotated[int, typer.Option("--n", min=10_000, help="Templates.")] = 2_500_000,
    peers: Annotated[bool, typer.Option(help="Measure faiss and hnswlib too; needs the extra `peers`.")] = False,
    graph_n: Annotated[int, typer.Option(help="Build graphs over this many templates; 0: none.")] = 0,
    probes: Annotated[int, typer.Option(min=100, help="Mated probes, for the share of right first candidates.")] = 2000,
    rounds: Annotated[int, typer.Option(min=10, help="Timed rounds.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the templates.")] = 1,
    folder: Annotated[Path | None, typer.Option(help="Keep the gallery here, and use it again.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Fill a gallery with synthetic templates and measure search, start, memory, enrolment and size on disk."""
    import tempfile
    from contextlib import nullcontext
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from turnkey_tools.bench.gallery import BenchError, run

    errors = Console(stderr=True)
    place = tempfile.TemporaryDirectory() if folder is None else nullcontext(str(folder))
    try:
        with place as chosen, Progress(console=errors) as progress:
            Path(chosen).mkdir(parents=True, exist_ok=True)
            tasks: dict[str, TaskID] = {}

            def tick(name: str, done: int, of: int) -> None:
                if name not in tasks:
                    tasks[name] = progress.add_task(name, total=of)
                progress.update(tasks[name], completed=done)

            result = run(
                Path(chosen), n, seed=seed, probes=probes, rounds=rounds, peers=peers, graph_n=graph_n, tick=tick
            )
    except BenchError as error:
        errors.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
        return
    typer.echo(f"{n:,} templates, one thread")
    for name, value in result.figures.items():
        typer.echo(f"{value:14,.3f}  {name}")
    for peer, values in result.peers.items():
        typer.echo(f"{peer}: " + ", ".join(f"{name} {value:,.3f}" for name, value in values.items()))
    for line in result.absent:
        typer.echo(f"not measured: {line}")


def spread(
    faces: Annotated[Path, typer.Option(help="Folder of faces, one folder a person.")],
    models: Annotated[Path, typer.Option(help="The models directory.")] = Path("models"),
    cache: Annotated[Path, typer.Option(help="Keep embeddings here; outside the repository.")] = Path(
        "~/.cache/turnkey/embeddings"
    ),
    out: Annotated[Path | None, typer.Option(help="Write here instead of beside the generator.")] = None,
) -> None:
    """Measure the spread of real embeddings between and within persons, for the generator of synthetic templates."""
    from rich.console import Console
    from rich.progress import Progress

    from turnkey.vision.embedder import centred
    from turnkey.vision.manifest import ModelError, read_manifest
    from turnkey_tools.bench.synthetic import SPREAD_FILE, measure_spread
    from turnkey_tools.evaluate.embeddings import embed_pictures
    from turnkey_tools.evaluate.faces import NoFacesError, list_pictures
    from turnkey_tools.evaluate.pipeline import Pipeline

    errors = Console(stderr=True)
    try:
        manifest = read_manifest(models)
        pictures = list_pictures(faces)
        with Progress(console=errors) as progress:
            task = progress.add_task("embedding", total=len(pictures))
            embedded = embed_pictures(
                pictures,
                Pipeline.shipped(models, manifest),
                cache=cache.expanduser(),
                progress=lambda: progress.advance(task),
                workers=os.cpu_count() or 1,
            )
    except (ModelError, NoFacesError, OSError) as error:
        errors.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    measured = measure_spread(centred(embedded.raw, manifest.embedder.centre()), embedded.persons)
    measured.write(out or SPREAD_FILE)
    between, within = float(measured.between.trace()), float(measured.within.trace())
    typer.echo(f"{len(embedded.raw)} pictures: variance {between:.3f} between persons, {within:.3f} within")
