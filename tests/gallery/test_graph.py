"""The graph stands in for the scan only where it is told to, says so with its measured recall, and forgets."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gallery.galleries import KEY, MODEL, enrol, filled, live, unit, units, unlocked

from turnkey.database import StorageError, StorageFull
from turnkey.gallery import graph, snapshot
from turnkey.gallery.gallery import Gallery

COUNT = 3000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a gallery of three thousand and its graph."""
    path = tmp_path_factory.mktemp("graph") / "gallery.db"
    filled(path, units(COUNT, 1))
    gallery = unlocked(path)
    assert 0.5 < gallery.build_graph("cases") <= 1.0
    gallery.lock()
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


@pytest.fixture
def path(built: dict[str, bytes], tmp_path: Path) -> Path:
    for name, content in built.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path / "gallery.db"


def graph_file(path: Path) -> Path:
    return path.with_name("gallery.db.cases.graph")


def over_budget(path: Path) -> Gallery:
    """Unlocked with a budget that no scan keeps."""
    gallery = Gallery(path, MODEL, scan_budget_ms=0.0)
    gallery.unlock(KEY)
    return gallery


def method(gallery: Gallery) -> str:
    return gallery.search("cases", unit(1), 1, live()).strategy.method


def test_a_scan_within_its_budget_is_never_replaced(path: Path) -> None:
    for gallery in (Gallery(path, MODEL), Gallery(path, MODEL, scan_budget_ms=60_000)):
        gallery.unlock(KEY)
        result = gallery.search("cases", unit(1), 1, live())
        assert (result.strategy.method, result.strategy.recall) == ("exhaustive", 1.0)
        gallery.lock()


def test_over_budget_the_graph_serves_and_says_what_it_misses(path: Path) -> None:
    gallery, scanned = over_budget(path), unlocked(path)
    same = 0
    for template in units(COUNT, 1)[:100]:
        probe = np.asarray(template + 0.1 * unit(5), np.float32)
        probe /= np.linalg.norm(probe)
        found, truth = (one.search("cases", probe, 1, live()) for one in (gallery, scanned))
        assert found.strategy.method == "graph"
        assert 0.5 < found.strategy.recall <= 1.0
        same += found.candidates[0] == truth.candidates[0]
    assert same >= 95
    gallery.lock()
    scanned.lock()


def test_what_was_enrolled_after_the_graph_is_found(path: Path) -> None:
    gallery = over_budget(path)
    enrol(gallery, "C-new", 900)
    assert gallery.search("cases", unit(900), 1, live()).candidates[0].reference == "C-new"
    gallery.lock()
    again = over_budget(path)
    assert method(again) == "graph"
    assert again.search("cases", unit(900), 1, live()).candidates[0].reference == "C-new"
    again.lock()


def test_an_expunged_template_leaves_the_graph_and_its_snapshot(path: Path) -> None:
    gallery = over_budget(path)
    index = gallery._indexes["cases"]
    held = index.matrix.template(70)
    assert held is not None
    assert index.graph is not None
    pattern = held.tobytes()
    assert index.graph._memory.find(pattern) > 0
    assert gallery.expunge("cases", "R-70") == [70]
    assert index.graph._memory.find(pattern) < 0
    assert not graph_file(path).exists()
    assert gallery.search("cases", units(COUNT, 1)[69], 5, live()).candidates[0].reference != "R-70"
    gallery.lock()
    again = over_budget(path)
    assert method(again) == "exhaustive", "complete until a graph is built again"
    again.lock()


@pytest.mark.parametrize("place", [0, 30, 500, -1])
def test_a_damaged_graph_is_set_aside_and_the_scan_serves(path: Path, place: int) -> None:
    damaged = bytearray(graph_file(path).read_bytes())
    damaged[place] ^= 1
    graph_file(path).write_bytes(damaged)
    gallery = over_budget(path)
    assert method(gallery) == "exhaustive"
    assert "over budget" in (gallery._indexes["cases"].fault or "")
    gallery.lock()


def test_no_graph_is_on_disk_in_clear(path: Path) -> None:
    gallery = unlocked(path)
    template = gallery._indexes["cases"].matrix.template(5)
    assert template is not None
    assert template.tobytes()[:24] not in graph_file(path).read_bytes()
    gallery.lock()


def test_few_templates_have_a_graph_and_none_has_none(tmp_path: Path) -> None:
    path = tmp_path / "few.db"
    gallery = unlocked(path)
    with pytest.raises(StorageError, match="no template"):
        gallery.build_graph("cases")
    enrol(gallery, "C-1", 1)
    assert gallery.build_graph("cases") == 1.0
    gallery.lock()
    again = over_budget(path)
    assert method(again) == "graph"
    assert again.search("cases", unit(1), 1, live()).candidates[0].reference == "C-1"
    again.lock()


def test_a_graph_of_the_first_rows_is_completed_by_a_scan_of_the_rest(path: Path) -> None:
    """Building can be told that it is enough: what the graph lacks is scanned beside it."""
    gallery = unlocked(path)
    index = gallery._indexes["cases"]

    def enough(_done: int, _of: int) -> None:
        raise graph.Enough

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "_ADDED_AT_ONCE", 1000)
        part = graph.Graph.build(index.matrix, threads=1, progress=enough)
    assert (part.rows, part.newest) == (1000, 1000)
    part.write(index.graph_file, gallery._store.sealer, 1)
    part.wipe()
    gallery.lock()
    again = over_budget(path)
    for row in (5, 1500, COUNT):
        found = again.search("cases", units(COUNT, 1)[row - 1], 3, live())
        assert (found.strategy.method, found.candidates[0].row) == ("graph", row)
    again.lock()


class Faulty:
    """The operating system as the writer of a graph calls it, failing at one call."""

    def __init__(self, failing: int) -> None:
        self.failing, self.calls = failing, 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in {"open", "write", "fsync", "replace"}:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **options)

        return call


def test_a_fault_at_any_call_of_a_graphs_writing_leaves_the_one_that_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every open, write, fsync and rename fails once: the error is named, and the graph of before still serves."""
    monkeypatch.setattr(graph, "RECALL_PROBES", 1)
    gallery = unlocked(path)
    built = gallery._index("cases")
    saved: list[graph.Graph] = []
    monkeypatch.setattr(graph.Graph, "build", classmethod(lambda *_, **__: saved[0]))
    failing = 0
    while True:
        failing += 1
        saved[:] = [graph.Graph.load(built.graph_file, gallery._store.sealer, 1, built.matrix)]
        faulty = Faulty(failing)
        with monkeypatch.context() as patch:
            patch.setattr(snapshot, "os", faulty)
            if faulty_write(gallery):
                break
        assert not list(path.parent.glob("*.new")), "no half-written file stays"
        again = over_budget(path)
        assert method(again) == "graph"
        again.lock()
    assert failing > 6, "open, writes, fsync, rename, open, fsync were all reached"
    gallery.lock()


def faulty_write(gallery: Gallery) -> bool:
    """Whether the graph was kept; else the disk's fault was named."""
    try:
        gallery.build_graph("cases")
    except StorageFull:
        return False
    return True
