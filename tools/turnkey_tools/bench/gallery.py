"""`turnkeyctl bench gallery`: the gallery at a city's size, beside faiss and hnswlib, on synthetic templates.

Rules kept here:
1. The truth is float64 brute force over every template, computed here, apart from what is measured.
2. Every measured thing runs in a process of its own (`gallery_worker`), one thread.
3. What is not installed, and what was measured over fewer templates than promised, is said; nothing is left out.
4. Promises that hold for a city's 2.5 million are bars from that size on; completeness is one at any size.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnkey.gallery.graph import CONNECTIVITY, EXPANSION_SEARCH, GraphFile
from turnkey.gallery.store import Enrolment, TemplateStore
from turnkey_tools.bench.gallery_worker import KEY, MODEL, NOW, PARTITION, Spec, permit
from turnkey_tools.bench.results import Bar, BenchReport, Figure, bench_report, figure
from turnkey_tools.bench.synthetic import SAMPLES_PER_IDENTITY, Population, Spread

Tick = Callable[[str, int, int], None]
WORKER_LIMIT_S = 4 * 3600
A_CITY = 2_500_000
BUILT_FILE = "graph-built.json"
"""Beside a kept graph: how many templates it is of, and how long it took to build."""
PACKAGES = ("usearch", "numkong", "numpy", "cryptography", "faiss-cpu", "hnswlib")


class BenchError(Exception):
    """A worker did not do what it was told; the message is its own."""


@dataclass(frozen=True)
class GalleryBench:
    """What to measure.

    Attributes:
        folder: for the galleries.
        n: templates searched exhaustively.
        probes, rounds: mated probes; timed rounds.
        peers: measure faiss and hnswlib too.
        graph_n: templates of the device's graph; 0: none. peer_graph_n: of the graphs beside the peers'.
        limit_s: time to build each graph; one that is not done by then is of fewer templates.
    """

    folder: Path
    n: int
    seed: int = 1
    probes: int = 2000
    rounds: int = 100
    peers: bool = False
    graph_n: int = 0
    peer_graph_n: int = 0
    limit_s: float = 600.0


@dataclass
class _Found:
    """What is measured, as it comes."""

    figures: list[Figure] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    bars: list[Bar] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)

    def note(self, name: str, unit: str, *values: float) -> float:
        """A figure; returns its median."""
        self.figures.append(figure(name, unit, values))
        return self.figures[-1].median


def bench_gallery(told: GalleryBench, tick: Tick) -> BenchReport:
    """Fill a gallery, measure it, and measure the peers.

    Raises:
        BenchError: a worker failed.
    """
    found = _Found()
    population = Population(told.n, Spread.read(), told.seed)
    spec = Spec(
        path=told.folder / "gallery.db",
        n=told.n,
        seed=told.seed,
        probes=told.probes,
        rounds=told.rounds,
        spawned_s=0.0,
        limit_s=told.limit_s,
    )
    began = time.perf_counter()
    if fill(spec.path, population, tick):
        found.note("rows stored a second, in batches", "1/s", told.n / (time.perf_counter() - began))
    truth = brute_force(population, told.probes, tick)
    rebuilt = work("rebuild", spec)
    found.note("start, without a snapshot where there was none", "s", rebuilt["seconds"])
    found.note("resident at that start, peak", "MB", rebuilt["VmHWM"])
    found.note("rows on disk", "MB", _size_mb(told.folder, ".db"))
    found.note("snapshot on disk", "MB", _size_mb(told.folder, ".scan"))
    _searched(found, work("search", spec), truth, told.n >= A_CITY)
    if told.peers:
        _flat(found, spec, truth, told.n >= A_CITY)
    if told.graph_n:
        _graph(found, told, spec, tick)
    if told.peers and told.peer_graph_n:
        _graphs_beside(found, spec, told.peer_graph_n, tick)
    settings: dict[str, str | float | bool] = {
        "n": told.n,
        "graph_n": told.graph_n,
        "peer_graph_n": told.peer_graph_n,
        "limit_s": told.limit_s,
        "probes": told.probes,
        "rounds": told.rounds,
        "seed": told.seed,
        "connectivity": CONNECTIVITY,
        "expansion": EXPANSION_SEARCH,
    }
    return bench_report(
        "gallery",
        settings,
        found.figures,
        packages=PACKAGES,
        peers=found.peers,
        ratios=found.ratios,
        bars=found.bars,
        absent=found.absent,
    )


def _searched(found: _Found, answer: dict[str, Any], truth: NDArray[np.int64], a_city: bool) -> None:
    times = answer["times"]
    search, read = np.array(times["search"]), np.array(times["read"])
    start = found.note("start to first search", "s", answer["start_s"])
    found.note("of that, unlocking and the search", "s", answer["unlock_and_search_s"])
    found.note("resident", "MB", answer["rss_mb"])
    resident = found.note("resident after all searches", "MB", answer["rss_after_mb"])
    found.note("resident, peak", "MB", answer["peak_mb"])
    found.note("pages locked (1: all)", "count", float(answer["pages_locked"]))
    p50 = found.note("exhaustive search", "ms", *search)
    found.note("plain read of the same bytes", "ms", *read)
    over = found.note("exhaustive search over plain read, in turn", "ratio", *(search / read))
    right = float((np.array(answer["first"]) == truth).mean())
    found.note(f"first candidate equal to float64 brute force, {len(truth):,} mated probes", "share", right)
    enrol = found.note("enrol one durably", "ms", *times["enrol"])
    found.note("scan of up to 262,144 rows, 128 dimensions", "ms", answer["prefix"]["128"])
    found.note("scan of the same rows, 64 dimensions", "ms", answer["prefix"]["64"])
    found.bars.append(Bar("first candidate equal to float64 brute force, share", right, "at least", 1.0))
    if a_city:
        found.bars += [
            Bar("exhaustive search, p50 ms", p50, "at most", 80.0),
            Bar("exhaustive search over a plain read, p50 of ratios in turn", over, "at most", 2.6),
            Bar("resident after all searches, MB", resident, "at most", 900.0),
            Bar("start to first search, s", start, "at most", 10.0),
            Bar("enrol one durably, p50 ms", enrol, "at most", 15.0),
        ]


def _flat(found: _Found, spec: Spec, truth: NDArray[np.int64], a_city: bool) -> None:
    if importlib.util.find_spec("faiss") is None:
        found.absent.append("faiss: not installed (extra `peers`)")
        return
    answer = work("flat_peer", spec)
    times, first = answer["times"], np.array(answer["first"])
    name = "faiss flat 8-bit"
    found.peers.append(name)
    ours = found.note("exhaustive search, in turns with faiss flat", "ms", *times["search"])
    theirs = found.note(f"{name}, search", "ms", *times["faiss"])
    found.note(f"{name}, first candidate right", "share", float((first == truth[: len(first)]).mean()))
    found.note(f"{name}, memory", "MB", answer["memory_mb"])
    found.note(f"{name}, building", "s", answer["built_s"])
    found.ratios[f"{name}, search of {spec.n:,}, p50 over ours"] = theirs / ours
    if a_city:
        found.bars.append(Bar(f"{name}, p50 over ours", theirs / ours, "at least", 1.0))


def _graph(found: _Found, told: GalleryBench, spec: Spec, tick: Tick) -> None:
    """The device's graph, out of its file: built here unless the folder holds one."""
    folder = told.folder / f"graph-{told.graph_n}"
    folder.mkdir(exist_ok=True)
    spec = spec.model_copy(update={"path": folder / "gallery.db", "n": told.graph_n, "probes": min(told.probes, 500)})
    note, graph = folder / BUILT_FILE, GraphFile.beside(spec.path, PARTITION, MODEL)
    if not (note.exists() and graph.path.exists()):
        tick("graph", 0, told.graph_n)
        note.write_text(json.dumps(work("built", spec)))
    facts = json.loads(note.read_text())
    rows = int(facts["rows"])
    tick("graph", rows, told.graph_n)
    spec = spec.model_copy(update={"n": rows})
    population = Population(rows, Spread.read(), told.seed)
    fill(spec.path, population, tick)
    truth = brute_force(population, spec.probes, tick)
    answer = work("served", spec)
    name = f"graph of {rows:,}"
    found.note(f"{name}, building", "s", facts["built_s"])
    found.note(f"{name}, on disk", "MB", graph.path.stat().st_size / 1e6)
    found.note(f"{name}, unlocking", "s", answer["start_s"])
    found.note(f"{name}, resident, scan matrix and all", "MB", answer["rss_mb"])
    found.note(f"{name}, recall that it states itself", "share", answer["recall"])
    for expansion, times in answer["times"].items():
        p50 = found.note(f"{name}, search, expansion {expansion}, rows opened", "ms", *times)
        right = float((np.array(answer["first"][expansion]) == truth).mean())
        found.note(f"{name}, first candidate right, expansion {expansion}", "share", right)
        if int(expansion) == EXPANSION_SEARCH and rows >= A_CITY:
            found.bars.append(Bar(f"graph search, p50 ms, with recall {right:.3f}", p50, "at most", 3.0))
    if rows < A_CITY:
        found.absent.append(f"the graph at {A_CITY:,}: this one is of {rows:,}, {facts['built_s']:.0f} s to build")


