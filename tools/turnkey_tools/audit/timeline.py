"""The timeline as SVG: two bands, above what recognition did, below what can be proved of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Final

from turnkey_tools.audit.intervals import Interval, Verdict
from turnkey_tools.audit.view import length, moment

_LEFT: Final = 92.0
_WIDTH: Final = 868.0
_BAND: Final = 14.0
_ROW: Final = 52.0
_DAY_S: Final = 86400.0
_MOST_DAY_ROWS: Final = 16
_STATES: Final = {"RUNNING": "RUNNING", "UNKNOWN": "UNKNOWN"}


@dataclass(frozen=True)
class Row:
    """One line of the timeline: a stretch of time, its name, and where its marks are."""

    name: str
    start_s: float
    end_s: float
    marks: tuple[tuple[float, str], ...]


def rows(start_s: float, end_s: float) -> list[Row]:
    """How a window is broken into lines: as it is up to a day, by days up to two weeks, else by months."""
    if end_s - start_s <= _DAY_S:
        return [Row(f"{_at(start_s):%Y-%m-%d}", start_s, end_s, _hours(start_s, end_s))]
    if end_s - start_s <= _MOST_DAY_ROWS * _DAY_S:
        return [
            Row(f"{day:%a %d %b}", day.timestamp(), day.timestamp() + _DAY_S, _day_hours(day.timestamp()))
            for day in _days(start_s, end_s)
        ]
    return list(_months(start_s, end_s))


def svg(intervals: list[Interval]) -> str:
    """The picture; empty where there is no time."""
    if not intervals or intervals[-1].end_s <= intervals[0].start_s:
        return ""
    lines = rows(intervals[0].start_s, intervals[-1].end_s)
    height = _ROW * len(lines) + 6
    drawn = "".join(_row(line, place, intervals) for place, line in enumerate(lines))
    return (
        f'<svg viewBox="0 0 {_LEFT + _WIDTH + 20:.0f} {height:.0f}" role="img" '
        f'aria-label="Timeline of recognition and verdicts; the table below says the same">{drawn}</svg>'
    )


def key() -> str:
    """What the colours and patterns mean."""
    shown = [("s-RUNNING", "recognition ran"), ("s-STOPPED", "stopped"), ("s-UNKNOWN", "not known")]
    shown += [(f"v-{verdict}", str(verdict)) for verdict in Verdict]
    entries = (
        '<li><svg viewBox="0 0 24 11" aria-hidden="true">'
        f'<rect width="24" height="11" rx="2" class="{name}"/></svg>{text}</li>'
        for name, text in shown
    )
    return f'<ul class="key">{"".join(entries)}</ul>'


def _row(row: Row, place: int, intervals: list[Interval]) -> str:
    top = place * _ROW + 4
    scale = _WIDTH / (row.end_s - row.start_s)
    parts = [f'<text x="0" y="{top + 19:.1f}">{escape(row.name)}</text>']
    for at_s, name in row.marks:
        x = _LEFT + (at_s - row.start_s) * scale
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{top + 33:.1f}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{top + 44:.1f}" text-anchor="middle">{name}</text>')
    for one in intervals:
        start_s, end_s = max(one.start_s, row.start_s), min(one.end_s, row.end_s)
        if end_s <= start_s:
            continue
        x, width = _LEFT + (start_s - row.start_s) * scale, max((end_s - start_s) * scale, 0.75)
        if one.verdict is Verdict.VIOLATION:
            width = max(width, 5.0)
        said = f"{moment(one.start_s)} to {moment(one.end_s)} UTC ({length(one.end_s - one.start_s)}): {one.state}, "
        said += f"{one.verdict}{': ' + ', '.join(one.because) if one.because else ''}"
        state = _STATES.get(one.state, "STOPPED")
        parts.append(
            f"<g><title>{escape(said)}</title>"
            f'<rect x="{x:.2f}" y="{top:.1f}" width="{width:.2f}" height="{_BAND}" class="s-{state}"/>'
            f'<rect x="{x:.2f}" y="{top + _BAND + 2:.1f}" width="{width:.2f}" height="{_BAND}" '
            f'class="v-{one.verdict}"/></g>'
        )
    return "".join(parts)


def _at(posix_s: float) -> datetime:
    return datetime.fromtimestamp(posix_s, UTC)


def _hours(start_s: float, end_s: float) -> tuple[tuple[float, str], ...]:
    span = end_s - start_s
    step = next((step for step in (10, 60, 300, 900, 3600, 10800) if span / step <= 10), 10800)
    first = start_s - start_s % step + step
    shape = "%H:%M:%S" if step < 60 else "%H:%M"
    return tuple(
        (first + number * step, f"{_at(first + number * step):{shape}}")
        for number in range(int((end_s - first) // step) + 1)
        if first + number * step <= end_s
    )


def _day_hours(start_s: float) -> tuple[tuple[float, str], ...]:
    return tuple((start_s + hour * 3600, f"{hour:02}:00") for hour in range(0, 25, 6))


def _days(start_s: float, end_s: float) -> Iterator[datetime]:
    day = _at(start_s).replace(hour=0, minute=0, second=0, microsecond=0)
    while day.timestamp() < end_s:
        yield day
        day += timedelta(days=1)


def _months(start_s: float, end_s: float) -> Iterator[Row]:
    month = _at(start_s).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month.timestamp() < end_s:
        begins = month.timestamp()
        marks = tuple((begins + (day - 1) * _DAY_S, str(day)) for day in (1, 8, 15, 22, 29))
        yield Row(f"{month:%b %Y}", begins, begins + 31 * _DAY_S, marks)
        month = (month + timedelta(days=32)).replace(day=1)
