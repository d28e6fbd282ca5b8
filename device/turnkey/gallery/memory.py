"""Memory for templates: neither swapped nor dumped where the system allows, overwritten and unmapped when given back.

Rules kept here:
1. Templates and what is computed from them (int8 rows, a graph, decrypted rows) live only in `SecretMemory`: ordinary
   arrays leave copies behind in the allocator when they are freed.
2. Each region is its own anonymous mapping: locked into RAM (mlock(2)), left out of core dumps (madvise(2),
   MADV_DONTDUMP), on huge pages where there are any (a scan is bound by memory: 50 ms a million without, 33 with).
3. Where pages cannot be locked and the machine swaps, `swap_risk` says so; the gallery decides.
"""

from __future__ import annotations

import ctypes
import mmap
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_HUGE_PAGE_BYTES = 2 << 20
_PR_SET_DUMPABLE = 4
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mlock.restype = ctypes.c_int

Scalar = TypeVar("Scalar", bound=np.generic)


class SecretMemory:
    """`size` bytes of zeros of their own. Arrays made over it must not be used after `wipe`."""

    def __init__(self, size: int) -> None:
        self.size = size
        huge = size >= _HUGE_PAGE_BYTES
        # Private, not shared: shared anonymous memory is a file to the kernel, and gets no huge pages. The slack for
        # alignment is never touched, so that it costs no memory.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._map: mmap.mmap | None = mmap.mmap(-1, size + (_HUGE_PAGE_BYTES if huge else 0), flags=flags)
        self._map.madvise(mmap.MADV_DONTDUMP)
        handle: ctypes.Array[ctypes.c_char] = (ctypes.c_char * len(self._map)).from_buffer(self._map)
        address = ctypes.addressof(handle)
        del handle
        self._start = -address % _HUGE_PAGE_BYTES if huge else 0
        if huge:
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self.locked = _libc.mlock(address + self._start, size) == 0

    def array(self, dtype: type[Scalar], shape: tuple[int, ...], offset: int = 0) -> NDArray[Scalar]:
        """An array over part of the memory, `offset` bytes from its start."""
        if self._map is None:
            raise ValueError("this memory was wiped")
        start = self._start + offset
        flat: NDArray[Scalar] = np.frombuffer(self._map, dtype=dtype, count=int(np.prod(shape)), offset=start)
        return flat.reshape(shape)

    def view(self, start: int, stop: int) -> memoryview:
        """Bytes from `start` to `stop`, writable. Release it before `wipe`."""
        if self._map is None:
            raise ValueError("this memory was wiped")
        return memoryview(self._map)[self._start + start : self._start + stop]

    def find(self, wanted: bytes) -> int:
        """Where `wanted` first stands in the memory; -1 where it does not."""
        if self._map is None:
            raise ValueError("this memory was wiped")
        at = self._map.find(wanted, self._start, self._start + self.size)
        return at if at < 0 else at - self._start

    def wipe(self) -> None:
        """Overwrite with zeros and unmap. Safe to call twice.

        While an array over it is alive the mapping stays, zeroed, until that array is gone.
        """
        mapped, self._map = self._map, None
        if mapped is None:
            return
        np.frombuffer(mapped, dtype=np.uint8, count=self.size, offset=self._start)[:] = 0
        try:
            mapped.close()
        except BufferError:
            del mapped

    def __del__(self) -> None:
        self.wipe()


@contextmanager
def widened(template: NDArray[np.float32]) -> Iterator[NDArray[np.float64]]:
    """A template in float64, overwritten afterwards."""
    memory = SecretMemory(template.size * 8)
    wide = memory.array(np.float64, template.shape)
    wide[:] = template
    try:
        yield wide
    finally:
        memory.wipe()


def no_core_dumps() -> None:
    """Let this process leave no core dump: neither by limit nor through a handler (prctl(2), PR_SET_DUMPABLE)."""
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    # A sandbox may forbid to change limits; the process is not dumpable all the same.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def give_back_freed() -> None:
    """Give the allocator's freed pages back to the kernel (malloc_trim(3)), and what libraries left in them with them.

    A copy that a library made and freed (usearch does, when it hands out a graph) is in nobody's reach otherwise. A C
    library that has no such call keeps its pages: there this does nothing.
    """
    with suppress(AttributeError):
        _libc.malloc_trim(0)


def swap_risk(memory: SecretMemory, swaps: Path = Path("/proc/swaps")) -> bool:
    """True where the memory could be written to a swap device: not locked, and swap is on or not known to be off."""
    if memory.locked:
        return False
    try:
        return len(swaps.read_text().splitlines()) > 1
    except OSError:
        return True


def as_bytes(array: NDArray[Any]) -> memoryview:
    """A contiguous array's bytes, without a copy."""
    return array.data.cast("B")