def _graphs_beside(found: _Found, spec: Spec, count: int, tick: Tick) -> None:
    """Ours, hnswlib's and faiss's over the first `count` templates, as far as each gets in its time."""
    small = spec.model_copy(update={"n": min(spec.n, count), "probes": min(spec.probes, 500)})
    tasks = {"Turnkey graph": None, "hnswlib": "hnswlib", "faiss HNSW 8-bit": "faiss"}
    for place, (task, module) in enumerate(tasks.items()):
        tick("graphs", place, len(tasks))
        if module is not None and importlib.util.find_spec(module) is None:
            found.absent.append(f"{module}: not installed (extra `peers`)")
            continue
        if module is not None:
            found.peers.append(task)
        for what, (unit, values) in work(task, small).items():
            found.note(f"{task}, {what}", unit, *values)
    tick("graphs", len(tasks), len(tasks))


def fill(path: Path, population: Population, tick: Tick) -> bool:
    """Enrol the whole population, row i+1 for template i, one reference an identity. False where it was there."""
    store = TemplateStore(path, KEY)
    done = len(store.numbers(PARTITION))
    if done not in (0, population.n):
        store.close()
        raise BenchError(f"{path}: holds {done} templates, not {population.n}: name another folder")
    empty = not done
    for number in range(population.chunks() if empty else 0):
        chunk = population.chunk(number)
        store.add_many(
            (
                Enrolment(PARTITION, f"B-{(done + i) // SAMPLES_PER_IDENTITY}", MODEL, 80, NOW, template)
                for i, template in enumerate(chunk)
            ),
            permit(),
        )
        done += len(chunk)
        tick("rows", done, population.n)
    store.close()
    return empty


