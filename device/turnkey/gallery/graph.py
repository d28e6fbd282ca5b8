"""The graph (usearch, HNSW): stands in for the scan where a partition outgrows the board, and says so.

It is not complete: it finds the right first candidate for most mated probes, and `recall` says for how many. What it
finds is opened and scored like everything else.

Rules kept here:
1. A graph is built once over a scan matrix and never changed. Rows enrolled since are scanned beside it, so that no row
   is out of reach, and no key is ever removed and added again (which usearch's HNSW does not survive).
2. Its recall is measured when it is built, against the scan, and goes with it into its snapshot and each result.
3. It lies in `SecretMemory`: usearch only looks at it there. An expunged template is overwritten in it.
4. It is a cache: a snapshot that does not open, or whose matrix has other rows, is set aside, and the scan serves.
5. Of the rows it lists those are opened that can be among the best unless int8 errs by more than six standard
   deviations: once in 10^9 rows, where the graph itself misses a mate in a hundred. The scan takes no such chance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from usearch.index import Index

from turnkey.gallery.memory import SecretMemory, give_back_freed
from turnkey.gallery.rows import TEMPLATE_DIMENSIONS
from turnkey.gallery.scan import BLOCK_ROWS, QuantisedProbe, ScanMatrix, Shortlist
from turnkey.gallery.sealing import OVERHEAD_BYTES, Sealer
from turnkey.gallery.snapshot import Unusable, headed, header_text, write_whole

CONNECTIVITY = 16
"""Links of a node. With half of them a graph is built in half the time, and misses several times as many mates."""
EXPANSION_ADD = 128
"""Candidates kept in view for a node's links. Half of them: the same saving, at twice the misses."""
EXPANSION_SEARCH = 256
"""Candidates kept in view by a search (`turnkeyctl bench gallery --graph-n` prints times and recall at 64 to 512)."""
RECALL_PROBES = 500
MATED_COSINE = 0.6
"""How like its mate a probe is that recall is measured with: a middling mated score."""

_ADDED_AT_ONCE = 4096
_LISTED = 64


class Header(BaseModel):
    """What a graph's snapshot is of; believed once the graph opens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: str
    model_id: str
    key_number: int
    newest: int
    rows: int
    recall: float
    size: int


@dataclass(frozen=True)
class GraphFile:
    """Where the graph of a partition is kept, and what must be in it."""

    path: Path
    partition: str
    model_id: str

    @classmethod
    def beside(cls, gallery: Path, partition: str, model_id: str) -> GraphFile:
        """The file beside the gallery."""
        return cls(gallery.with_name(f"{gallery.name}.{partition}.graph"), partition, model_id)

    def newest(self) -> float:
        """The highest row it may hold, by its own word; a file that does not say may hold any, none holds -inf."""
        try:
            with self.path.open("rb", buffering=0) as file:
                return Header.model_validate_json(header_text(file.read)).newest
        except FileNotFoundError:
            return float("-inf")
        except (OSError, Unusable, ValidationError):
            return float("inf")


class Enough(Exception):
    """Raised by a progress callback: the graph shall be of the rows added so far; the rest is scanned beside it."""


class Graph:
    """A graph over the rows of a matrix up to `newest`. Make one with `build` or `load`."""

    def __init__(self, memory: SecretMemory, newest: int, rows: int) -> None:
        self._memory = memory
        self._view = memory.view(0, memory.size)
        index: Any = Index.restore(self._view, view=True)
        if index is None or len(index) != rows:
            raise Unusable("not a graph of so many rows")
        self._index = index
        self.expansion = EXPANSION_SEARCH
        self.newest = newest
        self.rows = rows
        self.recall = 0.0

    @classmethod
    def build(cls, matrix: ScanMatrix, *, threads: int, progress: Callable[[int, int], None]) -> Graph:
        """Build over all rows of a matrix: a minute and more for each hundred thousand.

        Args:
            progress: called with rows done and rows in all; `Enough` ends the adding, anything else the building.
        """
        index: Any = Index(
            ndim=TEMPLATE_DIMENSIONS,
            metric="ip",
            dtype="i8",
            connectivity=CONNECTIVITY,
            expansion_add=EXPANSION_ADD,
        )
        done = newest = 0
        scratch = SecretMemory(_ADDED_AT_ONCE * TEMPLATE_DIMENSIONS)
        live_only = scratch.array(np.int8, (_ADDED_AT_ONCE, TEMPLATE_DIMENSIONS))
        try:
            for block in matrix.blocks:
                for start in range(0, block.used, _ADDED_AT_ONCE):
                    stop = min(start + _ADDED_AT_ONCE, block.used)
                    live = block.scales[start:stop] > 0
                    keys = block.rows[start:stop][live].astype(np.uint64)
                    np.compress(live, block.templates[start:stop], axis=0, out=live_only[: len(keys)])
                    index.add(keys, live_only[: len(keys)], threads=threads)
                    done += len(keys)
                    newest = int(block.rows[stop - 1])
                    progress(done, len(matrix))
        except Enough:
            pass
        finally:
            del live_only
            scratch.wipe()
        saved = index.save()
        index.reset()
        memory = SecretMemory(len(saved))
        with memory.view(0, memory.size) as into:
            into[:] = saved
        saved[:] = bytes(len(saved))
        del saved
        give_back_freed()
        graph = cls(memory, newest, done)
        graph.recall = _measured_recall(graph, matrix)
        return graph

    @property
    def expansion(self) -> int:
        """How many of the nearest it keeps in view while it searches: more find more, and take longer."""
        return int(self._index.expansion_search)

    @expansion.setter
    def expansion(self, expansion: int) -> None:
        self._index.expansion_search = expansion

    def nearest(self, probe: QuantisedProbe, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Row numbers of what it takes for the nearest, nearest first, and their dot products with the probe's levels.

        Returns:
            both (m,), m at most `wanted`.
        """
        found = self._index.search(probe.levels[0], wanted, threads=1)
        return np.asarray(found.keys, dtype=np.int64), 1.0 - np.asarray(found.distances, dtype=np.float64)

    def overwrite(self, template: NDArray[np.int8]) -> bool:
        """Overwrite a template with zeros where it stands in the graph; the links of its node stay."""
        at = self._memory.find(template.tobytes())
        if at < 0:
            return False
        self._memory.array(np.int8, (TEMPLATE_DIMENSIONS,), at)[:] = 0
        return True

    def write(self, file: GraphFile, sealer: Sealer, key_number: int) -> None:
        """Write an encrypted snapshot.

        Raises:
            OSError: disk full or failing; an older one stays.
        """
        header = Header(
            partition=file.partition,
            model_id=file.model_id,
            key_number=key_number,
            newest=self.newest,
            rows=self.rows,
            recall=self.recall,
            size=self._memory.size,
        )
        text = header.model_dump_json().encode()
        write_whole(file.path, (headed(text), sealer.seal(self._view, _bound(text))))

    @classmethod
    def load(cls, file: GraphFile, sealer: Sealer, key_number: int, matrix: ScanMatrix) -> Graph:
        """Open a snapshot for a matrix that holds its rows and perhaps newer ones.

        Raises:
            Unusable: there is none, it is damaged, or it is of something else.
        """
        memory = None
        try:
            with file.path.open("rb", buffering=0) as opened:
                text = header_text(opened.read)
                header = Header.model_validate_json(text)
                if (header.partition, header.model_id, header.key_number) != (
                    file.partition,
                    file.model_id,
                    key_number,
                ):
                    raise Unusable("a graph of another partition, model or key")
                if header.rows < int(np.count_nonzero(matrix.numbers() <= header.newest)):
                    raise Unusable("a graph that lacks rows")
                memory = SecretMemory(header.size)
                with memory.view(0, header.size) as into:
                    sealer.open_into(opened.read(header.size + OVERHEAD_BYTES), _bound(text), into)
            graph = cls(memory, header.newest, header.rows)
        except (InvalidTag, OSError, ValidationError, ValueError) as error:
            if memory is not None:
                memory.wipe()
            raise Unusable(f"{file.path.name}: {type(error).__name__}") from error
        graph.recall = header.recall
        return graph

    def wipe(self) -> None:
        """Overwrite and unmap."""
        self._index.reset()
        self._view.release()
        self._memory.wipe()


