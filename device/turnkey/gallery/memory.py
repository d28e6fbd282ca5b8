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
        self._map: mmap.mmap | None = mmap.mmap(-1, size)
        self._map.madvise(mmap.MADV_DONTDUMP)
        if size >= _HUGE_PAGE_BYTES:
            self._map.madvise(mmap.MADV_HUGEPAGE)
        handle: ctypes.Array[ctypes.c_char] = (ctypes.c_char * size).from_buffer(self._map)
        self.locked = _libc.mlock(ctypes.addressof(handle), size) == 0
        del handle

    def array(self, dtype: type[Scalar], shape: tuple[int, ...], offset: int = 0) -> NDArray[Scalar]:
        """An array over part of the memory, `offset` bytes from its start."""
        if self._map is None:
            raise ValueError("this memory was wiped")
        flat: NDArray[Scalar] = np.frombuffer(self._map, dtype=dtype, count=int(np.prod(shape)), offset=offset)
        return flat.reshape(shape)

    def view(self, start: int, stop: int) -> memoryview:
        """Bytes from `start` to `stop`, writable. Release it before `wipe`."""
        if self._map is None:
            raise ValueError("this memory was wiped")
        return memoryview(self._map)[start:stop]

    def wipe(self) -> None:
        """Overwrite with zeros and unmap. Safe to call twice.

        While an array over it is alive the mapping stays, zeroed, until that array is gone.
        """
        mapped, self._map = self._map, None
        if mapped is None:
            return
        np.frombuffer(mapped, dtype=np.uint8)[:] = 0
        try:
            mapped.close()
        except BufferError:
            del mapped

    def __del__(self) -> None:
        self.wipe()


def no_core_dumps() -> None:
    """Let this process leave no core dump: neither by limit nor through a handler (prctl(2), PR_SET_DUMPABLE)."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


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
