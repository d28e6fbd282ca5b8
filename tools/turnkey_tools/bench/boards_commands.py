"""`turnkeyctl bench boards`. Thin: it reads arguments, calls, and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def boards(
    models: Annotated[Path, typer.Option(help="The models directory.")] = Path("models"),
    templates: Annotated[int, typer.Option(min=1000, help="Of the scanned gallery.")] = 100_000,
    rounds: Annotated[int, typer.Option(min=5, help="Of each step.")] = 40,
    macs_per_cycle: Annotated[
        int,
        typer.Option(min=1, help="This machine's 8-bit multiply-accumulates a cycle; 128: AVX-512 VNNI."),
    ] = 128,
    ghz: Annotated[float, typer.Option(min=0.1, help="Its clock.")] = 2.5,
    memory_gb_s: Annotated[float, typer.Option(min=0.1, help="Its memory, 10^9 bytes a second.")] = 20.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Measure the main steps here, and predict them for a Pi 4, a Pi 5 and a Jetson Orin Nano, marked as predictions.

    One thread each. On a board the measured lines are the board's own; give its published figures.
    """
    from rich.console import Console

    from turnkey.vision.manifest import ModelError
    from turnkey_tools.bench.boards import Board, bench_boards
    from turnkey_tools.bench.results import deliver

    here = Board("this machine", macs_per_cycle, ghz, memory_gb_s)
    try:
        report = bench_boards(models, templates=templates, rounds=rounds, here=here)
    except ModelError as error:
        Console(stderr=True).print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    deliver(report, as_json=as_json)
