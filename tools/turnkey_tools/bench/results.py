"""One JSON format for every bench: what was measured, on which machine, with which software, held to which bars.

Rules kept here:
1. A figure is a distribution: how many, median, 95th and 99th percentile (nearest rank), least and most.
2. What could not be measured is named with the reason; a prediction is marked as one.
3. A bar carries what was measured beside its limit; whether it holds is computed from the two, never told.
4. Every number is finite: a report with another is not made, and not read.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import typer
from pydantic import BaseModel, ConfigDict, FiniteFloat, PositiveInt, computed_field
from pydantic.dataclasses import dataclass

from turnkey_tools.machine import Machine, this_machine


@dataclass(frozen=True)
class Figure:
    """One measured thing.

    Attributes:
        name: what, in words.
        unit: `ms`, `s`, `MB` (10^6 bytes), `1/s`, `share`, `count`.
        count: measurements.
        median, p95, p99, least, most: of them, in that unit; percentiles by nearest rank.
    """

    name: str
    unit: str
    count: PositiveInt
    median: FiniteFloat
    p95: FiniteFloat
    p99: FiniteFloat
    least: FiniteFloat
    most: FiniteFloat


@dataclass(frozen=True)
class Bar:
    """A promise: `measured` must be at most or at least `limit`. Its JSON also says whether it `holds`."""

    name: str
    measured: FiniteFloat
    must_be: Literal["at most", "at least"]
    limit: FiniteFloat

    @computed_field  # type: ignore[prop-decorator]
    @property
    def holds(self) -> bool:
        """Whether it is kept."""
        return self.measured <= self.limit if self.must_be == "at most" else self.measured >= self.limit


class BenchReport(BaseModel):
    """What one bench command printed.

    Attributes:
        bench: the command's name.
        made_at: UTC, ISO 8601.
        command: what to type to measure it again.
        settings: what it was told, by name.
        peers: whom it measured beside us in the same run; their figures begin with their names.
        ratios: how many times as long (or as much) a peer takes, by name.
        bars: promises, and whether each holds.
        absent: what was not measured, and why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    bench: str
    made_at: str
    command: str
    machine: Machine
    settings: dict[str, str | float | bool]
    figures: tuple[Figure, ...]
    peers: tuple[str, ...] = ()
    ratios: dict[str, FiniteFloat] = {}
    bars: tuple[Bar, ...] = ()
    absent: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every bar does."""
        return all(bar.holds for bar in self.bars)


def figure(name: str, unit: str, values: Sequence[float]) -> Figure:
    """Summarise measurements, at least one."""
    ordered = sorted(values)

    def rank(percent: int) -> float:
        return ordered[max(0, math.ceil(percent * len(ordered) / 100) - 1)]

    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return Figure(name, unit, len(ordered), median, rank(95), rank(99), ordered[0], ordered[-1])


def bench_report(
    bench: str,
    settings: dict[str, str | float | bool],
    figures: Sequence[Figure],
    *,
    packages: Sequence[str],
    command: str | None = None,
    peers: Sequence[str] = (),
    ratios: dict[str, float] | None = None,
    bars: Sequence[Bar] = (),
    absent: Sequence[str] = (),
) -> BenchReport:
    """Put a report together, with this machine's facts and the versions of `packages`.

    Args:
        command: what to type to measure it again; None for this process's own `turnkeyctl` command.

    Raises:
        pydantic.ValidationError: a number is not finite.
    """
    return BenchReport(
        bench=bench,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command or " ".join(["turnkeyctl", *sys.argv[1:]]),
        machine=this_machine(packages),
        settings=settings,
        figures=tuple(figures),
        peers=tuple(peers),
        ratios=ratios or {},
        bars=tuple(bars),
        absent=tuple(absent),
    )


def deliver(report: BenchReport, *, as_json: bool) -> None:
    """Print a bench command's report, as JSON or for a person.

    Raises:
        typer.Exit: with code 1, where a bar is missed.
    """
    if as_json:
        typer.echo(report.model_dump_json(indent=1))
    else:
        print_report(report)
    if not report.holds:
        raise typer.Exit(1)


def print_report(report: BenchReport) -> None:
    """The report for a person."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(110, Console().width), highlight=False)
    machine = report.machine
    console.print(f"{machine.processor}, {machine.cores} cores, load {machine.load_1min} at the start", markup=False)
    table = Table()
    for heading in ("what", "median", "p95", "p99", "unit", "of"):
        table.add_column(heading, justify="left" if heading in ("what", "unit") else "right")
    for one in report.figures:
        cells = (f"{one.median:,.2f}", f"{one.p95:,.2f}", f"{one.p99:,.2f}", one.unit, str(one.count))
        table.add_row(one.name, *cells)
    console.print(table)
    for name, ratio in report.ratios.items():
        console.print(f"{ratio:8.2f} x  {name}", markup=False)
    for bar in report.bars:
        mark = "holds" if bar.holds else "MISSED"
        console.print(f"{mark}: {bar.name}: {bar.measured:,.2f}, {bar.must_be} {bar.limit:,g}", markup=False)
    for line in report.absent:
        console.print(f"not measured: {line}", markup=False)
