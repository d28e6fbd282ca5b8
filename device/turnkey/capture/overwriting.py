"""Overwriting a frame's pixels once it has served.

What CPython and numpy allow, and what they do not:
* An array's buffer can be overwritten in place whoever made it, as long as it is in memory of this process. numpy
  refuses to make an array writeable over an immutable `bytes` object, which is what `numpy.asarray` leaves of a Pillow
  picture, so the bytes are set through their address. Nothing but the frame holds that object: `Frame` says so.
* Copies on the way cannot be reached: Pillow's own picture inside the decoder, the cuts that the networks are shown,
  LiteRT's tensors (overwritten by the next frame). They are freed, and what is freed is not necessarily overwritten.
  Buffers of 32 MB and more go back to the kernel, which clears a page before anybody gets it again; for the smaller
  ones the booth's unit sets MALLOC_PERTURB_, with which the C library overwrites memory as it is freed.
* Pages are neither swapped nor dumped (the unit's limits), so what has not been overwritten is in no file either.

Rules kept here:
1. Only C-contiguous arrays are overwritten, so that no neighbouring memory can be.
2. Overwriting a frame twice, or one that is read-only, is no error.
3. A frame that is lent is overwritten by the next of its press, the last one here; so is one whose successor lies
   elsewhere after all.
"""

from __future__ import annotations

import ctypes
from collections.abc import Generator, Iterable

import numpy as np

from turnkey.capture.camera import Frame


def overwrite(frames: Iterable[Frame]) -> None:
    """Set every pixel of every frame to zero.

    Raises:
        ValueError: pixels that are not C-contiguous, which `Frame` forbids.
    """
    for frame in frames:
        pixels = frame.pixels
        if not pixels.flags.c_contiguous:
            raise ValueError("a frame's pixels are C-contiguous")
        ctypes.memset(pixels.ctypes.data, 0, pixels.nbytes)


def overwritten(frames: Iterable[Frame]) -> Generator[Frame]:
    """The frames of one press, each overwritten once the next is asked for, or none is any more, whatever came between.

    Raises:
        ValueError: as `overwrite`.
    """
    used: Frame | None = None
    try:
        for frame in frames:
            if used is not None and not np.may_share_memory(used.pixels, frame.pixels):
                overwrite((used,))
            used = frame
            yield frame
            if not frame.lent:
                overwrite((frame,))
                used = None
            del frame
    finally:
        if used is not None:
            overwrite((used,))
