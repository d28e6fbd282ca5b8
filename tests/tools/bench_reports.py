"""What must be true of every bench's JSON, whatever it measured."""

from __future__ import annotations

import json
import math

from turnkey_tools.bench.results import BenchReport


def sound(printed: str) -> BenchReport:
    """The report, once it is what every bench promises; fails where it is not."""
    told = json.loads(printed)
    report = BenchReport.model_validate(told)
    assert report.figures
    for one in report.figures:
        values = (one.least, one.median, one.p95, one.p99, one.most)
        assert all(math.isfinite(value) for value in values), one
        assert one.least <= one.median <= one.most, one
        assert one.least <= one.p95 <= one.p99 <= one.most, one
    assert len({one.name for one in report.figures}) == len(report.figures), "a figure has one name"
    measured = set(report.ratios.values())
    for one in report.figures:
        measured |= {one.least, one.median, one.p95, one.p99, one.most}
    for bar, said in zip(report.bars, told["bars"], strict=True):
        assert bar.measured in measured, f"{bar.name}: the bar is not held to a figure of this run"
        kept = bar.measured <= bar.limit if bar.must_be == "at most" else bar.measured >= bar.limit
        assert said["holds"] == kept, bar.name
    for peer in report.peers:
        assert any(peer in one.name for one in report.figures), f"{peer} has no figure"
    machine = report.machine
    assert machine.cores >= 1
    assert machine.memory_mb > 0
    assert "unknown" not in (machine.python, machine.kernel)
    assert machine.packages
    # In a test the words behind it are pytest's, and `python -m pytest` has none.
    assert report.command.split()[0] == "turnkeyctl" or report.command.startswith("tests/")
    return report
