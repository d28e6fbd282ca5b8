"""Graph indexes over synthetic templates: Turnkey's, hnswlib's and faiss's, each in a process of its own.

Rules kept here:
1. The same templates, the same probes, the same parameters where they mean the same: 16 links, expansion 128 at
   building, 64 to 512 at search. One thread.
2. Recall is the share of probes whose first candidate is that of float64 brute force.
3. Building is bounded in time: a graph that is not done by then is measured over the templates it has, and says so.
4. Turnkey's is also measured as the device uses it (`built` and `served`): out of its encrypted file, rows opened and
   scored exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from turnkey.gallery.gallery import Gallery
from turnkey.gallery.graph import Enough, Graph, GraphFile
from turnkey.gallery.scan import QuantisedProbe, ScanMatrix
from turnkey.gallery.sealing import Sealer
from turnkey_tools.bench.synthetic import Population, Spread

if TYPE_CHECKING:
    from turnkey_tools.bench.gallery_worker import Spec

LINKS = 16
EXPANSION_ADD = 128
EXPANSIONS = (64, 128, 256, 512)
LISTED = 64
CANDIDATES = 10
_ADDED_AT_ONCE = 4096

Find = Callable[[NDArray[np.float32]], int]
Figures = dict[str, tuple[str, list[float]]]
"""Unit and measurements by what was measured."""


def graph_task(name: str, spec: Spec) -> dict[str, object]:
    """Run one of `GRAPHS` over the first templates."""
    population = Population(spec.n, Spread.read(), spec.seed)
    templates = np.concatenate([population.chunk(number) for number in range(population.chunks())])
    return dict(GRAPHS[name](templates, spec))


def built(spec: Spec) -> dict[str, object]:
    """Build and keep the graph of the gallery at `spec.path`, whose rows need not be there yet."""
    from turnkey_tools.bench.gallery_worker import KEY, MODEL, PARTITION

    population = Population(spec.n, Spread.read(), spec.seed)
    matrix = ScanMatrix()
    for number in range(population.chunks()):
        chunk = population.chunk(number)
        matrix.add(range(len(matrix) + 1, len(matrix) + 1 + len(chunk)), chunk)
    began = time.perf_counter()
    graph = Graph.build(matrix, threads=1, progress=_until(began + spec.limit_s))
    built_s = time.perf_counter() - began
    graph.write(GraphFile.beside(spec.path, PARTITION, MODEL), Sealer(KEY), 1)
    return {"rows": graph.rows, "built_s": built_s}


def served(spec: Spec) -> dict[str, object]:
    """Search the gallery at `spec.path` by its graph, at each expansion in turns: times, and first candidates."""
    from turnkey_tools.bench.gallery_worker import KEY, MODEL, PARTITION, permit, resident_mb

    probes, _ = Population(spec.n, Spread.read(), spec.seed).probes(spec.probes)
    gallery = Gallery(spec.path, MODEL, scan_budget_ms=1e-9)
    began = time.perf_counter()
    gallery.unlock(KEY)
    start_s = time.perf_counter() - began
    index = gallery._indexes[PARTITION]
    if index.graph is None:
        raise RuntimeError(index.fault)
    times: dict[int, list[float]] = {expansion: [] for expansion in EXPANSIONS}
    first: dict[int, list[int]] = {expansion: [] for expansion in EXPANSIONS}
    for probe in probes:
        for expansion in EXPANSIONS:
            index.graph.expansion = expansion
            began = time.perf_counter()
            found = gallery.search(PARTITION, probe, CANDIDATES, permit())
            times[expansion].append(1e3 * (time.perf_counter() - began))
            first[expansion].append(found.candidates[0].row)
    return {
        "times": times,
        "first": first,
        "recall": index.graph.recall,
        "start_s": start_s,
        "rss_mb": resident_mb()["VmRSS"],
    }


def _until(deadline_s: float) -> Callable[[int, int], None]:
    """A progress callback that is content with what was added by then (`time.perf_counter`)."""

    def progress(_done: int, _of: int) -> None:
        if time.perf_counter() > deadline_s:
            raise Enough

    return progress


def _filled(add: Callable[[NDArray[np.float32]], object], templates: NDArray[np.float32], limit_s: float) -> int:
    """Add what there is time for; returns how many."""
    deadline = time.perf_counter() + limit_s
    done = 0
    while done < len(templates) and time.perf_counter() < deadline:
        add(templates[done : done + _ADDED_AT_ONCE])
        done = min(done + _ADDED_AT_ONCE, len(templates))
    return done


def _hnswlib(templates: NDArray[np.float32], spec: Spec) -> Figures:
    import hnswlib

    before, began = _resident_mb(), time.perf_counter()
    index = hnswlib.Index("ip", templates.shape[1])
    index.init_index(len(templates), ef_construction=EXPANSION_ADD, M=LINKS)
    index.set_num_threads(1)
    done = _filled(index.add_items, templates, spec.limit_s)
    facts = _facts(done, began, before)

    def find(probe: NDArray[np.float32]) -> int:
        return int(index.knn_query(probe, CANDIDATES)[0][0, 0])

    return _measured(index.set_ef, find, templates[:done], spec, facts)


def _faiss(templates: NDArray[np.float32], spec: Spec) -> Figures:
    import faiss

    faiss.omp_set_num_threads(1)
    before, began = _resident_mb(), time.perf_counter()
    index = faiss.IndexHNSWSQ(templates.shape[1], faiss.ScalarQuantizer.QT_8bit, LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EXPANSION_ADD
    index.train(templates[:50_000])
    done = _filled(index.add, templates, spec.limit_s)
    facts = _facts(done, began, before)

    def expand(expansion: int) -> None:
        index.hnsw.efSearch = expansion

    def find(probe: NDArray[np.float32]) -> int:
        return int(index.search(probe[None], CANDIDATES)[1][0, 0])

    return _measured(expand, find, templates[:done], spec, facts)


def _beside(templates: NDArray[np.float32], spec: Spec) -> Figures:
    """The product's graph under the peers' conditions: exact scores from templates in clear, no row is opened."""
    matrix = ScanMatrix()
    matrix.add(range(1, len(templates) + 1), templates)
    before, began = _resident_mb(), time.perf_counter()
    graph = Graph.build(matrix, threads=1, progress=_until(began + spec.limit_s))
    facts = _facts(graph.rows, began, before)

    def expand(expansion: int) -> None:
        graph.expansion = expansion

    def find(probe: NDArray[np.float32]) -> int:
        with QuantisedProbe(probe.astype(np.float64)) as quantised:
            rows = graph.nearest(quantised, LISTED)[0]
        return int(rows[np.argmax(templates[rows - 1].astype(np.float64) @ probe.astype(np.float64))]) - 1

    return _measured(expand, find, templates[: graph.rows], spec, facts)


GRAPHS: dict[str, Callable[[NDArray[np.float32], Spec], Figures]] = {
    "Turnkey graph": _beside,
    "hnswlib": _hnswlib,
    "faiss HNSW 8-bit": _faiss,
}


def _facts(done: int, began: float, resident_before_mb: float) -> Figures:
    return {
        "templates": ("count", [float(done)]),
        "building": ("s", [time.perf_counter() - began]),
        "memory": ("MB", [_resident_mb() - resident_before_mb]),
    }


def _measured(
    expand: Callable[[int], object], find: Find, templates: NDArray[np.float32], spec: Spec, facts: Figures
) -> Figures:
    """The facts, and of each expansion the times of a search and the share of right first candidates."""
    probes, _ = Population(len(templates), Spread.read(), spec.seed).probes(spec.probes)
    truth = _truth(templates, probes)
    for expansion in EXPANSIONS:
        expand(expansion)
        times, right = [], 0
        for probe, mate in zip(probes, truth, strict=True):
            began = time.perf_counter()
            first = find(probe)
            times.append(1e3 * (time.perf_counter() - began))
            right += first == mate
        facts[f"search, expansion {expansion}"] = ("ms", times)
        facts[f"first candidate right, expansion {expansion}"] = ("share", [float(right / len(probes))])
    return facts


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


def _resident_mb() -> float:
    from turnkey_tools.bench.gallery_worker import resident_mb

    return resident_mb()["VmRSS"]
