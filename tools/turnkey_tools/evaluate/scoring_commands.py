"""`turnkeyctl evaluate scoring`. Thin: it reads arguments, calls, and prints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from turnkey_tools.evaluate.pipeline import Pipeline, Seen
    from turnkey_tools.evaluate.scoring import Choice, Outcome


def scoring(
    faces: Annotated[Path, typer.Option(help="Folder of faces, one folder a person.")],
    models: Annotated[Path, typer.Option(help="The models directory.")] = Path("models"),
    cache: Annotated[Path, typer.Option(help="Keep embeddings here; outside the repository.")] = Path(
        "~/.cache/turnkey/embeddings"
    ),
    room: Annotated[
        list[float] | None,
        typer.Option(min=0.8, max=1.3, help="Cut the mirror image so many times as wide, too; give it several times."),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes one a core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Compare ways of scoring beyond the raw cosine, each taught by half of the persons and measured on the others.

    A way pays where its misses are fewer in both halves at each FMR. Embeddings come out of the cache of `evaluate`.
    With --room, the width of the mirror image is chosen too: by which each half misses least, what that width gives on
    the other half, and what each width gives everybody at one threshold.
    """
    import json
    import os
    from dataclasses import replace

    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from turnkey.vision.manifest import ModelError, read_manifest
    from turnkey_tools.evaluate.embeddings import Task, see
    from turnkey_tools.evaluate.faces import NoFacesError, check_enough, list_pictures, person_names
    from turnkey_tools.evaluate.holdout import halves
    from turnkey_tools.evaluate.pipeline import Pipeline
    from turnkey_tools.evaluate.scoring import compare_ways

    errors = Console(stderr=True)
    try:
        pictures = list_pictures(faces)
        pipeline = Pipeline.shipped(models, read_manifest(models))
        if not pipeline.mirrored:
            raise NoFacesError("the manifest's embedder is not mirrored: there is no second view to compare")
        with Progress(console=errors) as progress:

            def look(stage: str, seeing: Pipeline) -> list[Seen | None]:
                task = progress.add_task(stage, total=len(pictures))
                return see(
                    [Task(picture) for picture in pictures],
                    seeing,
                    cache=cache.expanduser(),
                    progress=lambda: progress.advance(task),
                    workers=workers or len(os.sched_getaffinity(0)),
                )

            seen = look("pictures", pipeline)
            rows = [row for row, one in enumerate(seen) if one is not None]
            names, persons = person_names(pictures), np.array([pictures[row].person for row in rows], np.int64)
            first = halves(names)[persons]
            for half in (persons[first], persons[~first]):
                check_enough(half)
            views = _stacked(seen)
            rooms = tuple(sorted(set(room or ()) - set(pipeline.rooms)))
            if rooms:
                # The same faces are found: only how their mirror images are cut differs.
                others = _stacked(look(f"{len(rooms)} other widths", replace(pipeline, rooms=rooms)))
                views = np.concatenate([views, others[:, 1:]], axis=1)
            scored = progress.add_task("ways", total=None)
            outcomes, choices = compare_ways(
                views,
                (*pipeline.rooms, *rooms),
                persons,
                names,
                lambda done, of: progress.update(scored, completed=done, total=of),
            )
    except (ModelError, NoFacesError, OSError) as error:
        errors.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    if as_json:
        ways = [asdict(one) | {"lower_by": one.lower_by} for one in outcomes]
        typer.echo(json.dumps({"ways": ways, "widths": [asdict(one) for one in choices]}, indent=1))
    else:
        _show(outcomes)
        _show_choices(choices)


def _stacked(seen: list[Seen | None]) -> NDArray[np.float32]:
    import numpy as np

    return np.stack([one.views for one in seen if one is not None])


def _show(outcomes: tuple[Outcome, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    rates = sorted({one.fmr for one in outcomes}, reverse=True)
    table = Table(title="FNMR (lower than the raw cosine's by), on the half that taught nothing")
    table.add_column("way")
    table.add_column("half")
    for rate in rates:
        table.add_column(f"FMR {rate:.0e}", justify="right")
    by_line: dict[tuple[str, str], dict[float, Outcome]] = {}
    for one in outcomes:
        by_line.setdefault((one.way, one.half), {})[one.fmr] = one
    for (way, half), line in by_line.items():
        cells = [f"{line[rate].misses / line[rate].mated_pairs:.3%} ({line[rate].lower_by:+.0%})" for rate in rates]
        table.add_row(way, half, *cells, end_section=half == "both")
    Console(width=max(120, Console().width)).print(table)


def _show_choices(choices: tuple[Choice, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    from turnkey_tools.evaluate.scoring import RATES

    if len({one.room for one in choices}) < 2:
        return
    table = Table(
        title="How wide to cut the mirror image: misses of each half and of everybody, each at its own threshold"
    )
    for heading in ("half", "times as wide", *(f"misses at FMR {rate:.0e}" for rate in RATES), "mean log FNMR", ""):
        table.add_column(heading, justify="right")
    for one in choices:
        cells = (one.half, f"{one.room:g}", *map(str, one.misses), f"{one.mean_log_fnmr:.3f}")
        table.add_row(*cells, "chosen" if one.chosen else "")
    Console(width=max(120, Console().width)).print(table)
