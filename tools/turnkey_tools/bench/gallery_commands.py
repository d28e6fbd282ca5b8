"""`turnkeyctl bench gallery` and `bench spread`. Thin: they read arguments, call, and print."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def gallery(
    n: Annotated[int, typer.Option("--n", min=10_000, help="Templates.")] = 2_500_000,
    peers: Annotated[
        bool, typer.Option("--peers/--no-peers", help="Measure faiss and hnswlib too; needs the extra `peers`.")
    ] = False,
    graph_n: Annotated[
        int, typer.Option(help="Measure the device's graph over this many templates too; 0: not. Kept in the folder.")
    ] = 0,
    peer_graph_n: Annotated[
        int, typer.Option(help="With --peers: graphs, ours and theirs, over the first so many templates; 0: none.")
    ] = 50_000,
    build_limit_s: Annotated[
        float, typer.Option(min=0, help="Time to build each graph; what is not done by then is of fewer templates.")
    ] = 600.0,
    probes: Annotated[int, typer.Option(min=100, help="Mated probes, for the share of right first candidates.")] = 2000,
    rounds: Annotated[int, typer.Option(min=10, help="Timed rounds.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the templates.")] = 1,
    folder: Annotated[Path | None, typer.Option(help="Keep galleries and graphs here, and use them again.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Fill a gallery with synthetic templates and measure search, start, memory, enrolment and size on disk.

    The exhaustive scan is measured over all of them, the graph over `--graph-n`: building one takes many minutes, so
    keep it in a `--folder`. Exits with 1 where a bar is missed; the bars of a city's size hold from 2.5 million on.
    """
    import tempfile
    from contextlib import nullcontext

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from turnkey_tools.bench.gallery import BenchError, GalleryBench, bench_gallery
    from turnkey_tools.bench.results import deliver

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

            told = GalleryBench(
                Path(chosen),
                n,
                seed=seed,
                probes=probes,
                rounds=rounds,
                peers=peers,
                graph_n=graph_n,
                peer_graph_n=peer_graph_n,
                limit_s=build_limit_s,
            )
            report = bench_gallery(told, tick)
    except BenchError as error:
        errors.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    deliver(report, as_json=as_json)


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
