"""A disk that remembers each write, truncation, fsync, creation, deletion and rename, can fail at any of them, and can
say what a power cut would have left behind. For tests of what survives.

SQLite's own calls are caught where SQLite hands them to the system: in its VFS and in each open file's method table
(sqlite.org/vfs.html; SQLite's own crash tests do the same). Python's are caught in `os`. All of them still happen, on
the real disk.

What a cut leaves (after SQLite's crash tests and what POSIX promises):
* a file's writes and truncations last from its next fsync on, and its name with them (SQLite's VFS syncs the folder of
  a new log; ext4 does so for any new file);
* renames and deletions last from the next fsync of the folder on;
* whatever was not yet synced may be there or not, in any combination, and a write may be there in part.
The shared memory beside a log (`-shm`) never reaches the disk's promises: SQLite builds it anew.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import errno
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

_SECTOR_BYTES = 512
_IOERR = {"write": 778, "sync": 1034, "truncate": 1546, "delete": 2570, "create": 14}
"""SQLITE_IOERR_WRITE and so on (sqlite.org/rescode.html); a file that cannot be created is SQLITE_CANTOPEN."""

Files = dict[str, bytes]
"""A folder: content by name."""


@dataclass(frozen=True)
class Step:
    """One thing done to the disk. `what`: create, write, truncate, sync, delete, rename, sync-folder."""

    what: str
    name: str = ""
    offset: int = 0
    data: bytes = b""
    to: str = ""


class _Vfs(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_int),
        ("file_size", ctypes.c_int),
        ("longest_path", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
        ("open", ctypes.c_void_p),
        ("delete", ctypes.c_void_p),
    )


_METHODS = "close read write truncate sync file_size lock unlock check_reserved_lock file_control sector_size"
_METHODS += " characteristics shm_map shm_lock shm_barrier shm_unmap fetch unfetch"


class _Methods(ctypes.Structure):
    _fields_ = (("version", ctypes.c_int), *((name, ctypes.c_void_p) for name in _METHODS.split()))


class _File(ctypes.Structure):
    _fields_ = (("methods", ctypes.POINTER(_Methods)),)


_int, _pointer, _wide = ctypes.c_int, ctypes.c_void_p, ctypes.c_int64
_OPEN = ctypes.CFUNCTYPE(_int, _pointer, _pointer, ctypes.POINTER(_File), _int, _pointer)
_DELETE = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _int)
_WRITE = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _int, _wide)
_TRUNCATE = ctypes.CFUNCTYPE(_int, _pointer, _wide)
_SYNC = ctypes.CFUNCTYPE(_int, _pointer, _int)


def sqlite_vfs() -> Any:
    """SQLite's default VFS; None where this Python's SQLite does not show it."""
    try:
        find = ctypes.CDLL(_sqlite3.__file__).sqlite3_vfs_find
    except (AttributeError, OSError):
        return None
    find.restype = ctypes.POINTER(_Vfs)
    return find(None).contents


@dataclass
class Disk:
    """Remembers what happens in a folder while `watching`, in files opened since then.

    Attributes:
        only: of the files whose names begin so; the folder itself is then left out.
        steps: what was done, in order.
        failing: the step, counted from 1, that fails; 0: none does.
        torn: a write that fails is half done.
    """

    folder: Path
    only: str = ""
    failing: int = 0
    torn: bool = False
    steps: list[Step] = field(default_factory=list)
    _names: dict[int, str] = field(default_factory=dict)
    _tables: dict[int, Any] = field(default_factory=dict)
    _descriptors: dict[int, str] = field(default_factory=dict)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Catch what SQLite and Python do in the folder."""
        vfs = sqlite_vfs()
        opened, deleted = vfs.open, vfs.delete
        callbacks = (self._opening(_OPEN(opened)), self._deleting(_DELETE(deleted)))
        vfs.open, vfs.delete = (ctypes.cast(callback, _pointer).value for callback in callbacks)
        calls = {name: getattr(self, f"_{name}")(getattr(os, name)) for name in ("open", "write", "fsync", "close")}
        calls |= {name: getattr(self, f"_{name}")(getattr(os, name)) for name in ("replace", "unlink")}
        try:
            with mock.patch.multiple(os, **calls):
                yield
        finally:
            vfs.open, vfs.delete = opened, deleted

    def _goes_well(self, step: Step) -> bool:
        self.steps.append(step)
        return len(self.steps) != self.failing

    def _name(self, path: Any) -> str | None:
        path = Path(os.fsdecode(path))
        return path.name if path.parent == self.folder and path.name.startswith(self.only) else None

    def _opening(self, real: Callable[..., int]) -> Any:
        def opening(vfs: int, path: int | None, file: Any, flags: int, out: int | None) -> int:
            name = self._name(ctypes.string_at(path)) if path else None
            new = name is not None and not (self.folder / name).exists()
            if new and not self._goes_well(Step("create", name or "")):
                return _IOERR["create"]
            code = real(vfs, path, file, flags, out)
            if code == 0 and name is not None:
                self._names[ctypes.addressof(file.contents)] = name
                file.contents.methods = ctypes.pointer(self._table(file.contents.methods))
            return code

        return _OPEN(opening)

    def _deleting(self, real: Callable[..., int]) -> Any:
        def deleting(vfs: int, path: int, synced: int) -> int:
            name = self._name(ctypes.string_at(path))
            if name is not None and (self.folder / name).exists() and not self._goes_well(Step("delete", name)):
                return _IOERR["delete"]
            code = real(vfs, path, synced)
            if synced and name is not None:
                self.steps.append(Step("sync-folder"))
            return code

        return _DELETE(deleting)

    def _table(self, methods: Any) -> _Methods:
        """A file's methods with ours in the place of those that change the disk."""
        address = ctypes.addressof(methods.contents)
        if address in self._tables:
            return self._tables[address][0]  # type: ignore[no-any-return]
        table = _Methods.from_buffer_copy(methods.contents)
        write, truncate, sync = _WRITE(table.write), _TRUNCATE(table.truncate), _SYNC(table.sync)

        def writing(file: int, data: int, size: int, offset: int) -> int:
            if self._goes_well(Step("write", self._names[file], offset, ctypes.string_at(data, size))):
                return int(write(file, data, size, offset))
            if self.torn:
                write(file, data, size // 2, offset)
            return _IOERR["write"]

        def truncating(file: int, size: int) -> int:
            well = self._goes_well(Step("truncate", self._names[file], size))
            return int(truncate(file, size)) if well else _IOERR["truncate"]

        def syncing(file: int, flags: int) -> int:
            return int(sync(file, flags)) if self._goes_well(Step("sync", self._names[file])) else _IOERR["sync"]

        ours = (_WRITE(writing), _TRUNCATE(truncating), _SYNC(syncing))
        table.write, table.truncate, table.sync = (ctypes.cast(callback, _pointer).value for callback in ours)
        self._tables[address] = (table, ours, write, truncate, sync)
        return table

    def _or_raise(self, step: Step) -> None:
        if not self._goes_well(step):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), step.name)

    def _open(self, real: Any) -> Any:
        def call(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            name = None if isinstance(path, int) else self._name(path)
            if name is not None and flags & os.O_CREAT and not (self.folder / name).exists():
                self._or_raise(Step("create", name))
            elif name is not None and flags & os.O_TRUNC:
                self._or_raise(Step("truncate", name))
            descriptor = int(real(path, flags, *rest, **more))
            whole = not self.only and not isinstance(path, int) and Path(os.fsdecode(path)) == self.folder
            if name is not None or whole:
                self._descriptors[descriptor] = name or ""
            return descriptor

        return call

    def _write(self, real: Any) -> Any:
        def call(descriptor: int, data: Any) -> int:
            name = self._descriptors.get(descriptor)
            if name:
                step = Step("write", name, os.lseek(descriptor, 0, os.SEEK_CUR), bytes(data))
                if not self._goes_well(step):
                    if self.torn:
                        real(descriptor, step.data[: len(step.data) // 2])
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
            return int(real(descriptor, data))

        return call

    def _fsync(self, real: Any) -> Any:
        def call(descriptor: int) -> None:
            if descriptor in self._descriptors:
                name = self._descriptors[descriptor]
                self._or_raise(Step("sync", name) if name else Step("sync-folder"))
            real(descriptor)

        return call

    def _close(self, real: Any) -> Any:
        def call(descriptor: int) -> None:
            self._descriptors.pop(descriptor, None)
            real(descriptor)

        return call

    def _replace(self, real: Any) -> Any:
        def call(source: Any, target: Any, **more: Any) -> None:
            if (name := self._name(source)) is not None:
                self._or_raise(Step("rename", name, to=self._name(target) or ""))
            real(source, target, **more)

        return call

    def _unlink(self, real: Any) -> Any:
        def call(path: Any, **more: Any) -> None:
            if (name := self._name(path)) is not None and (self.folder / name).exists():
                self._or_raise(Step("delete", name))
            real(path, **more)

        return call


def content(folder: Path) -> Files:
    """A folder's files as they are now, less SQLite's shared memory."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")}


def killed(start: Files, steps: Sequence[Step], done: int, torn: bool) -> Files:
    """What is there after the process was killed with `done` steps done, and half of the next where that is a write."""
    kept = list(steps[:done])
    if torn and done < len(steps) and steps[done].what == "write":
        half = steps[done]
        kept.append(Step("write", half.name, half.offset, half.data[: len(half.data) // 2]))
    return _applied(start, kept)


def cut(start: Files, steps: Sequence[Step], done: int, chance: random.Random | None) -> Files:
    """What is there after a power cut: all that was synced and, of the rest, nothing or what `chance` keeps."""
    kept = []
    for place, step in enumerate(steps[:done]):
        later = {(other.what, other.name) for other in steps[place + 1 : done]}
        safe = ("sync-folder", "") in later if step.what in ("delete", "rename", "create") else False
        safe = safe or (step.what in ("write", "truncate", "create") and ("sync", step.name) in later)
        if safe or (chance is not None and chance.random() < 0.5):
            if not safe and step.what == "write" and chance is not None and chance.random() < 0.3:
                size = _SECTOR_BYTES * chance.randrange(len(step.data) // _SECTOR_BYTES + 1)
                step = Step("write", step.name, step.offset, step.data[:size])
            kept.append(step)
    return _applied(start, kept)


def _applied(start: Files, steps: Sequence[Step]) -> Files:
    files = {name: bytearray(data) for name, data in start.items()}
    for step in steps:
        if step.what == "rename":
            if step.name in files:
                files[step.to] = files.pop(step.name)
        elif step.what == "delete":
            files.pop(step.name, None)
        elif step.what in ("create", "write", "truncate"):
            file = files.setdefault(step.name, bytearray())
            if step.what == "write":
                file.extend(bytes(max(0, step.offset - len(file))))
                file[step.offset : step.offset + len(step.data)] = step.data
            elif step.what == "truncate":
                del file[step.offset :]
                file.extend(bytes(step.offset - len(file)))
    return {name: bytes(data) for name, data in files.items()}
