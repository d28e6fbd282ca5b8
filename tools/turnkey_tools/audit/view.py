"""What an audit says: to a person in a terminal, to a machine as JSON, to the public as a page."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from turnkey_tools.audit.auditor import Audit
from turnkey_tools.audit.findings import CATALOGUE
from turnkey_tools.audit.intervals import Interval, Verdict

_COLOURS: Final = {
    Verdict.PROVEN: "green",
    Verdict.LATE: "yellow",
    Verdict.UNKNOWN: "magenta",
    Verdict.VIOLATION: "bold red",
}
MOST_SHOWN: Final = 60


def moment(posix_s: float) -> str:
    """A time for a person: UTC, to the second."""
    return f"{datetime.fromtimestamp(posix_s, UTC):%Y-%m-%d %H:%M:%S}"


def length(seconds: float) -> str:
    """A length of time for a person."""
    days, rest = divmod(round(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    shown = [f"{number} {unit}" for number, unit in parts if number][:2]
    return " ".join(shown) or "0 s"


def document(audit: Audit) -> dict[str, Any]:
    """The audit as plain values."""
    return {
        "format": "turnkey-audit/1",
        "device_id": audit.device_id,
        "verdict": audit.verdict,
        "entries": {"first": audit.first, "size": audit.entries},
        "ledger_root": audit.root,
        "software": audit.software,
        "checkpoints_witnessed": audit.witnessed,
        "seconds": {verdict.value: round(audit.seconds(verdict), 3) for verdict in Verdict},
        "intervals": [_interval(one) for one in audit.intervals],
        "findings": [
            {
                "code": one.code,
                "severity": one.severity,
                "meaning": one.meaning,
                "index": one.index,
                "at": one.at,
                "detail": one.detail,
            }
            for one in audit.findings.kept
        ],
        "finding_counts": audit.findings.counts,
    }


def _interval(one: Interval) -> dict[str, Any]:
    return {
        "from": datetime.fromtimestamp(one.start_s, UTC).isoformat(),
        "to": datetime.fromtimestamp(one.end_s, UTC).isoformat(),
        "state": one.state,
        "verdict": one.verdict,
        "because": list(one.because),
        "entries": [one.first, one.last],
    }


def as_json(audit: Audit) -> str:
    """One JSON object."""
    return json.dumps(document(audit))


def show(audit: Audit, console: Console) -> None:
    """Print intervals and findings."""
    table = Table("From (UTC)", "Length", "Recognition", "Verdict", "Because", "Entries", box=None)
    for one in audit.intervals[:MOST_SHOWN]:
        colour = _COLOURS[one.verdict]
        entries = "" if one.first is None else f"{one.first} to {one.last}"
        table.add_row(
            moment(one.start_s), length(one.end_s - one.start_s), one.state,
            f"[{colour}]{one.verdict}[/]", ", ".join(one.because), entries,
        )  # fmt: skip
    console.print(table)
    if len(audit.intervals) > MOST_SHOWN:
        console.print(f"… and {len(audit.intervals) - MOST_SHOWN} more intervals: see --json or --html")
    for code, number in audit.findings.counts.items():
        severity, meaning = CATALOGUE[code]
        first = next(one for one in audit.findings.kept if one.code == code)
        place = "" if first.index is None else f", first at entry {first.index}"
        console.print(f"{severity} {code} ({number}{place}): {meaning}. {first.detail}", markup=False, soft_wrap=True)
    shares = ", ".join(f"{verdict} {length(audit.seconds(verdict))}" for verdict in Verdict if audit.seconds(verdict))
    console.print(
        f"{audit.device_id}: [{_COLOURS[audit.verdict]}]{audit.verdict}[/]. {shares or 'no time at all'}. "
        f"{audit.entries - audit.first} entries, {audit.witnessed} checkpoints witnessed.",
        soft_wrap=True,
    )


def write_page(audit: Audit, out: Path) -> None:
    """Write the page."""
    from turnkey_tools.audit.page import page

    draft = out.with_name(f"{out.name}.draft")
    draft.write_text(page(audit))
    draft.replace(out)
