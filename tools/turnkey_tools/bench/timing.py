"""How long a step takes: many runs, peers taken in turn.

Rules kept here:
1. Peers that are compared are run alternately, round by round, so that whatever else the machine does slows them alike.
2. Wall-clock time on the monotonic clock; one thread each; warm-up rounds are not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

WARM_UP_ROUNDS = 3


def times_ms(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each step in each of `rounds`, the steps interleaved."""
    for _ in range(WARM_UP_ROUNDS):
        for step in steps.values():
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - began))
    return times