class GraphSearcher:
    """The graph, and the scan of what was enrolled since it was built."""

    def __init__(self, graph: Graph, matrix: ScanMatrix) -> None:
        self._graph, self._matrix = graph, matrix

    def shortlist(self, probe: NDArray[np.float64], wanted: int) -> Shortlist:
        """What the graph finds, and the best rows since, with the error that int8 is likely to make (rule 5)."""
        with QuantisedProbe(probe) as quantised:
            rows, dots = self._graph.nearest(quantised, min(wanted, _LISTED))
            scales = self._matrix.scales(rows)
            there = scales > 0
            rows, scores = rows[there], dots[there] * scales[there] * quantised.scale
            since = self._matrix.shortlist_of(quantised, wanted, newer_than=self._graph.newest)
            rows, scores = np.concatenate([rows, since.rows]), np.concatenate([scores, since.scores])
            order = np.lexsort((rows, -scores))
            return Shortlist(rows[order], scores[order], since.floor, self._matrix.likely_error(quantised))


def _measured_recall(graph: Graph, matrix: ScanMatrix) -> float:
    """Share of probes of middling likeness to a row for which the graph lists what the scan puts first."""
    rng = np.random.default_rng(0)
    right = 0
    blocks = [block for block in matrix.blocks if (block.scales[: block.used] > 0).any()]
    memory = SecretMemory(3 * 8 * TEMPLATE_DIMENSIONS)
    probe, noise, step = memory.array(np.float64, (3, TEMPLATE_DIMENSIONS))
    for turn in range(RECALL_PROBES):
        block = blocks[turn % len(blocks)]
        probe[:] = block.templates[rng.choice(np.flatnonzero(block.scales[: block.used]))]
        probe /= np.linalg.norm(probe)
        # Noise along what other rows have in common, as real probes differ, not along directions that no face takes.
        noise[:] = 0
        for _ in range(8):
            step[:] = block.templates[rng.integers(block.used)]
            step *= rng.choice((-1, 1))
            noise += step
        np.multiply(probe, noise @ probe, out=step)
        noise -= step
        if (length := float(np.linalg.norm(noise))) > 0:  # zero where there is one template only
            noise *= np.sqrt(1 - MATED_COSINE**2) / length
        probe *= MATED_COSINE
        probe += noise
        with QuantisedProbe(probe) as quantised:
            first = int(matrix.shortlist_of(quantised, 1).rows[0])
            right += first > graph.newest or first in graph.nearest(quantised, _LISTED)[0]
    del probe, noise, step
    memory.wipe()
    return right / RECALL_PROBES


def _bound(header: bytes) -> bytes:
    return b"turnkey graph 1" + hashlib.sha256(header).digest() + BLOCK_ROWS.to_bytes(4, "big")
