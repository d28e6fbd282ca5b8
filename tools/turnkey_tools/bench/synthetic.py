"""Synthetic templates with the spread of real ones: as many as a city has mugshots, out of a seed.

Identities are drawn with the covariance between persons, samples of one identity with the covariance within persons,
both measured on real embeddings and kept in `spread.npz`: sums over thousands of pictures, nobody's template.
`turnkeyctl bench spread` writes that file.

Rules kept here:
1. The same seed, the same templates, whichever part of them is asked for: chunk by chunk, never all at once.
2. Probes are further samples of enrolled identities, never an enrolled template itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SPREAD_FILE = Path(__file__).parent / "spread.npz"
CHUNK_IDENTITIES = 4096
SAMPLES_PER_IDENTITY = 2


@dataclass(frozen=True, eq=False)
class Spread:
    """Covariances of centred unit templates, (128, 128) float64: between persons, and within a person."""

    between: NDArray[np.float64]
    within: NDArray[np.float64]

    @classmethod
    def read(cls, path: Path = SPREAD_FILE) -> Spread:
        """The measured spread that ships with the tools."""
        with np.load(path) as stored:
            return cls(stored["between"].astype(np.float64), stored["within"].astype(np.float64))

    def write(self, path: Path) -> None:
        """Keep it, as float32."""
        np.savez_compressed(path, between=self.between.astype(np.float32), within=self.within.astype(np.float32))


def measure_spread(templates: NDArray[np.float32], persons: NDArray[np.int64]) -> Spread:
    """The spread of real templates ((n, 128) centred, unit norm) of `persons` ((n,), rising).

    Within: pooled over persons with two or more pictures. Between: of persons' means, less what their pictures' own
    spread puts into a mean.
    """
    wide = templates.astype(np.float64)
    _, starts, counts = np.unique(persons, return_index=True, return_counts=True)
    means = np.add.reduceat(wide, starts) / counts[:, None]
    apart = wide - np.repeat(means, counts, axis=0)
    within = apart.T @ apart / float((counts - 1).sum())
    between = np.cov(means.T) - within * float((1.0 / counts).mean())
    return Spread(between, within)


class Population:
    """`n` templates of seeded identities, `SAMPLES_PER_IDENTITY` each; template i is of identity i // samples."""

    def __init__(self, n: int, spread: Spread, seed: int = 1) -> None:
        self.n = n
        self._seed = seed
        self._between, self._within = _root(spread.between), _root(spread.within)

    def chunks(self) -> int:
        """How many chunks `chunk` has."""
        return -(-self.n // (CHUNK_IDENTITIES * SAMPLES_PER_IDENTITY))

    def chunk(self, number: int) -> NDArray[np.float32]:
        """Templates of one chunk: (m, 128) float32, unit norm, identity by identity."""
        identities = self._identities(number)
        rng = np.random.default_rng((self._seed, 2, number))
        samples = np.repeat(identities, SAMPLES_PER_IDENTITY, axis=0)
        samples = samples + rng.standard_normal(samples.shape, dtype=np.float32) @ self._within
        first = number * CHUNK_IDENTITIES * SAMPLES_PER_IDENTITY
        return _unit(samples)[: self.n - first]

    def probes(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """`count` mated probes, (count, 128) float32, and which identity each is of; spread over all chunks."""
        rng = np.random.default_rng((self._seed, 3))
        of = np.sort(rng.integers(0, self.n // SAMPLES_PER_IDENTITY, count))
        probes = np.empty((count, len(self._between)), np.float32)
        for number in np.unique(of // CHUNK_IDENTITIES):
            here = of // CHUNK_IDENTITIES == number
            probes[here] = self._identities(int(number))[of[here] % CHUNK_IDENTITIES]
        probes += rng.standard_normal(probes.shape, dtype=np.float32) @ self._within
        shuffled = rng.permutation(count)
        return _unit(probes)[shuffled], of[shuffled]

    def _identities(self, number: int) -> NDArray[np.float32]:
        rng = np.random.default_rng((self._seed, 1, number))
        drawn: NDArray[np.float32] = rng.standard_normal((CHUNK_IDENTITIES, len(self._between)), dtype=np.float32)
        return drawn @ self._between


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float32]:
    """R with R.T @ R = covariance; directions whose estimate fell below zero are left out."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))).T, dtype=np.float32)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)
