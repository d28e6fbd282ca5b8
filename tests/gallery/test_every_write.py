"""A fault, a kill and a power cut at every write, truncation, fsync, rename and deletion, SQLite's own among them.

Each operation is done once on a disk that remembers (`disk.py`). Then, for every step of it: what would be there had
the process been killed after that step (or in the middle of a write), or had the power been cut (nothing unsynced
there, or some of it)? A gallery opened on that keeps every promise. And where a step fails (a write: half done), the
error is named, and the gallery goes on.

TURNKEY_POWER_CUTS=20 tries more of the combinations that a cut may leave (two otherwise).
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from gallery.disk import Disk, Files, content, cut, killed, sqlite_vfs
from gallery.galleries import KEY, MODEL, NOW, OTHER_KEY, live, unit, units, unlocked

from turnkey.database import StorageError
from turnkey.gallery import partition, rotation
from turnkey.gallery.gallery import Gallery
from turnkey.gallery.snapshot import Snapshots, Unusable
from turnkey.gallery.store import Enrolment, TemplateStore, WrongKey

pytestmark = pytest.mark.skipif(sqlite_vfs() is None, reason="this Python's SQLite does not show its VFS")

COUNT = 14
BASE = {f"R-{number}" for number in range(1, COUNT + 1)}
NEW = {f"N-{number}" for number in range(1, 4)}
ENDED = {"R-4", "R-9"}
CUTS = int(os.environ.get("TURNKEY_POWER_CUTS", "2"))


@dataclass(frozen=True)
class Operation:
    """What is done, and the references there are once it is acknowledged."""

    do: Callable[[Gallery], object]
    after: set[str]
    rotates: bool = False


def enrolled(gallery: Gallery) -> None:
    batch = [Enrolment("cases", name, MODEL, 50, NOW, seeded(name)) for name in sorted(NEW)]
    gallery.enrol_many(batch, live())


def rotated(gallery: Gallery) -> None:
    if not gallery.rotation_pending:
        gallery.rotate(KEY, OTHER_KEY, live())
    gallery.continue_rotation(live())


def snapshotted(gallery: Gallery) -> None:
    index = gallery._indexes["cases"]
    index.fault = None
    index.snapshot(gallery._store)
    if index.fault:
        raise StorageError("disk", index.fault)


OPERATIONS = {
    "enrol": Operation(enrolled, BASE | NEW),
    "expunge": Operation(lambda gallery: gallery.expunge("cases", "R-7"), BASE - {"R-7"}),
    "withdraw": Operation(lambda gallery: gallery.withdraw("cases", COUNT), BASE - {f"R-{COUNT}"}),
    "retain": Operation(lambda gallery: gallery.retain("cases", NOW), BASE - ENDED),
    "snapshot": Operation(snapshotted, BASE),
    "rotate": Operation(rotated, BASE, rotates=True),
}


def seeded(reference: str) -> np.typing.NDArray[np.float32]:
    number = int(reference[2:])
    return unit(500 + number) if reference.startswith("N") else units(COUNT, 1)[number - 1]


@pytest.fixture(scope="module", autouse=True)
def small_batches() -> Iterator[None]:
    """A snapshot from ten rows on, and eight rows rotated at a time."""
    with mock.patch.object(partition, "SNAPSHOT_ROWS", 10), mock.patch.object(rotation, "BATCH_ROWS", 8):
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A gallery of fourteen, with a snapshot; the retention of two is over."""
    folder = tmp_path_factory.mktemp("base")
    store = TemplateStore(folder / "gallery.db", KEY)
    for name in sorted(BASE, key=lambda name: int(name[2:])):
        ends = NOW - timedelta(days=1) if name in ENDED else None
        store.add(Enrolment("cases", name, MODEL, 50, NOW, seeded(name), delete_after=ends), live())
    store.close()
    unlocked(folder / "gallery.db").lock()
    return content(folder)


def laid(files: Files, folder: Path) -> Path:
    """The gallery in a fresh folder of these files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / "gallery.db"


def sealed_of(path: Path, references: set[str]) -> list[bytes]:
    """The ciphertext of references' rows as it stands in the file."""
    store = TemplateStore(path, None)
    rows = store.database.rows("SELECT reference, sealed FROM template")
    store.close()
    return [bytes(sealed) for reference, sealed in rows if reference in references]


def opened(path: Path, may_rotate: bool) -> Gallery:
    """The gallery, with the one key that opens it."""
    good = []
    for key in (KEY, OTHER_KEY) if may_rotate else (KEY,):
        gallery = Gallery(path, MODEL)
        try:
            gallery.unlock(key)
        except WrongKey:
            continue
        good.append(gallery)
    assert len(good) == 1, f"{len(good)} keys open the gallery"
    return good[0]


def look_at_snapshots(path: Path) -> None:
    """No snapshot that opens holds a row that is not."""
    store = TemplateStore(path, KEY)
    snapshots = Snapshots(path, "cases")
    rows = set(store.numbers("cases").tolist())
    for file in snapshots.files():
        try:
            held = snapshots.load(file, store.sealer, store.key_number, MODEL, lambda: None)
        except Unusable:
            continue
        assert set(held.numbers().tolist()) <= rows, "a copy of a row that is gone"
        held.wipe()
    store.close()


