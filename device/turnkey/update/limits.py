"""What an update may cost: every limit of the way from a server to this device, with its unit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of fetching.

    Attributes:
        most_bytes: the longest file, whatever its signed length says.
        most_bytes_per_s: what an update takes of the line; leads use the same one.
        least_bytes_per_s: a server that stays below it over `patience_s` is given up (TUF: slow retrieval).
        patience_s: also how long to wait for a connection, or for the next bytes.
        attempts: how often a broken download is taken up again in one run.
    """

    most_bytes: int = 1 << 30
    most_bytes_per_s: int = 4 << 20
    least_bytes_per_s: int = 1024
    patience_s: float = 30.0
    attempts: int = 5
