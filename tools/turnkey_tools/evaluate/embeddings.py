"""Run the pipeline over a folder of faces, on several cores, and keep what each picture gave for the next run.

Rules kept here:
1. Raw embeddings are kept (unit norm, not centred): centring is the evaluation's to choose.
2. The cache lies outside the repository. A part is written whole or not at all, every few hundred pictures, so that an
   interrupted run goes on where it stopped. It is keyed by the hashes of both models and of each picture.
3. What a cache says is checked: a few of its pictures are done again, and where anything differs (another version of
   the code, another processor) the whole of it is forgotten.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from turnkey.vision.embedder import unit
from turnkey_tools.evaluate.conditions import Condition
from turnkey_tools.evaluate.faces import Picture
from turnkey_tools.evaluate.pipeline import OpenPipeline, Pipeline, Seen

Progress = Callable[[], None]
Tick = Callable[[str, int, int], None]
_CHECKED = 8
_PART = 256
_CHUNK = 8


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What a set of pictures gave.

    Attributes:
        raw: (n, d) float32 unit norm, of the pictures with a face: mean of the views, as the device takes it.
        plain: (n, d) float32 unit norm: of the first view alone.
        landmarks: (n, 5, 2) float32 picture pixels.
        persons: (n,) int64, rising.
        rows: (n,) int64: place of each in the list of pictures.
        without_face: pictures in which no face was found, or that could not be decoded.
    """

    raw: NDArray[np.float32]
    plain: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    persons: NDArray[np.int64]
    rows: NDArray[np.int64]
    without_face: int


@dataclass(frozen=True)
class Task:
    """A picture, as it is or made worse."""

    picture: Picture
    condition: Condition | None = None


class _Cache:
    """Parts of one pipeline: key of a task -> what it gave. With no folder it forgets everything."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.kept: dict[bytes, Seen | None] = {}
        for part in sorted(folder.glob("part-*.npz")) if folder is not None and folder.is_dir() else []:
            try:
                with np.load(part) as stored:
                    keys, found = stored["keys"], stored["found"]
                    views, landmarks = stored["views"], stored["landmarks"]
            except (BadZipFile, EOFError, KeyError, ValueError, zlib.error):
                continue  # cut short by a power loss: its pictures are done again
            for place, key in enumerate(keys):
                seen = Seen(views[place], landmarks[place]) if found[place] else None
                self.kept[key.tobytes()] = seen

    def forget(self) -> None:
        self.kept.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, gained: dict[bytes, Seen | None]) -> None:
        self.kept |= gained
        some = next((seen for seen in gained.values() if seen is not None), None)
        if self._folder is None or some is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        empty = Seen(np.zeros_like(some.views), np.zeros_like(some.landmarks))
        rows = [seen or empty for seen in gained.values()]
        name = hashlib.sha256(b"".join(gained)).hexdigest()[:16]
        temporary = self._folder / f"{name}-{os.getpid()}.partial"
        with temporary.open("wb") as file:
            np.savez(
                file,
                keys=np.frombuffer(b"".join(gained), np.uint8).reshape(-1, 32),
                found=np.array([seen is not None for seen in gained.values()]),
                views=np.stack([row.views for row in rows]),
                landmarks=np.stack([row.landmarks for row in rows]),
            )
        temporary.replace(self._folder / f"part-{name}.npz")


def embed_pictures(
    pictures: list[Picture],
    pipeline: Pipeline,
    *,
    cache: Path | None,
    progress: Progress = lambda: None,
    workers: int = 1,
) -> Embeddings:
    """Embed every picture.

    Args:
        cache: folder for the embeddings, or None for no cache.
        progress: called once a picture, also for one out of the cache.
        workers: processes; 1 runs in this one.

    Raises:
        ModelError: LiteRT cannot run a model.
    """
    seen = see([Task(picture) for picture in pictures], pipeline, cache=cache, progress=progress, workers=workers)
    rows = [row for row, one in enumerate(seen) if one is not None]
    faces = [one for one in seen if one is not None]
    views = np.stack([face.views for face in faces]) if faces else np.empty((0, 1, 1), np.float32)
    return Embeddings(
        raw=unit(views.sum(axis=1)),
        plain=np.ascontiguousarray(views[:, 0]),
        landmarks=np.array([face.landmarks for face in faces], np.float32).reshape(-1, 5, 2),
        persons=np.array([pictures[row].person for row in rows], np.int64),
        rows=np.array(rows, np.int64),
        without_face=len(pictures) - len(rows),
    )


def see(
    tasks: list[Task],
    pipeline: Pipeline,
    *,
    cache: Path | None,
    progress: Progress = lambda: None,
    workers: int = 1,
) -> list[Seen | None]:
    """What each task gave, in their order; arguments as for `embed_pictures`."""
    contents = {path: hashlib.sha256(path.read_bytes()).digest() for path in {task.picture.path for task in tasks}}
    keys = [_key(contents[task.picture.path], task.condition) for task in tasks]
    kept = _Cache(None if cache is None else cache / f"views-{pipeline.key()}")
    if not _still_true(kept, keys, tasks, pipeline):
        kept.forget()
    missing = {key: task for key, task in zip(keys, tasks, strict=True) if key not in kept.kept}
    for _ in range(len(tasks) - len(missing)):
        progress()
    gained: dict[bytes, Seen | None] = {}
    for key, seen in _work(missing, pipeline, workers):
        gained[key] = seen
        progress()
        if len(gained) == _PART:
            kept.add(gained)
            gained = {}
    kept.add(gained)
    return [kept.kept[key] for key in keys]


def _key(content: bytes, condition: Condition | None) -> bytes:
    return content if condition is None else hashlib.sha256(content + condition.name.encode()).digest()


def _still_true(cache: _Cache, keys: list[bytes], tasks: list[Task], pipeline: Pipeline) -> bool:
    """Whether some of the tasks that the cache knows give today what it says."""
    known = [place for place, key in enumerate(keys) if key in cache.kept]
    if not known:
        return True
    eyes = pipeline.open()
    for place in known[:: max(1, len(known) // _CHECKED)]:
        was, now = cache.kept[keys[place]], eyes.look(tasks[place].picture.path, tasks[place].condition)
        if (was is None) != (now is None):
            return False
        if was is not None and now is not None and not np.array_equal(was.views, now.views):
            return False
    return True


def _work(missing: dict[bytes, Task], pipeline: Pipeline, workers: int) -> Iterator[tuple[bytes, Seen | None]]:
    if workers <= 1 or len(missing) < 2 * _CHUNK * workers:
        yield from zip(missing, _in_turn(missing.values(), pipeline), strict=True)
        return
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start, initargs=(pipeline,)
    ) as pool:
        yield from zip(missing, pool.map(_look, missing.values(), chunksize=_CHUNK), strict=True)


def _in_turn(tasks: Iterable[Task], pipeline: Pipeline) -> Iterator[Seen | None]:
    eyes: OpenPipeline | None = None
    for task in tasks:
        eyes = eyes or pipeline.open()
        yield eyes.look(task.picture.path, task.condition)


_worker: list[OpenPipeline] = []


def _start(pipeline: Pipeline) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker[:] = [pipeline.open()]


def _end_with_parent() -> None:
    """A parent that is killed cannot tell its workers to end: they would wait for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _look(task: Task) -> Seen | None:
    return _worker[0].look(task.picture.path, task.condition)
