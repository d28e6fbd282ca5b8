"""The report as one HTML page that needs nothing else: no script, no network, plots inside.

Rules kept here:
1. Everything that comes from outside (folder names, CSV values) is escaped.
2. Whatever was not measured is said in words where its table would be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from turnkey_tools.evaluate.bootstrap import Interval
from turnkey_tools.evaluate.groups import AttributePart, Bounded
from turnkey_tools.evaluate.report import EvaluationReport

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}
table{border-collapse:collapse;margin:.6rem 0 1.4rem}caption{text-align:left;font-weight:600;padding:.2rem 0}
th,td{border:1px solid #ccc;padding:.2rem .55rem;text-align:right;font-variant-numeric:tabular-nums}
th:first-child,td:first-child{text-align:left}th{background:#f2f2f2}.note{background:#fff6dd;padding:.5rem .8rem}
svg{max-width:100%;height:auto}code{overflow-wrap:anywhere}
"""


def report_page(report: EvaluationReport, plots: dict[str, str]) -> str:
    """The whole page."""
    parts = [
        _summary(report),
        _verification(report),
        plots.get("det", ""),
        plots.get("thresholds", ""),
        _searches(report),
        plots.get("search", ""),
        _holdout(report),
        _sensitivity(report),
        plots.get("sensitivity", ""),
        _demographics(report),
        _provenance(report),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Evaluation of {escape(report.subject.embedder_id)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _summary(report: EvaluationReport) -> str:
    faces = report.faces
    lost = (
        f"No template came from {faces.without_face} pictures"
        if faces.without_face
        else "Every picture gave a template"
    )
    acquired = f"{lost} (failure to acquire {_interval(faces.failure_to_acquire)})."
    return (
        f"<h1>Evaluation of {escape(report.subject.embedder_id)}</h1>"
        f"<p>{escape(faces.dataset)}: {faces.persons:,} persons ({faces.mated_persons:,} with two pictures or more), "
        f"{faces.pictures:,} pictures, {faces.impostor_pairs:,} impostor and {faces.mated_pairs:,} mated pairs. "
        f"{acquired}</p>"
        f"<p class=note>A score is no probability that two pictures show one person. {escape(report.labels)}</p>"
    )


def _verification(report: EvaluationReport) -> str:
    rows = [
        (
            _rate(point.target_fmr),
            f"{point.threshold:.4f}",
            _interval(point.fmr),
            _rate(point.fmr_upper95),
            _interval(point.fnmr),
        )
        for point in report.points
    ]
    ways = [
        (
            way.pipeline,
            "yes" if way.mirrored else "no",
            "yes" if way.centred else "no",
            ", ".join(f"{point.tar:.4f} at {_rate(point.fmr)}" for point in way.points),
        )
        for way in report.pipelines
    ]
    return (
        "<h2>1:1</h2>"
        + _table(
            "Shipped scoring; intervals are 95 %, by drawing persons again, at the threshold as it stands; pictures "
            "without a template are in no pair and no search",
            ("FMR asked", "threshold", "FMR", "one-sided bound over person pairs", "FNMR"),
            rows,
        )
        + _table("True accept rate of each way of scoring", ("precision", "mirrored", "centred", "TAR at FMR"), ways)
    )


def _searches(report: EvaluationReport) -> str:
    rows = [
        (
            f"{result.gallery:,}",
            f"{result.rank_one:.4f}",
            f"{point.fpir:g}",
            f"{point.threshold:.4f}",
            f"{point.observed_fpir:.4f}",
            f"{point.predicted_fpir:.4f}",
            _interval(point.fnir),
        )
        for result in report.searches
        for point in result.points
    ]
    if not rows:
        return "<h2>1:N</h2><p class=note>Too few persons for a gallery of 100 and as many to search for in vain.</p>"
    heads = ("gallery", "rank-1", "FPIR asked", "threshold", "FPIR", "1-(1-FMR)^N", "FNIR")
    return "<h2>1:N</h2>" + _table("Searches, mated and non-mated", heads, rows)


def _holdout(report: EvaluationReport) -> str:
    if report.holdout is None:
        return "<h2>Held out</h2><p class=note>Not measured: too few persons for two halves.</p>"
    gains = [
        (
            gain.half,
            _rate(gain.fmr),
            f"{gain.persons:,}",
            f"{gain.raw_fnmr:.4%}",
            f"{gain.shipped_fnmr:.4%}",
            f"{gain.lower_by:.0%}",
        )
        for gain in (*report.holdout.gains, *report.holdout.pooled)
    ]
    broken = report.holdout.broken
    verdict = (
        f"All {len(report.holdout.claims)} claimed bounds held on the other half (FMR over picture pairs; the bounds "
        "count pairs of persons, and so lie above it by construction)."
        if not broken
        else f"{len(broken)} of {len(report.holdout.claims)} claimed bounds did NOT hold on the other half."
    )
    heads = ("half", "FMR", "persons", "FNMR, raw cosine", "FNMR, shipped", "lower by")
    return (
        "<h2>Held out</h2><p>Persons in two halves by the hash of their name; each half is scored with what the other "
        f"half taught. {verdict}</p>" + _table("People not used for tuning", heads, gains)
    )


def _sensitivity(report: EvaluationReport) -> str:
    if not report.sensitivity:
        return "<h2>Worse pictures</h2><p class=note>Not measured.</p>"
    rows = [
        (
            row.kind if row.kind == "none" else f"{row.kind} {row.amount:g}",
            f"{row.pictures}",
            f"{row.inter_eye_px:.0f}",
            f"{row.without_face}",
            f"{row.median_score:.3f}",
            f"{row.fnmr:.3f} (below {row.fnmr_upper95:.3f})",
        )
        for row in report.sensitivity
    ]
    poses = [(f"{p.low:g} to {p.high:g}", f"{p.pairs:,}", f"{p.persons:,}", f"{p.fnmr:.4%}") for p in report.pose]
    heads = ("change", "pictures", "eyes apart, px", "no face", "median score", "FNMR (95 % bound)")
    return (
        "<h2>Worse pictures</h2>"
        + _table("One picture of each pair made worse; threshold for FMR 1e-4", heads, rows)
        + _table("Yaw of the more turned face, degrees", ("yaw", "mated pairs", "persons", "FNMR"), poses)
    )


def _demographics(report: EvaluationReport) -> str:
    if not report.groups:
        return f"<h2>Groups</h2><p class=note>{escape(report.labels)}</p>"
    return "<h2>Groups</h2>" + "".join(_attribute(part) for part in report.groups)


def _attribute(part: AttributePart) -> str:
    rows = [
        (
            group.group,
            f"{group.persons:,}",
            _interval(group.failure_to_acquire),
            _interval(group.fmr) if group.says_fmr is None else f"too small: {group.says_fmr}",
            _interval(group.fnmr) if group.says_fnmr is None else f"too small: {group.says_fnmr}",
        )
        for group in part.groups
    ]
    pairs = [(f"{p.one} / {p.other}", f"{p.impostor_pairs:,}", _rate(p.fmr), _rate(p.fmr_upper95)) for p in part.pairs]
    words = []
    for name, spread in (("FMR", part.fmr_spread), ("FNMR", part.fnmr_spread)):
        words.append(
            f"{name}: too few groups large enough to compare."
            if spread is None
            else f"{name}: max over geometric mean {_bounded(spread.max_over_geometric_mean)}, max over min "
            f"{_bounded(spread.max_over_min)}, Gini {_bounded(spread.gini)}."
        )
    words.append(f"GARBE (alpha 0.5) {_bounded(part.garbe)}.")
    words.append("Bounds: 95 % of what drawing persons again gave; chance alone makes groups differ.")
    if part.bounds_used:
        words.append(f"No error was seen in {', '.join(part.bounds_used)}: their upper bound stands in its place.")
    title = f"{part.attribute} at the threshold {part.threshold:.4f} (FMR {_rate(part.target_fmr)} over everybody)"
    return (
        _table(title, ("group", "persons", "failure to acquire", "FMR within", "FNMR"), rows)
        + _table("Between groups", ("groups", "impostor pairs", "FMR", "95 % bound"), pairs)
        + f"<p>{escape(' '.join(words))} {part.not_labelled:,} persons are not labelled.</p>"
    )


def _provenance(report: EvaluationReport) -> str:
    subject, machine = report.subject, report.machine
    rows = [
        ("made", report.made_at),
        ("command", report.command),
        ("embedder", f"{subject.embedder_id} {subject.embedder_sha256}"),
        ("detector", f"{subject.detector_id} {subject.detector_sha256}"),
        ("cohort mean from", subject.cohort),
        ("faces' digest", report.faces.digest),
        ("machine", f"{machine.processor}, {machine.cores} cores, load {machine.load_1min} at the start"),
        ("software", f"turnkey {machine.turnkey}, {', '.join(f'{n} {v}' for n, v in machine.packages.items())}"),
        ("took", f"{report.seconds:.0f} s ({report.cpu_seconds:.0f} CPU seconds)"),
    ]
    return "<h2>Provenance</h2>" + _table("", ("", ""), rows)


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"


def _interval(interval: Interval) -> str:
    if interval.rate <= 0:
        return f"0 (below {_rate(interval.high)})"
    return f"{_rate(interval.rate)} ({_rate(interval.low)} to {_rate(interval.high)})"


def _rate(rate: float) -> str:
    return f"{rate:.2e}" if rate < 0.001 else f"{rate:.4f}"


def _bounded(value: Bounded | None) -> str:
    return "cannot be told" if value is None else f"{value.value:.3g} ({value.low:.3g} to {value.high:.3g})"
