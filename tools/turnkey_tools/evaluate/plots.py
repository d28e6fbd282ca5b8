"""The report's plots, as SVG text, by matplotlib (extra `evaluate`).

Rules kept here:
1. Same report, same bytes: no date, no random ids.
2. Where a curve ends, the data end.
"""

from __future__ import annotations

import io
import re
from typing import Any

from turnkey_tools.evaluate.report import EvaluationReport

_BLUE, _RED, _GREY = "#1f5f99", "#b03030", "#777777"


class PlotsMissing(RuntimeError):
    """matplotlib is not installed."""


def report_plots(report: EvaluationReport) -> dict[str, str]:
    """SVG by name: `det`, `thresholds`, `search`, `sensitivity`; a plot without data is left out.

    Raises:
        PlotsMissing: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotsMissing("matplotlib is not installed: install the extra `evaluate`") from error
    mpl.rcParams |= {"svg.hashsalt": "turnkey", "svg.fonttype": "path", "font.size": 9}
    plots = {}
    for name, draw in (
        ("det", _det),
        ("thresholds", _thresholds),
        ("search", _search),
        ("sensitivity", _sensitivity),
    ):
        figure: Any = Figure(figsize=(6.4, 4.2), layout="constrained")
        if draw(figure, report):
            plots[name] = _svg(figure)
    return plots


def _det(figure: Any, report: EvaluationReport) -> bool:
    axes = figure.subplots()
    points = [point for point in report.det if point.fnmr > 0]
    axes.loglog([p.fmr for p in points], [p.fnmr for p in points], color=_BLUE, label="shipped scoring")
    for point in report.points:
        if point.fnmr.rate > 0:
            axes.errorbar(
                point.fmr.rate,
                point.fnmr.rate,
                xerr=[[point.fmr.rate - point.fmr.low], [point.fmr.high - point.fmr.rate]],
                yerr=[[point.fnmr.rate - point.fnmr.low], [point.fnmr.high - point.fnmr.rate]],
                fmt="o",
                markersize=3,
                color=_RED,
                capsize=2,
            )
    axes.set(xlabel="false match rate (FMR)", ylabel="false non-match rate (FNMR)", title="DET; bars: 95 % by person")
    axes.grid(visible=True, which="both", alpha=0.25)
    return bool(points)


def _thresholds(figure: Any, report: EvaluationReport) -> bool:
    axes = figure.subplots()
    for group in report.calibration:
        rows = [row for row in group.rows if row.fmr > 0]
        (line,) = axes.semilogy([r.threshold for r in rows], [r.fmr for r in rows], label=f"{group.group}: observed")
        axes.semilogy(
            [r.threshold for r in group.rows],
            [r.fmr_upper95 for r in group.rows],
            "--",
            color=line.get_color(),
            label=f"{group.group}: bound that the device uses",
        )
    axes.set(xlabel="threshold", ylabel="FMR", title="Calibration")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=7)
    return bool(report.calibration)


def _search(figure: Any, report: EvaluationReport) -> bool:
    axes = figure.subplots()
    rates = sorted({point.fpir for result in report.searches for point in result.points})
    for rate in rates:
        found = [(r.gallery, p) for r in report.searches for p in r.points if p.fpir == rate]
        axes.errorbar(
            [size for size, _ in found],
            [point.fnir.rate for _, point in found],
            yerr=[
                [point.fnir.rate - point.fnir.low for _, point in found],
                [point.fnir.high - point.fnir.rate for _, point in found],
            ],
            marker="o",
            markersize=3,
            capsize=2,
            label=f"FPIR {rate:g}",
        )
    axes.set(xscale="log", xlabel="gallery, templates", ylabel="FNIR", title="Searches; bars: 95 % by person")
    axes.grid(visible=True, alpha=0.25)
    if rates:
        axes.legend(fontsize=7)
    return bool(rates)


def _sensitivity(figure: Any, report: EvaluationReport) -> bool:
    kinds = list(dict.fromkeys(row.kind for row in report.sensitivity if row.kind != "none"))
    if not kinds:
        return False
    baseline = next(row for row in report.sensitivity if row.kind == "none")
    for axes, kind in zip(figure.subplots(1, len(kinds), sharey=True), kinds, strict=True):
        rows = [row for row in report.sensitivity if row.kind == kind]
        places = range(len(rows))
        axes.bar(places, [row.fnmr for row in rows], color=_BLUE)
        axes.axhline(baseline.fnmr, color=_GREY, linewidth=0.8)
        axes.set_xticks(list(places), [f"{row.amount:g}" for row in rows])
        axes.set_title(kind)
        axes.set_ylim(0, 1)
    figure.supylabel("missed at the threshold for FMR 1e-4")
    return True


def _svg(figure: Any) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return re.sub(r"(?s)\s*<metadata>.*?</metadata>", "", text[text.index("<svg") :])
