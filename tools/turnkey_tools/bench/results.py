"""One JSON format for every bench: what was measured, on which machine, with which software, held to which bars.

Rules kept here:
1. A figure is a distribution: how many, median, 95th and 99th percentile (nearest rank), least and most.
2. What could not be measured is named with the reason; a prediction is marked as one.
3. A bar carries what was measured beside its limit, and holds or does not.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

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
    count: int
    median: float
    p95: float
    p99: float
    least: float
    most: float


@dataclass(frozen=True)
class Bar:
    """A promise: `measured` must be at most or at least `limit`."""

    name: str
    measured: float
    must_be: Literal["at most", "at least"]
    limit: float

    @property
    def holds(self) -> bool:
        """Whether it is kept."""
        return self.measured <= self.limit if self.must_be == "at most" else self.measured >= self.limit


class BenchReport(BaseModel):
    """What one bench command printed.

    Attributes:
        bench: the command's name.
        settings: what it was told, by name.
        ratios: how many times as long (or as much) a peer takes, by name.
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
    ratios: dict[str, float] = {}
    bars: tuple[Bar, ...] = ()
    absent: tuple[str, ...] = ()


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
    ratios: dict[str, float] | None = None,
    bars: Sequence[Bar] = (),
    absent: Sequence[str] = (),
) -> BenchReport:
    """Put a report together, with this machine's facts and the versions of `packages`."""
    return BenchReport(
        bench=bench,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=" ".join(["turnkeyctl", *sys.argv[1:]]),
        machine=this_machine(packages),
        settings=settings,
        figures=tuple(figures),
        ratios=ratios or {},
        bars=tuple(bars),
        absent=tuple(absent),
    )


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