def brute_force(population: Population, probes: int, tick: Tick) -> NDArray[np.int64]:
    """Row of the best template of each probe by float64 dot products over everything: (probes,)."""
    wide = population.probes(probes)[0].astype(np.float64)
    best, rows = np.full(probes, -np.inf), np.zeros(probes, np.int64)
    first = 1
    for number in range(population.chunks()):
        chunk = population.chunk(number).astype(np.float64)
        scores = wide @ chunk.T
        at = scores.argmax(axis=1)
        top = scores[np.arange(probes), at]
        better = top > best
        best[better], rows[better] = top[better], first + at[better]
        first += len(chunk)
        tick("brute force", first - 1, population.n)
    return rows


def work(task: str, spec: Spec) -> dict[str, Any]:
    """Run one task in a process of its own."""
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    told = spec.model_copy(update={"spawned_s": time.monotonic()}).model_dump_json()
    command = [sys.executable, "-m", "turnkey_tools.bench.gallery_worker", task, told]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WORKER_LIMIT_S, check=False)  # noqa: S603
    if done.returncode:
        raise BenchError(f"{task}: exit {done.returncode}: {done.stderr.strip()[-800:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _size_mb(folder: Path, suffix: str) -> float:
    return sum(path.stat().st_size for path in folder.iterdir() if path.name.endswith((suffix, f"{suffix}-wal"))) / 1e6
