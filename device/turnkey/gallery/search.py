"""From a shortlist to candidates: open the best rows, score them exactly, stop where nothing else can be better.

Rules kept here:
1. A candidate's score is computed in float64 from the stored template; how it was found has no part in it.
2. Over a complete scan the result is exactly what comparing with everything would give: rows are opened, best first,
   until the scan's error bound rules every other row out. Where the list ends too early, a longer one is asked for.
3. One reference, one candidate: a person's several templates do not take several places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from turnkey.gallery.rows import Compared
from turnkey.gallery.scan import Shortlist

FIRST_WANTED = 256
"""Rows asked of the first scan: usually several times what has to be opened."""
_OPENED_AT_FIRST = 8
_OPENED_AT_ONCE = 64
_WIDENED_BY = 16

Method = Literal["exhaustive", "graph"]


class Searcher(Protocol):
    """What finds the rows worth opening."""

    def shortlist(self, probe: NDArray[np.float64], wanted: int) -> Shortlist:
        """At least the best `wanted` rows for a probe ((128,) float64, unit norm), as well as it can tell."""
        ...


@dataclass(frozen=True)
class Strategy:
    """How a search was done.

    Attributes:
        method: `exhaustive` compared every template; `graph` did not.
        recall: share of mated probes whose first candidate `graph` finds, as measured when it was built; 1 for
            `exhaustive`.
    """

    method: Method
    recall: float


EXHAUSTIVE = Strategy("exhaustive", 1.0)


def best_candidates(
    searcher: Searcher,
    compare: Callable[[Sequence[int]], list[Compared]],
    probe: NDArray[np.float64],
    limit: int,
    excluding: str | None = None,
) -> tuple[Compared, ...]:
    """The best `limit` references, best first; equal scores in the order of their rows.

    Args:
        compare: opens rows and scores them exactly.
        excluding: a reference that is no candidate: the booking whose own probe this is.
    """
    wanted = FIRST_WANTED
    best = _Best(limit)
    compared: set[int] = set()
    while limit > 0:
        shortlist = searcher.shortlist(probe, wanted)
        if _open_while_needed(shortlist, compare, excluding, best, compared):
            break
        wanted *= _WIDENED_BY
    return tuple(best.ranked)


class _Best:
    """The best `limit` references so far."""

    def __init__(self, limit: int) -> None:
        self.ranked: list[Compared] = []
        self.limit = limit

    def take(self, candidates: Sequence[Compared]) -> None:
        by_reference: dict[str, Compared] = {}
        for candidate in sorted([*self.ranked, *candidates], key=lambda one: (-one.score, one.row.row)):
            by_reference.setdefault(candidate.row.reference, candidate)
        self.ranked = list(by_reference.values())[: self.limit]

    @property
    def bar(self) -> float:
        """Something that scores below this can no longer come among them."""
        return self.ranked[-1].score if len(self.ranked) == self.limit else -np.inf


def _open_while_needed(
    shortlist: Shortlist,
    compare: Callable[[Sequence[int]], list[Compared]],
    excluding: str | None,
    best: _Best,
    compared: set[int],
) -> bool:
    """True where what was not opened cannot be among the best."""
    done, falling = 0, -shortlist.scores
    while done < len(falling):
        # As many as are asked for, until there are so many; then all that these do not rule out, in few queries.
        needed = int(np.searchsorted(falling, shortlist.error - best.bar, side="right"))
        if needed <= done:
            return True
        stop = min(needed, done + (max(best.limit, _OPENED_AT_FIRST) if best.bar == -np.inf else _OPENED_AT_ONCE))
        rows = [row for row in shortlist.rows[done:stop].tolist() if row not in compared]
        compared.update(rows)
        best.take([candidate for candidate in compare(rows) if candidate.row.reference != excluding])
        done = stop
    return shortlist.floor == -np.inf or best.bar > shortlist.floor + shortlist.error
