"""One partition in memory: its scan matrix, the graph where one stands in, and their snapshots. A cache of the rows.

Rules kept here:
1. After `build`, what is in memory is what is in the rows, row for row: newest good snapshot, less what was removed
   since, plus the rows since. Where that does not come out, everything is built from the rows.
2. Building can be abandoned at any moment: `check` is called every thousand rows and every block.
3. A snapshot that cannot be written is a fault to show (`fault`), not a reason to stop searching.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.database import StorageError, StorageFull
from turnkey.gallery.graph import Graph, GraphFile, GraphSearcher
from turnkey.gallery.rows import TEMPLATE_DIMENSIONS
from turnkey.gallery.scan import ScanMatrix
from turnkey.gallery.search import EXHAUSTIVE, Searcher, Strategy
from turnkey.gallery.snapshot import Snapshots, Unusable
from turnkey.gallery.store import TemplateStore

SNAPSHOT_ROWS = 20_000
"""Rows that are quicker read from a snapshot than opened one by one; fewer need none."""

Progress = Callable[[str, int, int], None]
"""Called with what is being built, rows done and rows in all."""


def silent(_what: str, _done: int, _of: int) -> None:
    """No progress shown."""


class PartitionIndex:
    """What searches one partition of the gallery at `path`."""

    def __init__(
        self, path: Path, partition: str, model_id: str, *, check: Callable[[], None], progress: Progress = silent
    ) -> None:
        self.partition = partition
        self.matrix = ScanMatrix()
        self.snapshots = Snapshots(path, partition)
        self.graph: Graph | None = None
        self.graph_file = GraphFile.beside(path, partition, model_id)
        self.fault: str | None = None
        self.opened_rows = 0
        self._model_id = model_id
        self._check = check
        self._progress = progress

    def build(self, store: TemplateStore) -> None:
        """Bring memory up to the rows.

        Raises:
            StorageDamaged: a row does not open.
        """
        numbers = store.numbers(self.partition)
        stale = not self._from_snapshot(store, numbers)
        self._check()
        missing = len(numbers) - len(self.matrix)

        def visit(rows: list[int], templates: NDArray[np.float32]) -> None:
            self._check()
            self.matrix.add(rows, templates)
            self.opened_rows += len(rows)
            self._progress(self.partition, self.opened_rows, missing)

        store.each_batch(self.partition, numbers[numbers > self.matrix.newest], visit)
        if not np.array_equal(self.matrix.numbers(), numbers):
            raise StorageError("index-unlike-rows", f"{self.partition}: rows changed while they were read; try again")
        if len(numbers) >= SNAPSHOT_ROWS and (stale or self.opened_rows >= SNAPSHOT_ROWS):
            self.snapshot(store)
            self._check()

    def _from_snapshot(self, store: TemplateStore, numbers: NDArray[np.int64]) -> bool:
        """True where a snapshot was used that holds nothing but rows that are."""
        for path in self.snapshots.files():
            try:
                matrix = self.snapshots.load(path, store.sealer, store.key_number, self._model_id, self._check)
            except Unusable as reason:
                self.fault = str(reason)
                continue
            held, known = matrix.numbers(), numbers[numbers <= matrix.newest]
            if np.array_equal(held, known) or np.isin(known, held, assume_unique=True).all():
                self.matrix.wipe()
                self.matrix = matrix
                removed = np.setdiff1d(held, known, assume_unique=True) if len(held) > len(known) else held[:0]
                for row in removed:
                    matrix.remove(int(row))
                return not removed.size
            matrix.wipe()
            self.fault = f"{path.name}: does not hold every row that it should"
        return False

    def snapshot(self, store: TemplateStore) -> None:
        """Write a snapshot of what is in memory, where it is worth one."""
        if len(self.matrix) < SNAPSHOT_ROWS:
            return
        try:
            self.snapshots.write(self.matrix, store.sealer, store.key_number, self._model_id, self._check)
        except StorageError as error:
            self.fault = str(error)

    @property
    def strategy(self) -> Strategy:
        """How this partition is searched now."""
        return EXHAUSTIVE if self.graph is None else Strategy("graph", self.graph.recall)

    @property
    def searcher(self) -> Searcher:
        """What searches it now."""
        return self.matrix if self.graph is None else GraphSearcher(self.graph, self.matrix)

    def use_graph(self, store: TemplateStore, scan_budget_ms: float) -> None:
        """Let the graph stand in where a scan takes longer than the budget and there is a good one; scan otherwise."""
        if self.graph is not None or not len(self.matrix) or self._scan_ms() <= scan_budget_ms:
            return
        try:
            self.graph = Graph.load(self.graph_file, store.sealer, store.key_number, self.matrix)
        except Unusable as reason:
            self.fault = f"scanned, though over budget: {reason}"

    def build_graph(self, store: TemplateStore, threads: int = 1) -> float:
        """Build the graph anew and keep it. Returns its measured recall.

        Raises:
            StorageError: there is nothing to build it of, or it cannot be written.
        """
        if not len(self.matrix):
            raise StorageError("partition-empty", f"{self.partition}: holds no template to build a graph of")

        def progress(done: int, of: int) -> None:
            self._check()
            self._progress(f"{self.partition}, graph", done, of)

        graph = Graph.build(self.matrix, threads=threads, progress=progress)
        try:
            graph.write(self.graph_file, store.sealer, store.key_number)
        except OSError as error:
            raise StorageFull("disk", f"{self.graph_file.path}: {error.strerror}") from error
        finally:
            graph.wipe()
        return graph.recall

    def _scan_ms(self) -> float:
        probe = np.full(TEMPLATE_DIMENSIONS, TEMPLATE_DIMENSIONS**-0.5)
        times = []
        for _ in range(3):
            began = time.perf_counter()
            self.matrix.shortlist(probe, 1)
            times.append(1e3 * (time.perf_counter() - began))
        return min(times)

    def __len__(self) -> int:
        return len(self.matrix)

    def add(self, rows: list[int], templates: NDArray[np.float32]) -> None:
        """Add what has just been stored."""
        self.matrix.add(rows, templates)

    def remove(self, rows: list[int]) -> None:
        """Overwrite what has just been removed from the rows."""
        for row in rows:
            template = self.matrix.template(row)
            if template is not None and self.graph is not None and row <= self.graph.newest:
                self.graph.overwrite(template)
            self.matrix.remove(row)

    def wipe(self) -> None:
        """Overwrite and unmap everything."""
        if self.graph is not None:
            self.graph.wipe()
            self.graph = None
        self.matrix.wipe()
