"""`turnkeyctl bench interlock`: two thousand stops of real bookings, in one process and across processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def interlock(
    models: Annotated[Path, typer.Option(help="The models directory.")] = Path("models"),
    faces: Annotated[Path, typer.Option(help="The directory with the portraits.")] = Path("tests/faces"),
    stops: Annotated[
        int, typer.Option(min=0, help="How often a device of one process is stopped; 0: not at all.")
    ] = 2000,
    across_stops: Annotated[int, typer.Option(min=0, help="How often one of several processes; 0: not at all.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the random moments.")] = 1,
    most_minutes: Annotated[
        float,
        typer.Option(min=0.1, help="Each of the two ends after so long with what it has; the bar on stops is missed."),
    ] = 45.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Stop real bookings at random moments, in one process and across processes; exit 0 only if the bars hold.

    Everything is real but the switch. Each stop is of a booking that has begun, at a random moment of it or shortly
    after, and is followed by a signed release. A quiet machine takes about half a second for each.
    """
    import tempfile

    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn

    from turnkey_tools.bench.interlock import stop_in_process
    from turnkey_tools.bench.interlock_processes import stop_across_processes
    from turnkey_tools.bench.interlock_stops import (
        ACROSS_P99_MS,
        IN_PROCESS_P99_MS,
        BenchError,
        Stops,
        stops_report,
    )
    from turnkey_tools.bench.results import deliver
    from turnkey_tools.pilot import provision_pilot

    errors = Console(stderr=True)
    measured: dict[str, tuple[Stops, float]] = {}
    absent: list[str] = []
    forms = (
        ("one process", stop_in_process, stops, IN_PROCESS_P99_MS),
        ("across processes", stop_across_processes, across_stops, ACROSS_P99_MS),
    )
    failed = False
    for name, run, count, limit_ms in forms:
        if count == 0:
            absent.append(f"{name}: not asked for")
            continue
        columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
        with tempfile.TemporaryDirectory() as folder, Progress(*columns, console=errors) as progress:
            task = progress.add_task(name, total=count)
            pilot = provision_pilot(Path(folder) / "pilot", models)

            def tick(done: int, task: TaskID = task, progress: Progress = progress) -> None:
                progress.update(task, completed=done)

            try:
                measured[name] = (run(pilot, faces, count, seed, tick, most_minutes * 60), limit_ms)
            except BenchError as error:
                failed = True
                absent.append(f"{name}: {error}")
    settings: dict[str, str | float | bool] = {"stops": stops, "across_stops": across_stops, "seed": seed}
    deliver(stops_report(measured, absent, settings), as_json=as_json)
    if failed:
        raise typer.Exit(2)
