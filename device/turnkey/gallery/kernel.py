"""numkong's packed int8 dot product, over memory that is ours: what scans a full block.

`numkong.cdist` calls a kernel for each pair of rows; the packed product takes a whole block in one call and keeps the
probe in registers, which is a third quicker here (`turnkeyctl bench gallery` prints both). Its Python object would keep
templates where they are neither locked nor overwritten, so its C functions are called, on `SecretMemory`.

Rules kept here:
1. The order of bytes in a packed block is the kernel's own and differs from one processor to the next. It is found out
   by packing known rows, and used only where each row turns up whole, at an even distance from the one before.
2. Before it is used at all it gives the exact dot products of known rows. Where any of this does not hold there is no
   packed kernel, and `cdist` scans: slower, the same scores.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnkey.gallery.memory import SecretMemory
from turnkey.gallery.rows import TEMPLATE_DIMENSIONS

_LINE_BYTES = 64
_PROOF_ROWS = 1000


@dataclass(frozen=True)
class PackedKernel:
    """The functions, and where a row is in what they pack.

    Attributes:
        first, apart: byte at which row 0 starts, and from one row to the next.
    """

    library: Any
    first: int
    apart: int

    def bytes_for(self, rows: int) -> int:
        """Room that `rows` packed rows take, in whole cache lines."""
        size = int(self.library.nk_dots_packed_size_i8(rows, TEMPLATE_DIMENSIONS))
        return -(-size // _LINE_BYTES) * _LINE_BYTES

    def pack(self, templates: NDArray[np.int8], into: NDArray[np.uint8]) -> None:
        """Pack (n, 128) int8 whose rows are contiguous into `bytes_for(n)` bytes."""
        self.library.nk_dots_pack_i8(
            templates.ctypes.data, len(templates), TEMPLATE_DIMENSIONS, templates.strides[0], into.ctypes.data
        )

    def rows(self, packed: NDArray[np.uint8], count: int) -> NDArray[np.int8]:
        """The templates inside a packed block, in place: (count, 128) int8."""
        flat = packed[self.first :].view(np.int8)
        return np.lib.stride_tricks.as_strided(flat, (count, TEMPLATE_DIMENSIONS), (self.apart, 1))

    def dot(self, probe: NDArray[np.int8], packed: NDArray[np.uint8], out: NDArray[np.int32]) -> None:
        """Dot products of a probe ((1, 128) int8) with all packed rows: (rows,) int32."""
        self.library.nk_dots_packed_i8(
            probe.ctypes.data,
            packed.ctypes.data,
            out.ctypes.data,
            1,
            len(out),
            TEMPLATE_DIMENSIONS,
            TEMPLATE_DIMENSIONS,
            out.nbytes,
        )


@functools.cache
def packed_kernel() -> PackedKernel | None:
    """The kernel of this machine; None where it is not there, or is not what this file takes it for."""
    try:
        library = ctypes.CDLL(str(importlib.import_module("numkong._numkong").__file__))
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        library.nk_dots_packed_size_i8.restype = size
        library.nk_dots_packed_size_i8.argtypes = [size] * 2
        library.nk_dots_pack_i8.restype = None
        library.nk_dots_pack_i8.argtypes = [pointer, size, size, size, pointer]
        library.nk_dots_packed_i8.restype = None
        library.nk_dots_packed_i8.argtypes = [pointer] * 3 + [size] * 5
    except (ImportError, AttributeError, OSError):
        return None
    return _proved(library)


def _proved(library: Any) -> PackedKernel | None:
    """The kernel, once it has packed known rows as it must and multiplied them right."""
    rng = np.random.default_rng(0)
    known = rng.integers(-127, 128, (_PROOF_ROWS, TEMPLATE_DIMENSIONS), dtype=np.int8)
    probe = rng.integers(-127, 128, (1, TEMPLATE_DIMENSIONS), dtype=np.int8)
    trial = PackedKernel(library, 0, 0)
    memory = SecretMemory(trial.bytes_for(_PROOF_ROWS))
    packed = memory.array(np.uint8, (memory.size,))
    trial.pack(known, packed)
    first, second = memory.find(known[0].tobytes()), memory.find(known[1].tobytes())
    kernel = PackedKernel(library, first, second - first)
    if first < 0 or kernel.apart < TEMPLATE_DIMENSIONS or first + _PROOF_ROWS * kernel.apart > memory.size:
        return None
    out = np.empty(_PROOF_ROWS, np.int32)
    kernel.dot(probe, packed, out)
    right = np.array_equal(out, known.astype(np.int32) @ probe[0].astype(np.int32))
    return kernel if right and np.array_equal(kernel.rows(packed, _PROOF_ROWS), known) else None
