"""A crowd of synthetic templates for the tests of rates."""

from __future__ import annotations

import numpy as np

from turnkey.vision.embedder import unit


def crowd(persons: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(n, 16) unit-norm templates of one to four pictures a person, and (n,) persons, rising."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, 5, persons)
    ids = np.repeat(np.arange(persons), counts)
    faces = random.normal(0, 1, (persons, 16))[ids] + random.normal(0, 0.4, (len(ids), 16))
    return unit(faces.astype(np.float32)), ids
