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
_OPENED_AT_ONCE = 16
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
    seen: dict[str, Compared] = {}
    compared: set[int] = set()
    while limit > 0:
        shortlist = searcher.shortlist(probe, wanted)
        if _open_while_needed(shortlist, compare, limit, excluding, seen, compared):
            break
        wanted *= _WIDENED_BY
    return tuple(_ranked(seen)[:limit])


def _open_while_needed(
    shortlist: Shortlist,
    compare: Callable[[Sequence[int]], list[Compared]],
    limit: int,
    excluding: str | None,
    seen: dict[str, Compared],
    compared: set[int],
) -> bool:
    """True where what was not opened cannot be among the best."""

    def ruled_out(scanned: float) -> bool:
        return len(seen) >= limit and _ranked(seen)[limit - 1].score > scanned + shortlist.error

    for start in range(0, len(shortlist.rows), _OPENED_AT_ONCE):
        if ruled_out(float(shortlist.scores[start])):
            return True
        rows = [int(row) for row in shortlist.rows[start : start + _OPENED_AT_ONCE] if int(row) not in compared]
        compared.update(rows)
        for candidate in compare(rows):
            reference = candidate.row.reference
            if reference != excluding and (reference not in seen or _rank(candidate) < _rank(seen[reference])):
                seen[reference] = candidate
    return shortlist.floor == -np.inf or ruled_out(shortlist.floor)


def _rank(candidate: Compared) -> tuple[float, int]:
    return -candidate.score, candidate.row.row


def _ranked(seen: dict[str, Compared]) -> list[Compared]:
    return sorted(seen.values(), key=_rank)
