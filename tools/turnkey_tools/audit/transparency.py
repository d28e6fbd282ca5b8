"""The annual transparency report: a page for the public, and the same figures as CSV. From the ledger alone.

It reports on what was verified first: the audit's verdict stands at its head, and a report on a history that
contradicts itself says so there.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Final

from turnkey_tools.audit.auditor import Audit
from turnkey_tools.audit.intervals import Verdict
from turnkey_tools.audit.statistics import Spread, Statistics
from turnkey_tools.audit.style import document
from turnkey_tools.audit.timeline import key, svg
from turnkey_tools.audit.view import length, moment

_SHARES: Final = (
    (0.0, "lowest"),
    (0.05, "5th percentile"),
    (0.5, "median"),
    (0.95, "95th percentile"),
    (1.0, "highest"),
)
_STOPPED: Final = ("MORATORIUM", "FAULT")


@dataclass(frozen=True)
class Figure:
    """One line of the report: in which section, what was counted, how it is split, and the number."""

    section: str
    what: str
    split: str
    value: str


def figures(audit: Audit, counted: Statistics) -> list[Figure]:
    """Every figure of the report."""
    return [
        *_standing(audit),
        *_work(counted),
        *_refused(counted),
        *_spreads(counted),
        *_rules(counted),
    ]


def as_csv(lines: list[Figure]) -> str:
    """The figures as CSV (RFC 4180), with a header."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("section", "what", "split", "value"))
    writer.writerows((one.section, one.what, one.split, one.value) for one in lines)
    return out.getvalue()


def page(audit: Audit, lines: list[Figure], title: str) -> str:
    """The report as one self-contained page."""
    sections: dict[str, list[Figure]] = {}
    for one in lines:
        sections.setdefault(one.section, []).append(one)
    tables = "".join(f"<h2>{escape(name)}</h2>{_table(rows)}" for name, rows in sections.items())
    when = ""
    if audit.intervals:
        when = f"{moment(audit.intervals[0].start_s)} to {moment(audit.intervals[-1].end_s)} UTC"
    verdict = {
        Verdict.PROVEN: "Every minute of it is PROVEN.",
        Verdict.LATE: "No violation; not all of it was witnessed in time.",
        Verdict.UNKNOWN: "No violation; for part of the time nothing is known.",
        Verdict.VIOLATION: "This history has VIOLATIONS: read the audit before any figure below.",
    }[audit.verdict]
    return document(
        f"{escape(title)}: {escape(audit.device_id)}",
        f"<h1>{escape(audit.device_id)}, {when}</h1>"
        f'<p class="verdict {audit.verdict}">{escape(title)}</p>'
        f"<p>{escape(verdict)} All figures are counted from the device's ledger after it was verified. It "
        "holds counts and codes, no names, no pictures. A lead is an investigative lead only, not an identification "
        "and not probable cause.</p>"
        f"<h2>When recognition ran, and when it was stopped</h2>{key()}{svg(audit.intervals)}{tables}",
    )


def _table(rows: list[Figure]) -> str:
    body = "".join(
        f'<tr><td>{escape(one.what)}</td><td>{escape(one.split)}</td><td class="number">{escape(one.value)}</td></tr>'
        for one in rows
    )
    return f'<table><tr><th>What</th><th></th><th class="number">Number</th></tr>{body}</table>'


def _standing(audit: Audit) -> Iterator[Figure]:
    section = "Stops and their length"
    for state, name in (("RUNNING", "recognition ran"), ("MORATORIUM", "moratorium"), ("FAULT", "fault")):
        for verdict in Verdict:
            alike = [one for one in audit.intervals if (one.state, one.verdict) == (state, verdict)]
            spent = sum(one.end_s - one.start_s for one in alike)
            if spent:
                yield Figure(section, name, verdict.value, length(spent))
    unknown = sum(one.end_s - one.start_s for one in audit.intervals if one.state == "UNKNOWN")
    if unknown:
        yield Figure(section, "not known", Verdict.UNKNOWN.value, length(unknown))
    stops = [one for one in audit.intervals if one.state in _STOPPED]
    yield Figure(section, "stretches of time stopped", "", str(len(stops)))
    if stops:
        yield Figure(section, "the longest of them", "", length(max(one.end_s - one.start_s for one in stops)))


def _work(counted: Statistics) -> Iterator[Figure]:
    for purpose, number in sorted(counted.captures.items()):
        yield Figure("Pictures taken", f"for a {purpose}", "", str(number))
    for reason, number in sorted(counted.not_captured.items()):
        yield Figure("Pictures taken", "a booking without a picture", reason, str(number))
    for partition, number in sorted(counted.imported.items()):
        yield Figure("Pictures taken", f"imported into {partition}", "", str(number))
    for name, number in sorted(counted.packets.items()):
        yield Figure("Pictures taken", f"case packets {name}", "", str(number))
    for (category, partition, outcome), number in sorted(counted.searches.items()):
        said = "with a lead" if outcome == "lead" else "without one"
        yield Figure("Searches by offence category", category, f"in {partition}, {said}", str(number))
    yield Figure("Leads", "signed and sent", "", str(counted.leads))
    for partition, number in sorted(counted.enrolments.items()):
        yield Figure("Gallery", "templates enrolled", partition, str(number))
    for (partition, reason), number in sorted(counted.expungements.items()):
        yield Figure("Gallery", f"templates removed from {partition}", reason, str(number))
    for name, number in sorted(counted.packs.items()):
        yield Figure("Exchange with other devices", f"template packs {name}", "", str(number))
    for (way, device, partition), number in sorted(counted.exchanged.items()):
        yield Figure("Exchange with other devices", f"templates {way} {device}", partition, str(number))


def _refused(counted: Statistics) -> Iterator[Figure]:
    for (step, reason), number in sorted(counted.refusals.items()):
        yield Figure("Refusals by reason", step, reason, str(number))
    for reason, number in sorted(counted.discarded.items()):
        yield Figure("Refusals by reason", "work discarded by a stop", reason, str(number))
    for reason, number in sorted(counted.stops.items()):
        yield Figure("Stops by cause", reason, "", str(number))
    for (act, outcome), number in sorted(counted.orders.items()):
        yield Figure("Orders", act, outcome, str(number))


def _spreads(counted: Statistics) -> Iterator[Figure]:
    for section, spreads in (
        ("Thresholds of the searches (cosine)", counted.thresholds),
        ("Quality of the probes (0 to 100)", counted.qualities),
        ("Templates searched", counted.gallery_sizes),
    ):
        for partition, spread in sorted(spreads.items()):
            yield from _spread(section, partition, spread)


def _spread(section: str, partition: str, spread: Spread) -> Iterator[Figure]:
    for share, name in _SHARES:
        value = min(spread.values) if share == 0 else spread.at(share)
        if value is not None:
            yield Figure(section, partition, name, f"{value:g}")


def _rules(counted: Statistics) -> Iterator[Figure]:
    section = "Versions in force"
    for model, number in sorted(counted.models.items()):
        yield Figure(section, "model", model, f"{number} searches")
    for digest, version in sorted(counted.policies.items()):
        yield Figure(section, "policy", digest, f"version {version}" if version is not None else "in force before")
    for software in counted.software:
        yield Figure(section, "software", software, "")
    for (what, step), number in sorted(counted.updates.items()):
        yield Figure("Updates", what, step, str(number))
    for finding, number in sorted(counted.tampering.items()):
        yield Figure("Disagreements that the device found in its own stores", finding, "", str(number))
