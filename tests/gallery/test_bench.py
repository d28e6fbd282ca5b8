"""`turnkeyctl bench gallery`: at a tiny size it measures all that it measures at a city's, and says what it did not."""

from __future__ import annotations

import importlib.util

import pytest
from tools.bench_reports import sound
from typer.testing import CliRunner

from turnkey_tools.cli import app

SMALL = ["bench", "gallery", "--n", "10000", "--probes", "100", "--rounds", "10", "--json"]


@pytest.mark.skipif(importlib.util.find_spec("faiss") is not None, reason="the peers are installed here")
def test_scan_and_graph_are_measured_and_what_was_not_is_named() -> None:
    """The graph's time is over with the first rows added: one of those is searched, and its size is said."""
    done = CliRunner().invoke(app, [*SMALL, "--graph-n", "10000", "--build-limit-s", "0", "--peers"])
    assert done.exit_code == 0, done.output
    report = sound(done.stdout)
    medians = {figure.name: figure.median for figure in report.figures}
    assert medians["first candidate equal to float64 brute force, 100 mated probes"] == 1.0
    assert medians["graph of 4,096, first candidate right, expansion 512"] > 0.9
    assert medians["graph of 4,096, search, expansion 256, rows opened"] > 0
    assert [bar.name for bar in report.bars] == ["first candidate equal to float64 brute force, share"]
    assert [line.split(":")[0] for line in report.absent] == ["faiss", "the graph at 2,500,000", "hnswlib", "faiss"]
    assert report.peers == ()
