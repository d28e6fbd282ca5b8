"""`turnkeyctl bench gallery`: the gallery at a city's size, beside faiss and hnswlib, on synthetic templates.

Rules kept here:
1. The truth is float64 brute force over every template, computed here, apart from what is measured.
2. Every measured thing runs in a process of its own (`gallery_worker`), one thread.
3. What is not installed is said to be not measured; nothing is left out silently.
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

from turnkey.gallery.store import Enrolment, TemplateStore
from turnkey_tools.bench.gallery_worker import KEY, MODEL, NOW, PARTITION, Spec, permit
from turnkey_tools.bench.synthetic import SAMPLES_PER_IDENTITY, Population, Spread

Tick = Callable[[str, int, int], None]
WORKER_LIMIT_S = 3600


class BenchError(Exception):
    """A worker did not do what it was told; the message is its own."""


@dataclass
class GalleryFigures:
    """What was measured. Times in ms, medians; sizes in MB (10^6 bytes); recalls are shares of first candidates."""

    n: int
    figures: dict[str, float] = field(default_factory=dict)
    peers: dict[str, dict[str, float]] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)


def run(
    folder: Path, n: int, *, seed: int, probes: int, rounds: int, peers: bool, graph_n: int, tick: Tick
) -> GalleryFigures:
    """Fill a gallery in `folder`, measure it, and measure the peers.

    Raises:
        BenchError: a worker failed.
    """
    result = GalleryFigures(n)
    population = Population(n, Spread.read(), seed)
    spec = Spec(path=folder / "gallery.db", n=n, seed=seed, probes=probes, rounds=rounds, spawned_s=0.0)
    began = time.perf_counter()
    figures = result.figures
    if fill(spec.path, population, tick):
        figures["rows stored a second, in batches"] = n / (time.perf_counter() - began)
    truth = brute_force(population, probes, tick)
    rebuilt = work("rebuild", spec)
    figures["start without a snapshot, s"] = rebuilt["seconds"]
    figures["resident at rebuilding, peak MB"] = rebuilt["VmHWM"]
    figures["rows on disk, MB"] = _size_mb(spec.path.parent, ".db")
    figures["snapshot on disk, MB"] = _size_mb(spec.path.parent, ".scan")
    found = work("search", spec)
    _searched(figures, found, truth)
    if peers:
        _flat(result, spec, truth)
    if graph_n:
        _graphs(result, spec, peers, graph_n, tick)
    return result


def _searched(figures: dict[str, float], found: dict[str, Any], truth: NDArray[np.int64]) -> None:
    times = found["times"]
    search, read = np.array(times["search"]), np.array(times["read"])
    figures["start to first search, s"] = found["start_s"]
    figures["of that, unlocking and the search, s"] = found["unlock_and_search_s"]
    figures["resident, MB"] = found["rss_mb"]
    figures["resident after all searches, MB"] = found["rss_after_mb"]
    figures["resident, peak MB"] = found["peak_mb"]
    figures["pages locked (1: all)"] = float(found["pages_locked"])
    figures["exhaustive search, p50 ms"] = float(np.median(search))
    figures["exhaustive search, p99 ms"] = float(np.quantile(search, 0.99))
    figures["plain read of the same bytes, p50 ms"] = float(np.median(read))
    figures["search over plain read, ratio of p50"] = float(np.median(search) / np.median(read))
    figures["search over plain read, p50 of ratios in turn"] = float(np.median(search / read))
    figures["exhaustive search, fastest ms"] = float(search.min())
    figures["plain read, fastest ms"] = float(read.min())
    figures["probes"] = float(len(truth))
    figures["first candidate equal to float64 brute force, share"] = float((np.array(found["first"]) == truth).mean())
    figures["enrol one durably, p50 ms"] = float(np.median(times["enrol"]))
    figures["enrol one durably, p99 ms"] = float(np.quantile(times["enrol"], 0.99))
    figures["scan of up to 262,144 rows, 128 dimensions, ms"] = found["prefix"]["128"]
    figures["scan of the same rows, 64 dimensions, ms"] = found["prefix"]["64"]


def _flat(result: GalleryFigures, spec: Spec, truth: NDArray[np.int64]) -> None:
    if importlib.util.find_spec("faiss") is None:
        result.absent.append("faiss (extra `peers`)")
        return
    flat = work("flat_peer", spec)
    times = flat["times"]
    first = np.array(flat["first"])
    result.peers["exhaustive, in turns with faiss flat"] = {
        "p50 ms": float(np.median(times["search"])),
        "fastest ms": float(np.min(times["search"])),
    }
    result.peers["faiss flat 8-bit"] = {
        "p50 ms": float(np.median(times["faiss"])),
        "fastest ms": float(np.min(times["faiss"])),
        "recall": float((first == truth[: len(first)]).mean()),
        "memory MB": flat["memory_mb"],
        "build s": flat["built_s"],
    }


def _graphs(result: GalleryFigures, spec: Spec, peers: bool, graph_n: int, tick: Tick) -> None:
    """Graphs over the first `graph_n` templates: they take minutes per hundred thousand to build."""
    small = spec.model_copy(update={"n": min(spec.n, graph_n), "probes": min(spec.probes, 500)})
    tasks = {"turnkey_graph": None, "hnswlib": "hnswlib", "faiss_graph": "faiss"}
    for place, (task, module) in enumerate(tasks.items()):
        tick("graphs", place, len(tasks))
        if module is not None and not peers:
            continue
        if module is not None and importlib.util.find_spec(module) is None:
            result.absent.append(f"{module} (extra `peers`)")
            continue
        result.peers |= work(task, small)
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
