"""Power cuts and full disks: no acknowledged enrolment lost, no expunged template back, index equals rows.

The long run: `python tests/gallery/crash_rounds.py --rounds 500 --seed 1 --folder DIR`, or TURNKEY_CRASH_ROUNDS=500 for
this file. Here are a few rounds of it.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gallery.galleries import KEY, MODEL, NOW, OTHER_KEY, enrol, filled, live, unit, units, unlocked

from turnkey.database import StorageError, StorageFull
from turnkey.gallery import partition, snapshot
from turnkey.gallery.gallery import Gallery
from turnkey.gallery.store import Enrolment, TemplateStore, WrongKey


def test_killed_at_random_moments_it_keeps_every_promise(tmp_path: Path) -> None:
    rounds = os.environ.get("TURNKEY_CRASH_ROUNDS", "10")
    script = Path(__file__).with_name("crash_rounds.py")
    done = subprocess.run(
        [sys.executable, str(script), "--rounds", rounds, "--seed", "7", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every promise kept" in done.stdout


class Faulty:
    """The operating system as the snapshot writer calls it, failing at one call."""

    def __init__(self, failing: int, error: int, half_written: bool) -> None:
        self.failing, self.error, self.half_written = failing, error, half_written
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._counted(name, real) if name in {"open", "write", "fsync", "replace"} else real

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.failing:
                if name == "write" and self.half_written:
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                raise OSError(self.error, os.strerror(self.error))
            return real(*arguments, **options)

        return call


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("half_written", [False, True])
def test_a_fault_at_any_call_of_a_snapshots_writing_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, half_written: bool
) -> None:
    """Every open, write, fsync and rename fails once: the gallery goes on, and the next start finds every row."""
    monkeypatch.setattr(partition, "SNAPSHOT_ROWS", 10)
    path = tmp_path / "gallery.db"
    filled(path, units(40, 1))
    unlocked(path).lock()
    failing = 0
    while True:
        failing += 1
        gallery = unlocked(path)
        enrol(gallery, f"C-{failing}", 1000 + failing)
        faulty = Faulty(failing, error, half_written)
        with monkeypatch.context() as patch:
            patch.setattr(snapshot, "os", faulty)
            gallery._indexes["cases"].snapshot(gallery._store)
        if faulty.calls < failing:
            break
        assert gallery._indexes["cases"].fault
        assert gallery.search("cases", unit(1000 + failing), 1, live()).candidates[0].reference == f"C-{failing}"
        gallery.lock()
        again = unlocked(path)
        assert again.size("cases") == 40 + failing
        assert not list(tmp_path.glob("*.new")), "no half-written file stays"
        again.lock()
    assert failing > 6, "open, writes, fsync, rename, open, fsync were all reached"
    gallery.lock()


@contextmanager
def disk_full_after(growth: int, path: Path) -> Iterator[None]:
    """No file may grow beyond the log's present size and `growth` bytes: the write that would fails (EFBIG)."""
    log = path.with_name(path.name + "-wal")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((log.stat().st_size if log.exists() else 0) + growth, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def imported(gallery: Gallery) -> None:
    new = units(60, 2)
    batch = [Enrolment("cases", f"N-{i}", MODEL, 50, NOW, template) for i, template in enumerate(new)]
    gallery.enrol_many(batch, live())


def rotated(gallery: Gallery) -> None:
    if not gallery.rotation_pending:
        gallery.rotate(KEY, OTHER_KEY, live())
    gallery.continue_rotation(live())


@pytest.mark.parametrize("operation", [imported, rotated, lambda gallery: gallery.expunge("cases", "R-7")])
def test_a_disk_that_is_full_at_any_write_is_named_and_nothing_is_lost(
    tmp_path: Path, operation: Callable[[Gallery], None]
) -> None:
    """The log's growth fails a page further each time, until the operation goes through: all of a batch, or nothing."""
    path = tmp_path / "gallery.db"
    filled(path, units(20, 1))
    gallery = unlocked(path)
    refused = 0
    for growth in range(0, 400_000, 2048):
        try:
            with disk_full_after(growth, path):
                operation(gallery)
            break
        except StorageError as full:
            refused += isinstance(full, StorageFull)
        assert gallery.size("cases") == 20
        assert gallery.search("cases", units(20, 1)[11], 1, live()).candidates[0].reference == "R-12"
        gallery.lock()
        gallery = Gallery(path, MODEL)
        gallery.unlock(the_key(path))
        assert gallery.size("cases") == 20
    else:
        pytest.fail("it never went through")
    assert refused > 1
    assert gallery.size("cases") == {imported: 80, rotated: 20}.get(operation, 19)
    gallery.lock()


def the_key(path: Path) -> bytes:
    """Whichever of the two opens it."""
    try:
        TemplateStore(path, OTHER_KEY).close()
    except WrongKey:
        return KEY
    return OTHER_KEY
