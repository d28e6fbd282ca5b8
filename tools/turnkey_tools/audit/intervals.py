"""From single statements to intervals of time with a verdict each. Pure.

A statement is an entry by which the device says how it stands: a boot, a change of state, a heartbeat. Between two of
them lies a piece of time, whose verdict is the first of these that holds:

    VIOLATION      an entry in it, or one of its ends, breaks a rule; or the history around it is not the one that was
                   signed or witnessed
    UNKNOWN        there was no sign of life for longer than `Limits.gap_s`; or nothing was exported for it
    PROVEN         both ends were witnessed within `Limits.in_time_s`, and the tree up to them is the witnessed one
    LATE-ATTESTED  signed by the device, but witnessed later, or never

Pieces side by side that have state and verdict in common are one interval. A piece is open until the witness's
checkpoint that covers it is found in the tree (`agree`); what is open at the end rests on the device's signature alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

GAP_S: Final = 150.0  # two heartbeats and a half
IN_TIME_S: Final = 1800.0  # the witness cosigns each quarter of an hour; twice that


class Verdict(StrEnum):
    """What can be said of an interval. From best to worst."""

    PROVEN = "PROVEN"
    LATE = "LATE-ATTESTED"
    UNKNOWN = "UNKNOWN"
    VIOLATION = "VIOLATION"


_RANK: Final = {verdict: rank for rank, verdict in enumerate(Verdict)}


def worst(verdicts: list[Verdict]) -> Verdict:
    """The worst; UNKNOWN where there is none."""
    return max(verdicts, key=_RANK.__getitem__, default=Verdict.UNKNOWN)


@dataclass(frozen=True)
class Limits:
    """What counts as a gap, and as in time, seconds."""

    gap_s: float = GAP_S
    in_time_s: float = IN_TIME_S


@dataclass(frozen=True, slots=True)
class Statement:
    """How the device stands from `at_s` (POSIX seconds) on.

    Attributes:
        index: of its entry.
        state: of the interlock; None: unknown.
        seen_s: when a witness held a tree with this entry; None: never.
        cover: size of the first witnessed tree that has it; 0: none has.
    """

    at_s: float
    index: int
    state: str | None
    seen_s: float | None
    cover: int


@dataclass(slots=True)
class Interval:
    """A stretch of time with one state and one verdict. Grows while the timeline does, and never after.

    Attributes:
        start_s, end_s: POSIX seconds.
        state: of the interlock, `UNKNOWN` where it is not known.
        because: codes of the findings that made the verdict.
        first, last: indexes of the entries at its ends; None where there are none.
        cover: see `Statement`; the larger one of its ends.
    """

    start_s: float
    end_s: float
    state: str
    verdict: Verdict
    because: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None
    cover: int = 0

    def joins(self, other: Interval) -> bool:
        """Whether `other`, which follows, is more of the same."""
        return (
            self.verdict is other.verdict
            and self.cover == other.cover
            and self.state == other.state
            and self.because == other.because
        )


@dataclass
class Timeline:
    """Grows by statements; see the rules above."""

    limits: Limits
    agreed: list[Interval] = field(default_factory=list)
    _open: list[Interval] = field(default_factory=list)
    _before: Statement | None = None
    _broken: set[str] = field(default_factory=set)
    _forked: str | None = None
    _unlawful: str | None = None

    def unlawful(self, code: str, index: int) -> None:
        """What began with the entry at `index` should not have: all of it is a violation until recognition stops."""
        self._unlawful = code
        for intervals in (self.agreed, self._open):
            for place, one in enumerate(intervals):
                if one.first is not None and one.first >= index and one.state == "RUNNING":
                    intervals[place] = _broken(one, code)

    def breaks(self, code: str) -> None:
        """A rule was broken by an entry since the last statement, or by the next statement itself."""
        self._broken.add(code)

    def state(self, now: Statement) -> None:
        """The device says how it stands."""
        before, self._before = self._before, now
        if before is None:
            self._broken.clear()
            return
        if now.at_s <= before.at_s:
            # The clock went back: until it has caught up, time stands still and what broke stays broken.
            self._before = replace(now, at_s=before.at_s, state=now.state)
            return
        _push(self._open, self._between(before, now))
        self._broken.clear()
        if now.state not in (None, "RUNNING"):
            self._unlawful = None

    def _between(self, before: Statement, now: Statement) -> Interval:
        state, cover = before.state or "UNKNOWN", now.cover
        if self._forked is not None:
            self._broken.add(self._forked)
        if self._unlawful is not None and state == "RUNNING":
            self._broken.add(self._unlawful)
        if self._broken:
            verdict, because = Verdict.VIOLATION, tuple(sorted(self._broken))
        elif now.at_s - before.at_s > self.limits.gap_s:
            verdict, because, state = Verdict.UNKNOWN, ("gap",), "UNKNOWN"
        elif before.state is None:
            verdict, because = Verdict.UNKNOWN, ("state-unknown",)
        elif self._in_time(before) and self._in_time(now):
            verdict, because = Verdict.PROVEN, ()
        else:
            verdict, because = Verdict.LATE, ()
        return Interval(before.at_s, now.at_s, state, verdict, because, before.index, now.index, cover)

    def _in_time(self, statement: Statement) -> bool:
        return statement.seen_s is not None and statement.seen_s - statement.at_s <= self.limits.in_time_s

    def agree(self, size: int) -> None:
        """The witness held a tree of `size` entries, and it is this one."""
        while self._open and 0 < self._open[0].cover <= size:
            _push(self.agreed, replace(self._open.pop(0), cover=0))

    def fork(self, code: str) -> None:
        """From what the witness last agreed to on, this is not the history that was witnessed."""
        self._forked = self._forked or code
        self._open = [_broken(interval, code) for interval in self._open]

    def disown(self, code: str) -> None:
        """The device did not sign any of it."""
        self.agreed = [_broken(interval, code) for interval in self.agreed]
        self.fork(code)

    def close(self, unsigned: str | None) -> list[Interval]:
        """The entries end. `unsigned`: why the device's own signature does not cover them; None where it does."""
        for interval in self._open:
            if unsigned is not None:
                interval = _broken(interval, unsigned)
            elif interval.verdict is Verdict.PROVEN:
                interval = replace(interval, verdict=Verdict.LATE)
            _push(self.agreed, replace(interval, cover=0))
        self._open = []
        return self.agreed


