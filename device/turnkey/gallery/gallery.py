"""The gallery: enrol, search, expunge. Rows are the truth, a usearch index over each partition answers searches.

Rules kept here:
1. Search is complete: every template of the partition is compared (`exact=True`), because a mate that an index skips
   is a lead nobody knows was missed. The candidates' scores are computed again in double precision.
2. The permit is checked before a search, and again before its result is handed out.
3. The index follows the rows: a template is searchable only after its row is on disk, and not after its row is gone.
4. A gallery that holds another model's templates is refused: comparing across models is meaningless, and leaving them
   out would be an incomplete search that looks like a complete one.
"""

from __future__ import annotations

import threading
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


class Gallery:
    """The gallery at `path` for templates of `model_id`. Its methods may be called from any thread.

    Args:
        path: the SQLite file.
        key: 32 bytes, from the interlock.
        model_id: the embedder in use.

    Raises:
        OtherModel: it holds templates of another embedder.
        StorageError: the rows cannot be used.
    """

    def __init__(self, path: Path, key: bytes, model_id: str) -> None:
        self._lock = threading.Lock()
        self._store = TemplateStore(path, key)
        self._model_id = model_id
        try:
            others = self._store.model_ids() - {model_id}
            if others:
                raise OtherModel(
                    "gallery-of-another-model",
                    f"{path}: holds templates of {', '.join(sorted(others))}; this device uses {model_id}: enrol anew",
                )
            self._indexes = {partition: self._build(partition) for partition in PARTITIONS}
        except BaseException:
            self._store.close()
            raise

    def _build(self, partition: str) -> Index:
        index = Index(ndim=TEMPLATE_DIMENSIONS, metric="ip", dtype="f32")
        loaded = list(self._store.templates(partition))
        if loaded:
            index.add(np.array([row for row, _ in loaded], dtype=np.uint64), np.stack([vector for _, vector in loaded]))
        return index

    def size(self, partition: str) -> int:
        """How many templates a partition holds."""
        with self._lock:
            return len(self._indexes[partition])

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
            self._indexes[partition].add(row, np.asarray(template, dtype=np.float32))
        return row

    def search(self, partition: str, probe: NDArray[np.float32], limit: int, permit: Permit) -> SearchResult:
        """Compare a probe ((128,) float32, unit norm, centred) with every template of a partition.

        Args:
            limit: at most this many candidates are returned.

        Raises:
            Stopped: the permit died; there is no result.
        """
        permit.check()
        with self._lock:
            index = self._indexes[partition]
            size = len(index)
            rows = index.search(probe, min(limit, size), exact=True).keys if size else np.empty(0, dtype=np.uint64)
            scored = sorted((-self._score(index, probe, int(row)), int(row)) for row in rows)
            candidates = tuple(self._candidate(row, -score) for score, row in scored)
        permit.check()
        return SearchResult(partition, size, candidates)

    def expunge(self, partition: str, reference: str) -> list[int]:
        """Remove every template of a reference from rows and index. Returns the row numbers, if any."""
        with self._lock:
            removed = self._store.remove(partition, reference)
            if removed:
                self._indexes[partition] = self._build(partition)
        return removed

    def close(self) -> None:
        """Close the rows. Safe to call twice."""
        self._store.close()

    @staticmethod
    def _score(index: Index, probe: NDArray[np.float32], row: int) -> float:
        template = np.asarray(index.get(row), dtype=np.float64)
        return float(np.clip(template @ probe.astype(np.float64), -1.0, 1.0))

    def _candidate(self, row: int, score: float) -> Candidate:
        facts = self._store.get(row)
        if facts is None:
            raise StorageError("index-ahead-of-rows", f"the index holds row {row}, which the gallery does not")
        return Candidate(row, facts.reference, facts.enrolled_at, score)
