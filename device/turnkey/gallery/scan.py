"""The exhaustive scan: every template of a partition as int8, compared block by block with SIMD dot products.

Rules kept here:
1. Every row is compared with every probe. The scan only decides which rows are worth opening for an exact score; it
   never decides a score.
2. The error of int8 is bounded, not assumed: a row x is stored as s*r (r int8, s the usual scale, or its own where a
   component is too large for that) and the norm of what that leaves out is kept, likewise for the probe q. By
   Cauchy-Schwarz the exact score differs from the scanned one by at most |q - q'|*|x| + |q'|*|x - x'|. Whoever
   re-scores until that bound rules the rest out has the exact best.
3. Templates in int8 are templates: they live in `SecretMemory`, in blocks, so that growth copies nothing and needs no
   second copy of everything. A removed row is overwritten in place.

What was measured and left out: scanning a prefix of principal dimensions first and pruning by the bound of the rest.
The kernel's time is per row, not per byte (`turnkeyctl bench gallery` prints 64 of 128 dimensions beside the scan).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import numkong
import numpy as np
from numpy.typing import NDArray

from turnkey.gallery.kernel import packed_kernel
from turnkey.gallery.memory import SecretMemory
from turnkey.gallery.rows import TEMPLATE_DIMENSIONS

BLOCK_ROWS = 1 << 15
"""Rows in a block: 4 MiB of int8, two huge pages; its scores stay in the core's own cache."""

_NORM_SLACK = 1e-3
"""A stored template's norm is 1 to within this (the store refuses others)."""
_ROUNDING = 1e-5
"""More than float32 and float64 arithmetic on 128 terms below 1 can add up to."""
_LARGEST = 127
_USUAL_SCALE = np.float32(0.5 / _LARGEST)
"""Components of a 128-d unit template hardly ever exceed 0.5; one scale for all saves a pass over the scores."""
_SCRATCH_ROWS = 1024

Scanned = NDArray[np.int32] | NDArray[np.float64]
"""Scores in units of both usual scales: whole numbers, unless a row has a scale of its own."""


@dataclass(frozen=True, eq=False)
class Shortlist:
    """The rows that scanned best.

    Attributes:
        rows: (m,) int64, best first.
        scores: (m,) float64, their scanned scores, falling.
        floor: no row outside the list scanned above this; -inf where the list holds all.
        error: an exact score differs from the scanned one by at most this.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    floor: float
    error: float


class Block:
    """Up to `BLOCK_ROWS` rows: int8 templates, scales, row numbers. A removed row has scale zero.

    A full block is packed for the kernel that scans it fastest, where this machine has one; `plain` gives it back as it
    was filled, for snapshots.

    Attributes:
        templates: (`BLOCK_ROWS`, 128) int8, in place.
        uniform: every used row has the usual scale.
    """

    BYTES = BLOCK_ROWS * (TEMPLATE_DIMENSIONS + 4 + 8)

    def __init__(self) -> None:
        self.memory = SecretMemory(self.BYTES)
        self.used = 0
        self.uniform = True
        self._packed: NDArray[np.uint8] | None = None
        self.templates, self.scales, self.rows = _plain_arrays(self.memory)

    def pack(self) -> None:
        """Pack a full block; nothing where it is not full or there is no such kernel. Also after a removal."""
        kernel = packed_kernel()
        if kernel is None or self.used < BLOCK_ROWS:
            return
        size = kernel.bytes_for(BLOCK_ROWS)
        memory = SecretMemory(size + BLOCK_ROWS * (4 + 8))
        packed = memory.array(np.uint8, (size,))
        kernel.pack(self.templates, packed)
        scales = memory.array(np.float32, (BLOCK_ROWS,), size)
        rows = memory.array(np.int64, (BLOCK_ROWS,), size + 4 * BLOCK_ROWS)
        scales[:], rows[:] = self.scales, self.rows
        self.wipe()
        self.memory, self._packed = memory, packed
        self.templates, self.scales, self.rows = kernel.rows(packed, BLOCK_ROWS), scales, rows

    def scan(self, levels: NDArray[np.int8], whole: NDArray[np.int32], wide: NDArray[np.float64]) -> Scanned:
        """Dot products of a probe ((1, 128) int8) with all used rows, into one of the two buffers."""
        kernel = packed_kernel()
        if kernel is not None and self._packed is not None:
            kernel.dot(levels, self._packed, whole)
            return whole
        numkong.cdist(levels, self.templates[: self.used], "dot", out=wide[None, : self.used])
        return wide[: self.used]

    @contextmanager
    def plain(self) -> Iterator[memoryview]:
        """The block's bytes as it was filled: templates, scales, row numbers."""
        memory = SecretMemory(self.BYTES)
        templates, scales, rows = _plain_arrays(memory)
        templates[:], scales[:], rows[:] = self.templates, self.scales, self.rows
        del templates, scales, rows
        view = memory.view(0, self.BYTES)
        try:
            yield view
        finally:
            view.release()
            memory.wipe()

    def wipe(self) -> None:
        """Overwrite and unmap."""
        del self.templates, self.scales, self.rows
        self._packed = None
        self.memory.wipe()


