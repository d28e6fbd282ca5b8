"""Waiting in tests. What is waited for comes soon; how long a test tries says nothing about the product.

A shared machine can stand still for seconds. Times that are promises are measured by `turnkeyctl bench`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 60.0
SLOW_LEASE_MS = 5000
"""A lease that outlasts a machine that stands still for seconds: for tests that are not about leases running out."""

Value = TypeVar("Value")


def wait_for(condition: Callable[[], Value | None], seconds: float = PATIENCE_S) -> Value:
    """The first value of `condition` that is true. Fails where none is in time."""
    deadline_s = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline_s, "nothing happened"
        time.sleep(0.005)
    return value