def look(gallery: Gallery, allowed: list[set[str]]) -> None:
    """The rows are one of the allowed sets, the index is the rows, and each reference is found by its own template."""
    numbers = dict(gallery._store.database.rows("SELECT reference, row FROM template"))
    assert set(numbers) in allowed, f"neither before nor after: {sorted(numbers)}"
    assert list(gallery._indexes["cases"].matrix.numbers()) == sorted(numbers.values())
    for reference in numbers:
        found = gallery.search("cases", seeded(reference), 1, live()).candidates[0]
        assert (found.reference, round(found.score, 3)) == (reference, 1.0)


@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_or_cut_off_at_any_step_it_keeps_every_promise(tmp_path: Path, base: Files, name: str) -> None:
    operation = OPERATIONS[name]
    path = laid(base, tmp_path / "recorded")
    disk = Disk(path.parent)
    removed = sealed_of(path, BASE - operation.after)
    start = content(path.parent)
    with disk.watching():
        gallery = unlocked(path)
        begun = len(disk.steps)
        operation.do(gallery)
        acknowledged = len(disk.steps)
        gallery.lock()
    assert acknowledged > begun, "the operation reaches the disk"
    tried: set[int] = set()
    for done in range(begun, len(disk.steps) + 1):
        states = [killed(start, disk.steps, done, torn) for torn in (False, True)]
        states.append(cut(start, disk.steps, done, None))
        states += [cut(start, disk.steps, done, random.Random(1000 * turn + done)) for turn in range(CUTS)]  # noqa: S311
        allowed = [operation.after] if done >= acknowledged else [BASE, operation.after]
        for place, state in enumerate(states):
            if (seen := hash((done >= acknowledged, *sorted(state.items())))) in tried:
                continue
            tried.add(seen)
            if done >= acknowledged and place < 2:
                everything = b"".join(state.values())
                assert not any(sealed in everything for sealed in removed), "its ciphertext is nowhere"
            left = laid(state, tmp_path / "left")
            if not operation.rotates:
                look_at_snapshots(left)
            gallery = opened(left, operation.rotates)
            look(gallery, allowed)
            if name == "snapshot":
                assert gallery._indexes["cases"].opened_rows == 0, "there is a good one at every moment"
            if gallery.rotation_pending:
                gallery.continue_rotation(live())
                look(gallery, allowed)
            gallery.lock()
            if done >= acknowledged:
                everything = b"".join(content(left.parent).values())
                assert not any(sealed in everything for sealed in removed), "nor once the log is gone"
    assert len(tried) > 5


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_error_at_any_step_is_named_and_the_gallery_goes_on(tmp_path: Path, base: Files, name: str) -> None:
    operation = OPERATIONS[name]
    failing = refused = 0
    while True:
        failing += 1
        path = laid(base, tmp_path / "failing")
        disk = Disk(path.parent)
        with disk.watching():
            gallery = unlocked(path)
            disk.steps.clear()
            disk.failing, disk.torn = failing, True
            try:
                operation.do(gallery)
            except StorageError:
                refused += 1
                allowed = [BASE, operation.after] if operation.rotates else [BASE]
            else:
                allowed = [operation.after]
            reached = len(disk.steps) >= failing
            disk.failing = 0
            look(gallery, allowed)
            gallery.lock()
        gallery = opened(path, operation.rotates)
        look(gallery, allowed)
        gallery.lock()
        if not reached:
            break
    assert refused > 1
    assert failing > 5


def test_an_error_while_a_gallery_is_made_is_named_and_it_is_made_the_next_time(tmp_path: Path) -> None:
    failing, named = 0, set()
    while True:
        failing += 1
        path = laid({}, tmp_path / "new")
        disk = Disk(path.parent, failing=failing, torn=True)
        with disk.watching():
            try:
                unlocked(path).lock()
            except StorageError as error:
                named.add(error.reason)
            disk.failing = 0
            gallery = unlocked(path)
            assert gallery.size("cases") == 0
            gallery.lock()
        if len(disk.steps) < failing:
            break
    assert failing > 10
    assert named == {"disk", "unwritable"}, "it is the disk, not the gallery"


def test_killed_or_cut_off_while_it_is_made_a_gallery_is_made_the_next_time(tmp_path: Path) -> None:
    path = laid({}, tmp_path / "recorded")
    disk = Disk(path.parent)
    with disk.watching():
        unlocked(path).lock()
    tried: set[int] = set()
    for done in range(len(disk.steps) + 1):
        states = [killed({}, disk.steps, done, torn) for torn in (False, True)]
        states += [cut({}, disk.steps, done, random.Random(done)), cut({}, disk.steps, done, None)]  # noqa: S311
        for state in states:
            if (seen := hash(tuple(sorted(state.items())))) in tried:
                continue
            tried.add(seen)
            gallery = unlocked(laid(state, tmp_path / "left"))
            assert gallery.size("cases") == 0
            gallery.lock()
