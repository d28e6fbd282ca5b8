"""What `turnkeyctl bench gallery` runs in processes of their own, so that memory and start-up are those of one thing.

    python -m turnkey_tools.bench.gallery_worker TASK SPEC      SPEC and the answer are JSON

Rules kept here:
1. One thread each: OMP_NUM_THREADS=1 from the caller, and told to every library.
2. What is compared is run in turns, round by round, so that whatever else the machine does slows all alike.
3. Resident memory is what the kernel says of the process (VmRSS, VmHWM), all of it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from turnkey.gallery.gallery import Gallery
from turnkey.gallery.rows import TEMPLATE_DIMENSIONS
from turnkey.gallery.scan import ScanMatrix
from turnkey.interlock.permit import Permit
from turnkey_tools.bench.synthetic import Population, Spread

KEY = bytes(range(32))
MODEL = "synthetic-000000000000"
PARTITION = "bookings"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
_WORDS = TEMPLATE_DIMENSIONS // 8


class Spec(BaseModel):
    """What a worker is told: the gallery's file, its size, the probes and rounds, and when it was started.

    Attributes:
        limit_s: time to build a graph.
    """

    path: Path
    n: int
    seed: int
    probes: int
    rounds: int
    spawned_s: float
    limit_s: float = 600.0


def permit() -> Permit:
    """A permit that never lapses."""
    return Permit(lambda: 0, 1)


def open_gallery(spec: Spec) -> Gallery:
    """The gallery, unlocked."""
    gallery = Gallery(spec.path, MODEL)
    gallery.unlock(KEY)
    return gallery


def matrix_of(gallery: Gallery) -> ScanMatrix:
    """The scan matrix inside a gallery: the same bytes, for the plain read."""
    return gallery._indexes[PARTITION].matrix


def resident_mb() -> dict[str, float]:
    """VmRSS and VmHWM in MB (10^6 bytes)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {name: int(lines[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM")}


def plain_read(matrix: ScanMatrix) -> int:
    """Read every byte of the int8 templates once, as 64-bit integers: what the memory alone allows."""
    return sum(int(block.memory.array(np.int64, (block.used * _WORDS,)).sum()) for block in matrix.blocks)


def in_turns(steps: dict[str, Callable[[int], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each step, taken in turns; each is given the round's number. One round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step(turn)
            if turn:
                times[name].append(1e3 * (time.perf_counter() - began))
    return times


def rebuild(spec: Spec) -> dict[str, object]:
    """Unlock without a snapshot: every row is opened, and a snapshot written."""
    began = time.perf_counter()
    open_gallery(spec)
    return {"seconds": time.perf_counter() - began, **resident_mb()}


def search(spec: Spec) -> dict[str, object]:
    """Start, search, enrol."""
    probes, _ = Population(spec.n, Spread.read(), spec.seed).probes(spec.probes)
    loaded_s = time.monotonic()
    gallery = open_gallery(spec)
    gallery.search(PARTITION, probes[0], 10, permit())
    first_s = time.monotonic()
    memory = resident_mb()
    matrix = matrix_of(gallery)
    times = in_turns(
        {
            "search": lambda turn: gallery.search(PARTITION, probes[turn], 10, permit()),
            "read": lambda _: plain_read(matrix),
        },
        spec.rounds,
    )
    first = [gallery.search(PARTITION, probe, 1, permit()).candidates[0].row for probe in probes]
    memory_after = resident_mb()
    fresh, _ = Population(spec.n, Spread.read(), spec.seed + 1).probes(51)
    enrolled = in_turns(
        {
            "enrol": lambda turn: gallery.enrol(
                PARTITION, f"N-{turn}", fresh[turn], quality=80, enrolled_at=NOW, permit=permit()
            )
        },
        50,
    )
    for turn in range(51):
        gallery.expunge(PARTITION, f"N-{turn}")  # so that the folder can be used again
    return {
        "start_s": first_s - spec.spawned_s,
        "unlock_and_search_s": first_s - loaded_s,
        "rss_mb": memory["VmRSS"],
        "rss_after_mb": memory_after["VmRSS"],
        "peak_mb": memory_after["VmHWM"],
        "pages_locked": all(block.memory.locked for block in matrix.blocks),
        "first": first,
        "times": times | enrolled,
        "prefix": prefix_scan(matrix, probes[0]),
    }


def prefix_scan(matrix: ScanMatrix, probe: NDArray[np.float32]) -> dict[str, float]:
    """Median ms to scan 128 and 64 of 128 dimensions of the same rows: what pruning by a prefix could save."""
    import numkong

    whole = np.concatenate([block.templates[: block.used] for block in matrix.blocks[:8]])
    half = np.ascontiguousarray(whole[:, :64])
    levels = np.rint(probe * 300).astype(np.int8)[None]
    out = np.empty((1, len(whole)), np.float32)
    times = in_turns(
        {
            "128": lambda _: numkong.cdist(levels, whole, "dot", out=out),
            "64": lambda _: numkong.cdist(np.ascontiguousarray(levels[:, :64]), half, "dot", out=out),
        },
        15,
    )
    return {name: float(np.median(values)) for name, values in times.items()}


def flat_peer(spec: Spec) -> dict[str, object]:
    """faiss's flat 8-bit index over the same templates, in turns with the gallery's search."""
    import faiss

    faiss.omp_set_num_threads(1)
    population = Population(spec.n, Spread.read(), spec.seed)
    probes, _ = population.probes(spec.probes)
    before = resident_mb()["VmRSS"]
    began = time.perf_counter()
    index = faiss.IndexScalarQuantizer(probes.shape[1], faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    index.train(population.chunk(0))
    for number in range(population.chunks()):
        index.add(population.chunk(number))
    built_s = time.perf_counter() - began
    memory = resident_mb()["VmRSS"] - before
    gallery = open_gallery(spec)
    matrix = matrix_of(gallery)
    times = in_turns(
        {
            "search": lambda turn: gallery.search(PARTITION, probes[turn], 10, permit()),
            "faiss": lambda turn: index.search(probes[turn : turn + 1], 10),
            "read": lambda _: plain_read(matrix),
        },
        spec.rounds,
    )
    first = [int(index.search(probe[None], 1)[1][0, 0]) + 1 for probe in probes[: spec.rounds]]
    return {"times": times, "built_s": built_s, "memory_mb": memory, "first": first}


TASKS: dict[str, Callable[[Spec], dict[str, object]]] = {
    "rebuild": rebuild,
    "search": search,
    "flat_peer": flat_peer,
}


def main() -> None:
    """Entry point: one task, one line of JSON."""
    from turnkey_tools.bench.gallery_graphs import built, graph_task, served

    name, text = sys.argv[1:]
    spec = Spec.model_validate_json(text)
    tasks = TASKS | {"built": built, "served": served}
    answer = tasks[name](spec) if name in tasks else graph_task(name, spec)
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