def _plain_arrays(memory: SecretMemory) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int64]]:
    return (
        memory.array(np.int8, (BLOCK_ROWS, TEMPLATE_DIMENSIONS)),
        memory.array(np.float32, (BLOCK_ROWS,), BLOCK_ROWS * TEMPLATE_DIMENSIONS),
        memory.array(np.int64, (BLOCK_ROWS,), BLOCK_ROWS * (TEMPLATE_DIMENSIONS + 4)),
    )


class ScanMatrix:
    """A partition's templates for scanning. Rows are added in rising order of their numbers."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._firsts: list[int] = []
        self.residual = 0.0
        self._live = 0
        self._wide: NDArray[np.float64] = np.empty(BLOCK_ROWS, dtype=np.float64)
        self._whole: NDArray[np.int32] = np.empty(BLOCK_ROWS, dtype=np.int32)
        self._scratch = SecretMemory(2 * 4 * TEMPLATE_DIMENSIONS * _SCRATCH_ROWS)
        shape = (_SCRATCH_ROWS, TEMPLATE_DIMENSIONS)
        self._levels = self._scratch.array(np.float32, shape)
        self._rest = self._scratch.array(np.float32, shape, 4 * TEMPLATE_DIMENSIONS * _SCRATCH_ROWS)

    def __len__(self) -> int:
        return self._live

    @property
    def newest(self) -> int:
        """The highest row number that was ever added; 0 where there is none."""
        return int(self.blocks[-1].rows[self.blocks[-1].used - 1]) if self.blocks else 0

    def numbers(self) -> NDArray[np.int64]:
        """Row numbers of what it holds, rising."""
        return np.concatenate([np.empty(0, np.int64)] + [b.rows[: b.used][b.scales[: b.used] > 0] for b in self.blocks])

    def add(self, rows: Sequence[int], templates: NDArray[np.float32]) -> None:
        """Add templates ((m, 128) float32, unit norm) under rising row numbers, above all before them."""
        done = 0
        while done < len(rows):
            if not self.blocks or self.blocks[-1].used == BLOCK_ROWS:
                self.blocks.append(Block())
            room = min(BLOCK_ROWS - self.blocks[-1].used, _SCRATCH_ROWS, len(rows) - done)
            if rows[done] <= self.newest:
                raise ValueError(f"row {rows[done]} comes after row {self.newest}")
            self._append(self.blocks[-1], rows[done : done + room], templates[done : done + room])
            done += room

    def _append(self, block: Block, rows: Sequence[int], templates: NDArray[np.float32]) -> None:
        count, levels, rest = len(rows), self._levels[: len(rows)], self._rest[: len(rows)]
        if not block.used:
            self._firsts.append(int(rows[0]))
        at = slice(block.used, block.used + count)
        scales = np.maximum(templates.max(axis=1), -templates.min(axis=1)) / np.float32(_LARGEST)
        np.maximum(scales, _USUAL_SCALE, out=scales)
        np.divide(templates, scales[:, None], out=levels)
        np.rint(levels, out=levels)
        np.copyto(block.templates[at], levels, casting="unsafe")
        np.multiply(levels, scales[:, None], out=levels)
        np.subtract(templates, levels, out=rest)
        self.residual = max(self.residual, float(np.sqrt(np.einsum("ij,ij->i", rest, rest).max())))
        block.scales[at] = scales
        block.rows[at] = rows
        block.used += count
        block.uniform = block.uniform and bool((scales == _USUAL_SCALE).all())
        block.pack()
        self._live += count

    def adopt(self, block: Block, residual: float) -> None:
        """Take over a filled block, from a snapshot."""
        self.blocks.append(block)
        self._firsts.append(int(block.rows[0]))
        self.residual = max(self.residual, residual)
        self._live += int(np.count_nonzero(block.scales[: block.used]))
        block.uniform = bool((block.scales[: block.used] == _USUAL_SCALE).all())
        block.pack()

    def remove(self, row: int) -> bool:
        """Overwrite a row; False where there is none."""
        found = self._find(row)
        if found is None:
            return False
        block, at = found
        block.templates[at] = 0
        block.scales[at] = 0
        block.uniform = False
        block.pack()
        self._live -= 1
        return True

    def scales(self, rows: Iterable[int]) -> NDArray[np.float32]:
        """The scale of each of `rows`; zero of one that it does not hold."""
        found = map(self._find, rows)
        return np.array([0 if place is None else place[0].scales[place[1]] for place in found], np.float32)

    def template(self, row: int) -> NDArray[np.int8] | None:
        """A row's int8 template in place; None where there is none."""
        found = self._find(row)
        return None if found is None else found[0].templates[found[1]]

    def _find(self, row: int) -> tuple[Block, int] | None:
        number = bisect_right(self._firsts, row) - 1
        if number < 0:
            return None
        block = self.blocks[number]
        # Where no number was left out, a row is as far from the first as its number is.
        at = min(row - self._firsts[number], block.used - 1)
        if block.rows[at] != row:
            at = int(np.searchsorted(block.rows[: block.used], row))
        return (block, at) if at < block.used and block.rows[at] == row and block.scales[at] else None

    def shortlist(self, probe: NDArray[np.float64], wanted: int, newer_than: int = 0) -> Shortlist:
        """Compare a probe ((128,) float64, unit norm) with every row; list at least the best `wanted`.

        Args:
            newer_than: only rows with a higher number: what a graph built earlier does not hold.
        """
        with QuantisedProbe(probe) as quantised:
            return self.shortlist_of(quantised, wanted, newer_than)

    def shortlist_of(self, probe: QuantisedProbe, wanted: int, newer_than: int = 0) -> Shortlist:
        """`shortlist`, of a probe that is quantised already."""
        rows: list[NDArray[np.int64]] = []
        scores: list[NDArray[np.float64]] = []
        floor, listed = -np.inf, 0
        for block, scanned in self._scanned(probe.levels, newer_than):
            # Whole numbers are compared with one: against a float numpy would first copy them all.
            bar = math.floor(floor) if scanned.dtype == np.int32 and floor > -np.inf else floor
            above = np.flatnonzero(scanned > bar)
            if above.size > 4 * wanted:
                floor = float(np.partition(scanned[above], -wanted)[-wanted])
                above = np.flatnonzero(scanned >= floor)
            rows.append(block.rows[above])
            scores.append(scanned[above].astype(np.float64))
            listed += above.size
            if listed > 4 * wanted:
                all_rows, all_scores = np.concatenate(rows), np.concatenate(scores)
                floor = max(floor, float(np.partition(all_scores, -wanted)[-wanted]))
                keep = all_scores >= floor
                rows, scores = [all_rows[keep]], [all_scores[keep]]
                listed = int(np.count_nonzero(keep))
        if not rows:
            return Shortlist(np.empty(0, np.int64), np.empty(0, np.float64), -np.inf, 0.0)
        all_rows, all_scores = np.concatenate(rows), np.concatenate(scores)
        order = np.lexsort((all_rows, -all_scores))
        unit = probe.scale * float(_USUAL_SCALE)
        return Shortlist(all_rows[order], all_scores[order] * unit, floor * unit, self.error(probe))

    def _scanned(self, levels: NDArray[np.int8], newer_than: int) -> Iterator[tuple[Block, Scanned]]:
        """Each block and its rows' scores in units of both usual scales, removed rows at -inf."""
        for block in self.blocks:
            used = block.used
            if block.rows[used - 1] <= newer_than:
                continue
            scanned = block.scan(levels, self._whole, self._wide)
            if not block.uniform or newer_than:
                scanned = np.multiply(scanned, block.scales[:used] / _USUAL_SCALE, out=self._wide[:used])
                scanned[(block.scales[:used] == 0) | (block.rows[:used] <= newer_than)] = -np.inf
            yield block, scanned

    def error(self, probe: QuantisedProbe) -> float:
        """By how much an exact score may differ from a scanned one."""
        return probe.left_out * (1 + _NORM_SLACK) + probe.norm * self.residual + _ROUNDING

    def likely_error(self, probe: QuantisedProbe) -> float:
        """Six standard deviations of that difference, as if the signs of what int8 leaves out were thrown."""
        return 6 * math.hypot(probe.left_out, probe.norm * self.residual) / math.sqrt(TEMPLATE_DIMENSIONS) + _ROUNDING

    def wipe(self) -> None:
        """Overwrite and unmap everything."""
        while self.blocks:
            self.blocks.pop().wipe()
        self._firsts.clear()
        self._live = 0
        self._levels = self._rest = np.empty((0, 0), np.float32)
        self._scratch.wipe()


class QuantisedProbe:
    """A probe ((128,) float64) as (1, 128) int8 `levels` and their `scale`. With `with`: it is overwritten at the end.

    Attributes:
        left_out: norm of what the levels leave out.
        norm: of what they stand for.
    """

    def __init__(self, probe: NDArray[np.float64]) -> None:
        self._memory = SecretMemory(TEMPLATE_DIMENSIONS * 9)
        exact = self._memory.array(np.float64, (TEMPLATE_DIMENSIONS,))
        self.levels = self._memory.array(np.int8, (1, TEMPLATE_DIMENSIONS), TEMPLATE_DIMENSIONS * 8)
        self.scale = max(float(probe.max()), -float(probe.min())) / _LARGEST
        np.divide(probe, self.scale, out=exact)
        np.rint(exact, out=exact)
        np.copyto(self.levels[0], exact, casting="unsafe")
        exact *= self.scale
        self.norm = float(np.linalg.norm(exact))
        np.subtract(probe, exact, out=exact)
        self.left_out = float(np.linalg.norm(exact))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.levels = np.empty((0, 0), np.int8)
        self._memory.wipe()
