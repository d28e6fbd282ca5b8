"""`turnkeyctl evaluate quality`: what the score of a picture's quality is worth, and what a burst gains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from turnkey_tools.evaluate.quality_report import QualityReport

AT_FMR = 1e-4
LEAST_ERRORS = 20
LOWER_BY = 0.4
HALVED = 0.5
POSE_DEGREES = 4.0
"""The bars: FNMR at `AT_FMR` with the worst tenth discarded; FNMR at FMR 1e-5 with three pictures fused; pose."""


def quality(
    faces: Annotated[Path, typer.Option(help="Folder of faces, one folder a person; several pictures of some.")],
    models: Annotated[Path, typer.Option(help="The models directory.")] = Path("models"),
    twins: Annotated[
        Path | None,
        typer.Option(help="Folder with the float twins (`models build --only-twins --float-twins DIR`), for the pose."),
    ] = None,
    cache: Annotated[Path, typer.Option(help="Keep what was measured here; outside the repository.")] = Path(
        "~/.cache/turnkey/embeddings"
    ),
    bursts: Annotated[int, typer.Option(min=0, help="Persons to simulate a burst of; 0 leaves it out.")] = 200,
    poses: Annotated[int, typer.Option(min=0, help="Pictures to measure the pose's error on; 0 leaves it out.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the draws (who is fused with whom, how a burst is shaken).")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Measure quality: error-versus-discard on both halves of the persons, each component, fusion, bursts, pose.

    Seven thousand pictures take a quarter of an hour the first time, and a minute from the cache. Exits with 1 where a
    bar is missed: the worst tenth discarded lowers FNMR at FMR 1e-4 by 40 % in each half; three pictures fused halve
    FNMR at FMR 1e-5; the pose is within 4 degrees in the mean.
    """
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from turnkey.vision.manifest import ModelError
    from turnkey_tools.evaluate.faces import NoFacesError
    from turnkey_tools.evaluate.quality_report import evaluate_quality

    errors = Console(stderr=True)
    try:
        with Progress(console=errors) as progress:
            tasks: dict[str, TaskID] = {}

            def tick(stage: str, done: int, of: int) -> None:
                if stage not in tasks:
                    tasks[stage] = progress.add_task(stage, total=of)
                progress.update(tasks[stage], completed=done)

            report = evaluate_quality(
                models,
                faces,
                twins=twins,
                cache=cache.expanduser(),
                bursts=bursts,
                poses=poses,
                seed=seed,
                tick=tick,
            )
    except (ModelError, NoFacesError, OSError) as error:
        errors.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=1))
    else:
        show(report)
    for bar in not_judged(report):
        errors.print(f"[yellow]not judged:[/yellow] {bar}")
    missed = bars_missed(report)
    for bar in missed:
        errors.print(f"[red]missed:[/red] {bar}")
    if missed:
        raise typer.Exit(1)


def bars_missed(report: QualityReport) -> list[str]:
    """In words; empty where all hold that can be judged (`not_judged`)."""
    missed = [
        f"without the worst tenth, FNMR at FMR {curve.fmr:g} is only {curve.lower_by(0.1):.0%} lower ({curve.half})"
        for curve in report.curves
        if curve.fmr == AT_FMR and curve.errors >= LEAST_ERRORS and curve.lower_by(0.1) < LOWER_BY
    ]
    if report.fusion is not None and report.fusion.single_fnmr > 0 and report.fusion.lower_by < HALVED:
        missed.append(f"fusing {report.fusion.frames} pictures lowers FNMR only by {report.fusion.lower_by:.0%}")
    missed += [
        f"pose {error.mean:.1f} degrees off against {error.against}"
        for error in report.pose
        if error.mean > POSE_DEGREES
    ]
    return missed


def not_judged(report: QualityReport) -> list[str]:
    """Bars that these faces say nothing about: too few errors, or nobody with enough pictures."""
    few = [
        f"discarding ({curve.half}): {curve.errors} errors at FMR {curve.fmr:g}, {LEAST_ERRORS} are needed"
        for curve in report.curves
        if curve.fmr == AT_FMR and curve.errors < LEAST_ERRORS
    ]
    if report.fusion is None or report.fusion.single_fnmr == 0:
        few.append("fusion: nobody with enough pictures, or no error to lower")
    if not report.pose:
        few.append("pose: not asked for")
    return few


def show(report: QualityReport) -> None:
    """The report on the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(110, Console().width))
    first = report.curves[0]
    table = Table(
        title=f"{report.persons:,} persons, {report.pictures:,} pictures ({report.without_face} without a face): "
        "FNMR with the worst pictures discarded by the unified score"
    )
    for heading in ("half", "FMR", "errors / mated pairs", *(f"{share:.0%}" for share in first.discarded), "at 10 %"):
        table.add_column(heading)
    for curve in report.curves:
        cells = [f"{rate:.4%}" for rate in curve.fnmr]
        counts = f"{curve.errors:,} / {curve.mated_pairs:,}"
        table.add_row(curve.half, f"{curve.fmr:g}", counts, *cells, f"{curve.lower_by(0.1):.0%} lower")
    console.print(table)
    tenths = Table(title="FNMR at FMR 1e-5 by tenths of the mated pairs, the worse picture's score")
    for heading in ("score", "pairs", "FNMR"):
        tenths.add_column(heading)
    for tenth in report.tenths:
        tenths.add_row(
            f"{tenth.lowest_score:.0f} to {tenth.highest_score:.0f}", f"{tenth.pairs:,}", f"{tenth.fnmr:.4%}"
        )
    console.print(tenths)
    parts = Table(title="Components: percentiles, and FNMR at FMR 1e-4 without the worst tenth by this one alone")
    for heading in ("component", "1 %", "50 %", "99 %", "lower by"):
        parts.add_column(heading)
    for part in report.components:
        parts.add_row(part.name, *(f"{value:.3f}" for value in part.percentiles), f"{part.lower_by:.0%}")
    console.print(parts)
    for name, gain in (("pictures of different days", report.fusion), ("frames of simulated bursts", report.bursts)):
        if gain is not None:
            console.print(
                f"{gain.frames} {name} fused, {gain.probes} probes: FNMR at FMR {gain.fmr:g} {gain.single_fnmr:.2%} "
                f"single, {gain.fused_fnmr:.2%} fused ({gain.lower_by:.0%} lower); at the single threshold the fused "
                f"have FMR {gain.fused_fmr_at_single_threshold:.1e}"
            )
    for error in report.pose:
        console.print(
            f"pose against {error.against}, {error.pictures} pictures: yaw {error.yaw:.1f}, pitch {error.pitch:.1f}, "
            f"roll {error.roll:.1f} degrees off in the mean"
        )
    console.print(f"took {report.seconds:.0f} s")
