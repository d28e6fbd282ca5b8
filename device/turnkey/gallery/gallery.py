"""The gallery: enrol, search, expunge. Rows are the truth; what searches them is a cache in memory that is wiped.

Rules kept here:
1. Search is complete by default: every template of the partition is compared, because a mate that an index skips is a
   lead nobody knows was missed. Where a graph stands in, the result says so, with its measured recall.
2. The permit is checked before a search, and again before its result is handed out.
3. The index follows the rows: a template is searchable only after its row is on disk, and not after its row is gone.
4. Without the key there is nothing in memory to search: `lock` drops the keys and overwrites and unmaps every template.
   It does not wait for an unlocking that is under way; that one is abandoned.
5. A gallery that holds another model's templates is refused: comparing across models is meaningless, and leaving them
   out would be an incomplete search that looks like a complete one.
6. An expungement removes the snapshots that may hold the template before the row, so that no crash in between leaves a
   copy behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.database import StorageError
from turnkey.gallery.graph import GraphFile
from turnkey.gallery.memory import SecretMemory, give_back_freed, no_core_dumps, swap_risk, widened
from turnkey.gallery.partition import PartitionIndex, Progress, silent
from turnkey.gallery.results import Candidate, GalleryLocked, OtherModel, SearchResult
from turnkey.gallery.rotation import begin_rotation, finish_rotation, rotate_batch, rotation_pending
from turnkey.gallery.rows import PARTITIONS, Counters
from turnkey.gallery.search import best_candidates
from turnkey.gallery.snapshot import Snapshots, sync_folder
from turnkey.gallery.store import Enrolment, TemplateStore
from turnkey.interlock.permit import Permit

__all__ = ["Candidate", "Gallery", "GalleryLocked", "OtherModel", "SearchResult"]


class Gallery:
    """The gallery at `path` for templates of `model_id`. Locked until `unlock`. May be called from any thread.

    Args:
        progress: told of a rebuilding that takes long.
        require_locked_memory: refuse to unlock where templates in memory could reach a swap device.
        scan_budget_ms: where a scan of a partition takes longer, a graph built before (`build_graph`) stands in for it;
            None: always scan.
    """

    def __init__(
        self,
        path: Path,
        model_id: str,
        *,
        progress: Progress = silent,
        require_locked_memory: bool = False,
        scan_budget_ms: float | None = None,
    ) -> None:
        self._path = path
        self._model_id = model_id
        self._progress = progress
        self._require_locked_memory = require_locked_memory
        self._scan_budget_ms = scan_budget_ms
        self._lock = threading.RLock()
        self._locking = threading.Event()
        self._opened: TemplateStore | None = None
        self._indexes: dict[str, PartitionIndex] = {}

    def unlock(self, key: bytes | bytearray) -> None:
        """Open the rows with the 32-byte key that came with the permit, and load them. Nothing where it is open.

        Raises:
            OtherModel: it holds templates of another embedder.
            GalleryLocked: `lock` was called meanwhile.
            StorageError: the rows cannot be used.
        """
        with self._lock:
            if self._opened is not None:
                return
            no_core_dumps()
            self._refuse_swap()
            self._opened = TemplateStore(self._path, key)
            try:
                self._refuse_other_models(self._opened)
                for partition in PARTITIONS:
                    index = PartitionIndex(
                        self._path, partition, self._model_id, check=self._check_unlocked, progress=self._progress
                    )
                    self._indexes[partition] = index
                    index.build(self._opened)
                    if self._scan_budget_ms is not None:
                        index.use_graph(self._opened, self._scan_budget_ms)
            except BaseException:
                self._wipe()
                raise

    def lock(self) -> None:
        """Forget keys and templates: what is left is ciphertext on disk. Safe to call twice."""
        self._locking.set()
        with self._lock:
            self._wipe()
            self._locking.clear()

    def _wipe(self) -> None:
        while self._indexes:
            self._indexes.popitem()[1].wipe()
        if self._opened is not None:
            self._opened.close()
            self._opened = None
            give_back_freed()

    def _check_unlocked(self) -> None:
        if self._locking.is_set():
            raise GalleryLocked("gallery-locked", "the gallery is locked: recognition is stopped")

    def _refuse_swap(self) -> None:
        if not self._require_locked_memory:
            return
        trial = SecretMemory(1 << 12)
        risk = swap_risk(trial)
        trial.wipe()
        if risk:
            raise StorageError(
                "memory-not-locked",
                "templates in memory could be swapped out: switch swap off, or raise the limit of locked memory",
            )

    def _refuse_other_models(self, store: TemplateStore) -> None:
        other = store.foreign_model(self._model_id)
        if other is not None:
            raise OtherModel(
                "gallery-of-another-model",
                f"{self._path}: holds templates of {other}; this device uses {self._model_id}: enrol anew",
            )

    @property
    def _store(self) -> TemplateStore:
        if self._opened is None:
            raise GalleryLocked("gallery-locked", "the gallery is locked: recognition is stopped")
        return self._opened

    def _index(self, partition: str) -> PartitionIndex:
        if partition not in self._indexes:
            raise GalleryLocked("gallery-locked", "the gallery is locked: recognition is stopped")
        return self._indexes[partition]

    def size(self, partition: str) -> int:
        """How many templates a partition holds.

        Raises:
            GalleryLocked: it cannot be known while the gallery is locked.
        """
        with self._lock:
            return len(self._index(partition))

    def enrol(
        self,
        partition: str,
        reference: str,
        template: NDArray[np.float32],
        *,
        quality: int,
        enrolled_at: datetime,
        permit: Permit,
        delete_after: datetime | None = None,
    ) -> int:
        """Enrol a template ((128,) float32, unit norm, centred); on disk when this returns. Returns its row number.

        Raises:
            Stopped: the permit died; nothing was kept.
            StorageError: it cannot be stored; nothing was kept.
        """
        enrolment = Enrolment(
            partition, reference, self._model_id, quality, enrolled_at, template, delete_after=delete_after
        )
        return self.enrol_many((enrolment,), permit)[0]

    def enrol_many(
        self,
        enrolments: Sequence[Enrolment],
        permit: Permit,
        also: Callable[[TemplateStore, list[int]], None] | None = None,
    ) -> list[int]:
        """Enrol several templates of one partition in one transaction; all are on disk when this returns, or none.

        Args:
            also: what else belongs into the same transaction; is given the rows and their numbers.

        Raises:
            as `enrol`.
        """
        permit.check()
        with self._lock:
            store = self._store
            rows = store.add_many(enrolments, permit, also and (lambda rows: also(store, rows)))
            for row, enrolment in zip(rows, enrolments, strict=True):
                template = np.ascontiguousarray(enrolment.template, dtype=np.float32)
                self._index(enrolment.partition).add([row], template[None])
        return rows

    def search(
        self,
        partition: str,
        probe: NDArray[np.float32],
        limit: int,
        permit: Permit,
        *,
        excluding: str | None = None,
    ) -> SearchResult:
        """Compare a probe ((128,) float32, unit norm, centred) with the templates of a partition.

        Args:
            limit: at most this many candidates are returned, one for each reference.
            excluding: a reference that is no candidate: the booking whose own probe this is.

        Raises:
            Stopped: the permit died; there is no result.
            GalleryLocked: a stop took the key.
            StorageDamaged: a row that may be a candidate does not open; there is no result.
        """
        permit.check()
        with self._lock:
            index, store = self._index(partition), self._store
            with widened(probe) as wide:
                best = best_candidates(
                    index.searcher, lambda rows: store.compare(partition, rows, wide), wide, limit, excluding
                )
            candidates = tuple(
                Candidate(found.row.row, found.row.reference, found.row.enrolled_at, found.score) for found in best
            )
            size, strategy = len(index), index.strategy
        permit.check()
        return SearchResult(partition, size, candidates, strategy)

    def counters(self) -> Counters:
        """How many rows there are, and the highest number ever given, open or not."""
        with self.rows() as store:
            return store.counters()

    def row_numbers(self, partition: str) -> list[int]:
        """Row numbers of a partition, rising, open or not."""
        with self.rows() as store:
            return [int(row) for row in store.numbers(partition)]

    def build_graph(self, partition: str, threads: int = 1) -> float:
        """Build and keep the graph of a partition, for the next unlocking. Takes long. Returns its measured recall.

        Raises:
            GalleryLocked: a stop took the key; nothing was kept.
            StorageFull: it cannot be kept.
        """
        with self._lock:
            return self._index(partition).build_graph(self._store, threads)

    def expunge(self, partition: str, reference: str) -> list[int]:
        """Remove every template of a reference. Returns the row numbers, if any.

        Works on a locked gallery as well: an expungement does not wait for a moratorium to end, and needs no key.
        """
        with self.rows() as store:
            first = store.first_of(partition, reference)
            return (
                []
                if first is None
                else self._remove(store, partition, first, lambda: store.remove(partition, reference))
            )

    def withdraw(self, partition: str, row: int) -> None:
        """Take back an enrolment that a stop overtook, locked or not. The row's number stays unused."""
        with self.rows() as store:
            self._remove(store, partition, row, lambda: store.remove_row(row))

    def retain(self, partition: str, now: datetime) -> list[int]:
        """Remove what retention has ended by `now`, locked or not. Returns the row numbers, if any."""
        with self.rows() as store:
            first = store.first_ended(partition, now)
            return (
                []
                if first is None
                else self._remove(store, partition, first, lambda: store.remove_ended(partition, now))
            )

    def _remove(self, store: TemplateStore, partition: str, first: int, remove: Callable[[], list[int]]) -> list[int]:
        forgotten = Snapshots(self._path, partition).forget(first)
        self._forget_graph(partition, first)
        rows = remove()
        index = self._indexes.get(partition)
        if index is not None:
            index.remove(rows)
            if forgotten:
                index.snapshot(store)
        return rows

    def rotate(self, old_key: bytes | bytearray, new_key: bytes | bytearray, permit: Permit) -> None:
        """Make `new_key` the gallery's key: from now on it alone unlocks. `continue_rotation` does the rest.

        Raises:
            RotationUnderWay: an earlier rotation is not finished.
            Stopped, StorageError: nothing has changed.
        """
        with self._lock:
            begin_rotation(self._store, old_key, new_key, permit)

    def continue_rotation(self, permit: Permit) -> None:
        """Seal anew what the old key sealed, and forget the old key. Searches go on between batches.

        Raises:
            Stopped, GalleryLocked: call it again once recognition runs.
            StorageDamaged: a row does not open; the old key stays.
        """
        after: int | None = 0
        while after is not None:
            with self._lock:
                after = rotate_batch(self._store, after, permit)
        with self._lock:
            finish_rotation(self._store, permit)
            for index in self._indexes.values():
                index.snapshots.forget(0)
                self._forget_graph(index.partition, 0)
                index.snapshot(self._store)

    @property
    def rotation_pending(self) -> bool:
        """Whether rows of an older key are left."""
        with self._lock:
            return rotation_pending(self._store)

    def _forget_graph(self, partition: str, row: int) -> None:
        """Delete the graph's snapshot where it may hold a row, before the row is deleted."""
        file = GraphFile.beside(self._path, partition, self._model_id)
        if file.newest() >= row:
            file.path.unlink(missing_ok=True)
            sync_folder(file.path.parent)

    @contextmanager
    def rows(self) -> Iterator[TemplateStore]:
        """The rows, to read facts from and to remove from, open or not; nothing else touches them meanwhile."""
        with self._lock:
            if self._opened is not None:
                yield self._opened
                return
            rows = TemplateStore(self._path, None)
            try:
                yield rows
            finally:
                rows.close()