def window(intervals: list[Interval], since_s: float | None, until_s: float | None) -> list[Interval]:
    """The intervals cut to a window; what it asks for and they do not have is UNKNOWN."""
    if since_s is None:
        since_s = intervals[0].start_s if intervals else 0.0
    if until_s is None:
        until_s = intervals[-1].end_s if intervals else since_s
    cut = [
        replace(one, start_s=max(one.start_s, since_s), end_s=min(one.end_s, until_s))
        for one in intervals
        if one.end_s > since_s and one.start_s < until_s
    ]
    begins, ends = (cut[0].start_s, cut[-1].end_s) if cut else (until_s, until_s)
    missing = Interval(since_s, begins, "UNKNOWN", Verdict.UNKNOWN, ("not-exported",))
    behind = Interval(ends, until_s, "UNKNOWN", Verdict.UNKNOWN, ("not-exported",))
    return [*([missing] if begins > since_s else []), *cut, *([behind] if until_s > ends else [])]


def _push(intervals: list[Interval], last: Interval) -> None:
    if intervals and intervals[-1].joins(last):
        intervals[-1].end_s, intervals[-1].last = last.end_s, last.last
    else:
        intervals.append(last)


def _broken(interval: Interval, code: str) -> Interval:
    because = tuple(sorted({*interval.because, code} - {"gap", "state-unknown"}))
    return replace(interval, verdict=Verdict.VIOLATION, because=because)
