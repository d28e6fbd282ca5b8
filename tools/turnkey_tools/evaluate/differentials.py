"""How differently groups of people fare: the summary measures of the field, from one error rate a group.

Sources: ISO/IEC 19795-10 (quantifying biometric system performance variation across demographic groups); NIST FRTE
part 8, NISTIR 8429 (max over the geometric mean, max over min); Howard, Laird, Rubin, Sirotin, Tipton & Vemury,
"Evaluating proposed fairness models for face recognition algorithms", 2022 (Gini coefficient, GARBE).

Rules kept here:
1. Functions of rates; no I/O, no randomness.
2. A measure that the rates do not allow (a zero in a ratio or a geometric mean, fewer than two groups) is None, never
   a made-up number. A caller who wants one replaces zeros by bounds, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

GARBE_ALPHA = 0.5


@dataclass(frozen=True)
class Spread:
    """One kind of error over the groups.

    Attributes:
        max_over_geometric_mean: NIST's; 1 where all fare alike.
        max_over_min: the plain ratio; 1 where all fare alike.
        gini: 0 where all fare alike, 1 where one group bears all errors.
    """

    max_over_geometric_mean: float | None
    max_over_min: float | None
    gini: float | None


def spread(rates: Sequence[float]) -> Spread:
    """All three measures."""
    return Spread(max_over_geometric_mean(rates), max_over_min(rates), gini(rates))


def max_over_geometric_mean(rates: Sequence[float]) -> float | None:
    """max(x) / (x_1 ... x_n)^(1/n)."""
    if len(rates) < 2 or min(rates) <= 0:
        return None
    return max(rates) / math.exp(math.fsum(math.log(rate) for rate in rates) / len(rates))


def max_over_min(rates: Sequence[float]) -> float | None:
    """max(x) / min(x)."""
    if len(rates) < 2 or min(rates) <= 0:
        return None
    return max(rates) / min(rates)


def gini(rates: Sequence[float]) -> float | None:
    """n/(n-1) * sum_ij |x_i - x_j| / (2 n^2 mean(x)): the Gini coefficient with the correction for small n."""
    n = len(rates)
    mean = math.fsum(rates) / n if n else 0.0
    if n < 2 or mean <= 0:
        return None
    differences = math.fsum(abs(one - other) for one in rates for other in rates)
    return n / (n - 1) * differences / (2 * n * n * mean)


def garbe(fmrs: Sequence[float], fnmrs: Sequence[float], alpha: float = GARBE_ALPHA) -> float | None:
    """alpha * gini(FMR) + (1 - alpha) * gini(FNMR): the Gini Aggregation Rate for Biometric Equitability."""
    of_fmr, of_fnmr = gini(fmrs), gini(fnmrs)
    if of_fmr is None or of_fnmr is None:
        return None
    return alpha * of_fmr + (1 - alpha) * of_fnmr
