"""`turnkeyctl models calibrate`. Thin: it reads arguments, calls, writes and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def calibrate(
    models: Annotated[Path, typer.Argument(help="The models directory; its manifest is rewritten.")],
    report: Annotated[
        Path | None, typer.Option(help="evaluation.json, written by `turnkeyctl evaluate --fit --report`.")
    ] = None,
    faces: Annotated[
        Path | None, typer.Option(help="Or a folder of faces, one folder a person, without groups.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="With --faces: what they are, in words.")] = "faces",
    cache: Annotated[Path, typer.Option(help="Keep embeddings here; outside the repository.")] = Path(
        "~/.cache/turnkey/embeddings"
    ),
) -> None:
    """Put the embedder's cohort mean and score calibration into the manifest: a report's, or taken from faces.

    For a model that somebody brings (models/README.md), or for faces that are more like those of a place. The device
    then asks for an acceptance (`turnkeyctl models accept`).
    """
    import os

    from pydantic import ValidationError
    from rich.console import Console
    from rich.progress import Progress

    from turnkey.vision.manifest import MANIFEST_NAME, ModelError
    from turnkey_tools.evaluate.faces import NoFacesError
    from turnkey_tools.evaluate.report import EvaluationReport
    from turnkey_tools.models.calibrate import calibrated, calibrated_by
    from turnkey_tools.models.manifest_file import manifest_text

    console = Console(stderr=True)
    if (report is None) == (faces is None):
        raise typer.BadParameter("give --report or --faces, and not both")
    try:
        if report is not None:
            manifest = calibrated_by(models, EvaluationReport.model_validate_json(report.read_bytes()))
        else:
            with Progress(console=console) as progress:
                task = progress.add_task("faces", total=None)
                manifest = calibrated(
                    models,
                    faces or Path(),
                    dataset,
                    cache=cache.expanduser(),
                    progress=lambda done, of: progress.update(task, completed=done, total=of),
                    workers=len(os.sched_getaffinity(0)),
                )
        temporary = models / f".{MANIFEST_NAME}.{os.getpid()}"
        temporary.write_text(manifest_text(manifest), encoding="utf-8")
        temporary.replace(models / MANIFEST_NAME)
    except (ModelError, NoFacesError, ValidationError, OSError) as error:
        console.print(f"[red]{error}[/red]", soft_wrap=True)
        raise typer.Exit(2) from error
    for group in manifest.calibration.groups:
        typer.echo(f"{group.group}: {group.persons} persons; no claim below an FMR of {group.smallest_fmr}")
