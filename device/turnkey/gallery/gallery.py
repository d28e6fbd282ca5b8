"""The gallery: enrol, search, expunge. Rows are the truth, a usearch index over each partition answers searches.

Rules kept here:
1. Search is complete: every template of the partition is compared (`exact=True`), because a mate that an index skips
   is a lead nobody knows was missed. The candidates' scores are computed again in double precision.
2. The permit is checked before a search, and again before its result is handed out.
3. The index follows the rows: a template is searchable only after its row is on disk, and not after its row is gone.
4. Without the key there is nothing in memory to search: `lock` drops key and templates together.
5. A gallery that holds another model's templates is refused: comparing across models is meaningless, and leaving them
   out would be an incomplete search that looks like a complete one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from turnkey.database import StorageError
from turnkey.gallery.store import TEMPLATE_DIMENSIONS, Enrolment, TemplateStore
from turnkey.interlock.permit import Permit

PARTITIONS = ("bookings", "cases")


class OtherModel(StorageError):
    """The gallery holds templates of another embedder."""


@dataclass(frozen=True)
class Candidate:
    """One enrolled template and its score against the probe: cosine similarity, -1 to 1."""

    row: int
    reference: str
    enrolled_at: datetime
    score: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        partition: what was searched.
        gallery_size: templates compared: all that the partition held.
        candidates: the best, best score first. No threshold has been applied.
    """

    partition: str
    gallery_size: int
    candidates: tuple[Candidate, ...]


class GalleryLocked(StorageError):
    """The gallery is ciphertext: the interlock has taken the key back, or has not given it yet."""


class Gallery:
    """The gallery at `path` for templates of `model_id`. Locked until `unlock`. May be called from any thread."""

    def __init__(self, path: Path, model_id: str) -> None:
        self._path = path
        self._model_id = model_id
        self._lock = threading.RLock()
        self._opened: TemplateStore | None = None
        self._indexes: dict[str, Index] = {}

    def unlock(self, key: bytes | bytearray) -> None:
        """Open the rows with the 32-byte key that came with the permit, and load them. Nothing where it is open.

        Raises:
            OtherModel: it holds templates of another embedder.
            StorageError: the rows cannot be used.
        """
        with self._lock:
            if self._opened is not None:
                return
            self._opened = TemplateStore(self._path, key)
            try:
                others = self._opened.model_ids() - {self._model_id}
                if others:
                    raise OtherModel(
                        "gallery-of-another-model",
                        f"{self._path}: holds templates of {', '.join(sorted(others))}; "
                        f"this device uses {self._model_id}: enrol anew",
                    )
                self._indexes = {partition: self._build(partition) for partition in PARTITIONS}
            except BaseException:
                self.lock()
                raise

    def lock(self) -> None:
        """Forget key and templates: what is left is ciphertext on disk. Safe to call twice."""
        with self._lock:
            self._indexes = {}
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    @property
    def _store(self) -> TemplateStore:
        if self._opened is None:
            raise GalleryLocked("gallery-locked", "the gallery is locked: recognition is stopped")
        return self._opened

    def _build(self, partition: str) -> Index:
        index = Index(ndim=TEMPLATE_DIMENSIONS, metric="ip", dtype="f32")
        loaded = list(self._store.templates(partition))
        if loaded:
            index.add(np.array([row for row, _ in loaded], dtype=np.uint64), np.stack([vector for _, vector in loaded]))
        return index

    def size(self, partition: str) -> int:
        """How many templates a partition holds.

        Raises:
            GalleryLocked: it cannot be known while the gallery is locked.
        """
        with self._lock:
            return len(self._index(partition))

    def _index(self, partition: str) -> Index:
        if partition not in self._indexes:
            raise GalleryLocked("gallery-locked", "the gallery is locked: recognition is stopped")
        return self._indexes[partition]

    def enrol(
        self,
        partition: str,
        reference: str,
        template: NDArray[np.float32],
        *,
        quality: int,
        enrolled_at: datetime,
        permit: Permit,
    ) -> int:
        """Enrol a template ((128,) float32, unit norm, centred); on disk when this returns. Returns its row number.

        Raises:
            Stopped: the permit died; nothing was kept.
            StorageError: it cannot be stored; nothing was kept.
        """
        permit.check()
        enrolment = Enrolment(partition, reference, self._model_id, quality, enrolled_at, template)
        with self._lock:
            row = self._store.add(enrolment, permit)
            self._index(partition).add(row, np.asarray(template, dtype=np.float32))
        return row

    def search(self, partition: str, probe: NDArray[np.float32], limit: int, permit: Permit) -> SearchResult:
        """Compare a probe ((128,) float32, unit norm, centred) with every template of a partition.

        Args:
            limit: at most this many candidates are returned.

        Raises:
            Stopped: the permit died; there is no result.
            GalleryLocked: a stop took the key.
        """
        permit.check()
        with self._lock:
            index = self._index(partition)
            size = len(index)
            rows = index.search(probe, min(limit, size), exact=True).keys if size else np.empty(0, dtype=np.uint64)
            scored = sorted((-self._score(index, probe, int(row)), int(row)) for row in rows)
            candidates = tuple(self._candidate(row, -score) for score, row in scored)
        permit.check()
        return SearchResult(partition, size, candidates)

    def expunge(self, partition: str, reference: str) -> list[int]:
        """Remove every template of a reference. Returns the row numbers, if any.

        Works on a locked gallery as well: an expungement does not wait for a moratorium to end, and needs no key.
        """
        with self._removing(partition) as rows:
            return rows.remove(partition, reference)

    def withdraw(self, partition: str, row: int) -> None:
        """Take back an enrolment that a stop overtook, locked or not. The row's number stays unused."""
        with self._removing(partition) as rows:
            rows.remove_row(row)

    @contextmanager
    def _removing(self, partition: str) -> Iterator[TemplateStore]:
        """The rows to remove from; an index that was built over them is built again after."""
        with self._lock:
            if self._opened is not None:
                yield self._opened
                self._indexes[partition] = self._build(partition)
                return
            rows = TemplateStore(self._path, None)
            try:
                yield rows
            finally:
                rows.close()

    @staticmethod
    def _score(index: Index, probe: NDArray[np.float32], row: int) -> float:
        template = np.asarray(index.get(row), dtype=np.float64)
        return float(np.clip(template @ probe.astype(np.float64), -1.0, 1.0))

    def _candidate(self, row: int, score: float) -> Candidate:
        facts = self._store.get(row)
        if facts is None:
            raise StorageError("index-ahead-of-rows", f"the index holds row {row}, which the gallery does not")
        return Candidate(row, facts.reference, facts.enrolled_at, score)
