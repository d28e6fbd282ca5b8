"""From the pixel formats that cameras deliver to RGB. Formats are read back after configuring, never assumed.

The names are libcamera's, which are DRM's: they name the bytes of a little-endian word from its high end, so that an
array of "BGR888" holds R, G, B in this order and one of "RGB888" holds B, G, R.

YCbCr is taken as JPEG has it (full range, ITU-R BT.601 weights), which is libcamera's `Sycc`, its colour space of
stills; the adapter asks for it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from turnkey.capture.camera import CameraError

_PACKED: Final = {
    "BGR888": (3, (0, 1, 2)),
    "RGB888": (3, (2, 1, 0)),
    "XBGR8888": (4, (0, 1, 2)),
    "XRGB8888": (4, (2, 1, 0)),
}
_CHROMA_AT_A_QUARTER: Final = ("YUV420", "NV12")
FORMATS: Final = (*_PACKED, *_CHROMA_AT_A_QUARTER)


def rgb_of(array: NDArray[np.uint8], pixel_format: str, width: int, height: int) -> NDArray[np.uint8]:
    """A frame as RGB.

    Args:
        array: as the camera delivers it, rows padded to any stride: (height, >= width, channels) uint8 for packed
            formats, (height * 3 / 2, >= width) uint8 for `YUV420` (planes Y, U, V) and `NV12` (Y, then U, V in turn).
        pixel_format: one of `FORMATS`.
        width, height: of the picture, pixels; even for formats with chroma at a quarter.

    Returns:
        (height, width, 3) uint8, RGB, C-contiguous, read-only, memory of its own.

    Raises:
        CameraError: camera-format-unknown, or camera-frame-malformed where the array cannot hold such a picture.
    """
    try:
        if pixel_format in _PACKED:
            channels, order = _PACKED[pixel_format]
            picture = array.reshape(array.shape[0], -1, channels)[:height, :width]
            # As it is, where nothing has to change places: less than half the time.
            same = picture.shape[2:] == (3,) and order == (0, 1, 2)
            pixels = np.array(picture) if same else np.stack([picture[..., channel] for channel in order], axis=-1)
        elif pixel_format in _CHROMA_AT_A_QUARTER:
            pixels = _from_planes(array, pixel_format, width, height)
        else:
            message = (
                f"The camera delivers {pixel_format}, which is not read here. Ask for one of {', '.join(FORMATS)}."
            )
            raise CameraError("camera-format-unknown", message)
    except (ValueError, IndexError) as error:
        message = f"The camera's frame is no {width} x {height} {pixel_format}. Restart it."
        raise CameraError("camera-frame-malformed", message) from error
    if pixels.shape != (height, width, 3):
        raise CameraError("camera-frame-malformed", f"The camera's frame is no {width} x {height}. Restart it.")
    pixels.flags.writeable = False
    return pixels


def _from_planes(array: NDArray[np.uint8], pixel_format: str, width: int, height: int) -> NDArray[np.uint8]:
    stride = array.shape[1]
    if array.shape[0] < height * 3 // 2:
        raise ValueError("rows are missing")
    luma, chroma = array[:height, :width], array[height : height * 3 // 2]
    if pixel_format == "NV12":
        pairs = chroma.reshape(height // 2, -1, 2)[:, : width // 2]
        planes = (pairs[..., 0], pairs[..., 1])
    else:
        # Each plane has rows of half a stride, so two of its rows lie in one row of the array.
        rows = chroma.reshape(2, height // 2, stride // 2)[:, :, : width // 2]
        planes = (rows[0], rows[1])
    size = (width, height)
    bands = [Image.fromarray(np.ascontiguousarray(luma))]
    bands += [Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BILINEAR) for plane in planes]
    return np.array(Image.merge("YCbCr", bands).convert("RGB"))
