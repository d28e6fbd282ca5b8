"""Graph indexes over synthetic templates: Turnkey's, hnswlib's and faiss's, each in a process of its own.

Rules kept here:
1. The same templates, the same probes, the same parameters where they mean the same: 16 links, expansion 128 at
   building, 64 and 256 at search. One thread.
2. Recall is the share of probes whose first candidate is that of float64 brute force.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from turnkey.gallery.graph import EXPANSION_SEARCH, Graph, GraphSearcher
from turnkey.gallery.scan import ScanMatrix
from turnkey_tools.bench.synthetic import Population, Spread

if TYPE_CHECKING:
    from turnkey_tools.bench.gallery_worker import Spec

LINKS = 16
EXPANSION_ADD = 128
EXPANSIONS = (64, 256)
LISTED = 64

Find = Callable[[NDArray[np.float32]], int]


def graph_task(name: str, spec: Spec) -> dict[str, object]:
    """Run `turnkey_graph`, `hnswlib` or `faiss_graph`: figures by name of what was measured."""
    population = Population(spec.n, Spread.read(), spec.seed)
    templates = np.concatenate([population.chunk(number) for number in range(population.chunks())])
    probes, _ = population.probes(spec.probes)
    truth = _truth(templates, probes)
    return dict(GRAPHS[name](templates, probes, truth))


def _hnswlib(templates: NDArray[np.float32], probes: NDArray[np.float32], truth: NDArray[np.int64]) -> Figures:
    import hnswlib

    before = _resident_mb()
    index = hnswlib.Index("ip", templates.shape[1])
    index.init_index(len(templates), ef_construction=EXPANSION_ADD, M=LINKS)
    index.set_num_threads(1)
    built_s = _timed(lambda: index.add_items(templates))
    memory = _resident_mb() - before
    figures: Figures = {}
    for expansion in EXPANSIONS:
        index.set_ef(expansion)
        measured = measure(lambda probe: int(index.knn_query(probe, 10)[0][0, 0]), probes, truth)
        figures[f"hnswlib, {expansion}"] = measured | {"memory MB": memory, "build s": built_s}
    return figures


def _faiss(templates: NDArray[np.float32], probes: NDArray[np.float32], truth: NDArray[np.int64]) -> Figures:
    import faiss

    faiss.omp_set_num_threads(1)
    before = _resident_mb()
    index = faiss.IndexHNSWSQ(templates.shape[1], faiss.ScalarQuantizer.QT_8bit, LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EXPANSION_ADD
    index.train(templates[:50_000])
    built_s = _timed(lambda: index.add(templates))
    memory = _resident_mb() - before
    figures: Figures = {}
    for expansion in EXPANSIONS:
        index.hnsw.efSearch = expansion
        measured = measure(lambda probe: int(index.search(probe[None], 10)[1][0, 0]), probes, truth)
        figures[f"faiss HNSW 8-bit, {expansion}"] = measured | {"memory MB": memory, "build s": built_s}
    return figures


def _turnkey(templates: NDArray[np.float32], probes: NDArray[np.float32], truth: NDArray[np.int64]) -> Figures:
    """The product's own: graph, and exact scores of what it lists, as its search gives them."""
    matrix = ScanMatrix()
    matrix.add(range(1, len(templates) + 1), templates)
    before = _resident_mb()
    began = time.perf_counter()
    graph = Graph.build(matrix, threads=1, progress=lambda _done, _of: None)
    built_s = time.perf_counter() - began
    memory = _resident_mb() - before
    searcher = GraphSearcher(graph, matrix)

    def find(probe: NDArray[np.float32]) -> int:
        wide = probe.astype(np.float64)
        rows = searcher.shortlist(wide, LISTED).rows
        return int(rows[np.argmax(templates[rows - 1].astype(np.float64) @ wide)]) - 1

    measured = measure(find, probes, truth)
    return {
        f"Turnkey graph, {EXPANSION_SEARCH}, without opening rows": measured
        | {"recall stated by the product": graph.recall, "memory MB": memory, "build s": built_s}
    }


Figures = dict[str, dict[str, float]]
GRAPHS: dict[str, Callable[[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]], Figures]] = {
    "turnkey_graph": _turnkey,
    "hnswlib": _hnswlib,
    "faiss_graph": _faiss,
}


def measure(find: Find, probes: NDArray[np.float32], truth: NDArray[np.int64]) -> dict[str, float]:
    """Median ms of one search, and the share of right first candidates (positions, 0 and up)."""
    times, right = [], 0
    for probe, mate in zip(probes, truth, strict=True):
        began = time.perf_counter()
        first = find(probe)
        times.append(1e3 * (time.perf_counter() - began))
        right += first == mate
    return {"p50 ms": float(np.median(times)), "recall": right / len(probes)}


def _truth(templates: NDArray[np.float32], probes: NDArray[np.float32]) -> NDArray[np.int64]:
    wide = probes.astype(np.float64)
    best, at = np.full(len(wide), -np.inf), np.zeros(len(wide), np.int64)
    for start in range(0, len(templates), 1 << 13):
        scores = wide @ templates[start : start + (1 << 13)].astype(np.float64).T
        top = scores.argmax(axis=1)
        value = scores[np.arange(len(wide)), top]
        better = value > best
        best[better], at[better] = value[better], start + top[better]
    return at


def _timed(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def _resident_mb() -> float:
    from turnkey_tools.bench.gallery_worker import resident_mb

    return resident_mb()["VmRSS"]
