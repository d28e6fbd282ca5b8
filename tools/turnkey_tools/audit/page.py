"""The audit as one self-contained page: no script, no font, nothing fetched."""

from __future__ import annotations

from html import escape
from typing import Final

from turnkey_tools.audit.auditor import Audit
from turnkey_tools.audit.findings import CATALOGUE, Severity
from turnkey_tools.audit.intervals import Interval, Verdict
from turnkey_tools.audit.style import document
from turnkey_tools.audit.timeline import key, svg
from turnkey_tools.audit.view import length, moment

MOST_ROWS: Final = 500

_SENTENCES: Final = {
    Verdict.PROVEN: "Proven: this history was witnessed as it happened, and nothing in it breaks a rule.",
    Verdict.LATE: "No violation, but part of it was not witnessed in time.",
    Verdict.UNKNOWN: "No violation, but for part of the time nothing is known.",
    Verdict.VIOLATION: "Violation: this history contradicts itself, its signatures or its witness.",
}
_MEANINGS: Final = {
    Verdict.PROVEN: "said by the device at the time, and held by a witness within the limit; it cannot have been "
    "rewritten since",
    Verdict.LATE: "signed by the device, but witnessed later or never; it may have been written afterwards",
    Verdict.UNKNOWN: "no sign of life, or no entries; this is never taken for 'off'",
    Verdict.VIOLATION: "an entry breaks a rule, or the history is not the one that was signed or witnessed",
}


def page(audit: Audit) -> str:
    """HTML, UTF-8."""
    stopped_s = sum(_length(one) for one in audit.intervals if one.state in ("MORATORIUM", "FAULT"))
    proven_s = sum(
        _length(one)
        for one in audit.intervals
        if one.state in ("MORATORIUM", "FAULT") and one.verdict is Verdict.PROVEN
    )
    window = ""
    if audit.intervals:
        window = f"{moment(audit.intervals[0].start_s)} to {moment(audit.intervals[-1].end_s)} UTC"
    facts = [
        ("Stopped, in all", length(stopped_s)),
        ("of that, PROVEN", length(proven_s)),
        ("Entries", f"{audit.entries - audit.first:,}"),
        ("Checkpoints that the witness held", f"{audit.witnessed:,}"),
        ("Software", audit.software or "?"),
    ]
    boxes = "".join(f"<div><span>{escape(name)}</span><strong>{escape(value)}</strong></div>" for name, value in facts)
    return document(
        f"Audit of {escape(audit.device_id)}: {audit.verdict}",
        f"<h1>Audit of {escape(audit.device_id)}, {window}</h1>\n"
        f'<p class="verdict {audit.verdict}">{escape(_SENTENCES[audit.verdict])}</p>\n'
        f'<div class="facts">{boxes}</div>\n'
        f"<h2>Timeline</h2>{key()}{svg(audit.intervals)}\n"
        f"<h2>What the verdicts mean</h2>{_meanings(audit)}\n"
        f"<h2>Findings</h2>{_findings(audit)}\n"
        f"<h2>Intervals</h2>{_intervals(audit.intervals)}\n"
        f"<h2>Check it yourself</h2>{_commands(audit)}",
    )


def _length(one: Interval) -> float:
    return one.end_s - one.start_s


def _meanings(audit: Audit) -> str:
    rows = "".join(
        f'<tr><td class="{verdict}">{verdict}</td><td class="number">{length(audit.seconds(verdict))}</td>'
        f"<td>{escape(_MEANINGS[verdict])}</td></tr>"
        for verdict in Verdict
    )
    return f'<table><tr><th>Verdict</th><th class="number">Time</th><th>What it says</th></tr>{rows}</table>'


def _findings(audit: Audit) -> str:
    if not audit.findings.counts:
        return "<p>Nothing was found.</p>"
    order = {severity: place for place, severity in enumerate(Severity)}
    rows = []
    for code, number in sorted(audit.findings.counts.items(), key=lambda item: order[CATALOGUE[item[0]][0]]):
        severity, meaning = CATALOGUE[code]
        shown = [one for one in audit.findings.kept if one.code == code][:5]
        places = "<br>".join(
            escape(
                " ".join(
                    part
                    for part in (f"entry {one.index}" if one.index is not None else "", one.at or "", one.detail)
                    if part
                )
            )
            for one in shown
        )
        rows.append(
            f'<tr><td class="{severity}">{severity}</td><td><code>{code}</code></td><td class="number">{number:,}</td>'
            f"<td>{escape(meaning)}<br><small>{places}</small></td></tr>"
        )
    head = (
        '<tr><th>Severity</th><th>Code</th><th class="number">Times</th><th>What it means; the first of them</th></tr>'
    )
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _intervals(intervals: list[Interval]) -> str:
    rows = "".join(
        f"<tr><td>{moment(one.start_s)}</td><td>{moment(one.end_s)}</td>"
        f'<td class="number">{length(_length(one))}</td><td>{escape(one.state)}</td>'
        f'<td class="{one.verdict}">{one.verdict}</td><td>{escape(", ".join(one.because))}</td>'
        f'<td class="number">{"" if one.first is None else f"{one.first} to {one.last}"}</td></tr>'
        for one in intervals[:MOST_ROWS]
    )
    more = (
        f"<p>… and {len(intervals) - MOST_ROWS:,} more: see <code>--json</code>.</p>"
        if len(intervals) > MOST_ROWS
        else ""
    )
    head = '<tr><th>From (UTC)</th><th>To (UTC)</th><th class="number">Length</th><th>Recognition</th><th>Verdict</th>'
    head += '<th>Because</th><th class="number">Entries</th></tr>'
    return f'<div class="scroll"><table>{head}{rows}</table></div>{more}'


def _commands(audit: Audit) -> str:
    return (
        "<p>This page was made offline from the device's export, its public key and a witness's file. Whoever has the "
        "three gets the same page; nothing on it rests on the device's word alone.</p>"
        "<pre>turnkeyctl audit EXPORT --keys KEYS --witness SEEN --witness-key witness.vkey --html audit.html</pre>"
        f"<p>RFC 9162 root hash over {audit.entries:,} entries: <code>{audit.root}</code></p>"
    )
