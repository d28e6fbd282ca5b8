"""From the bytes of a picture file to upright RGB pixels.

Rules kept here, in the order they are enforced:
1. Bytes and pixels are bounded before a decoder sees anything (`header` reads the size); a bomb costs nothing.
2. Whatever is wrong with the bytes, the caller gets a `CameraError` with a reason, and no other exception.
3. Half a picture is no picture: a file that ends early is refused, not filled up with grey; so is a PNG with a wrong
   checksum. A JPEG has none: damage inside a scan that keeps its end marker decodes to what is left of it.
4. What comes out is what a person would see: upright (EXIF orientation), RGB, transparency laid on neutral grey.

Colour profiles are not applied: the models were trained on untagged sRGB, most cameras write sRGB, and a profile is
one more thing to parse from a stranger. Four-channel JPEG is read as inverted CMYK (Adobe's convention, the only one in
use) and converted without a profile.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from turnkey.capture.camera import PREVIEW_SIDE_PX, CameraError
from turnkey.capture.header import PictureFormat, PictureHeader, read_header

# Mid-grey favours neither a dark nor a light face against what was transparent.
NEUTRAL_GREY: Final = (128, 128, 128)

_EXIF_ORIENTATION: Final = 0x0112
# What undoes each orientation (CIPA DC-008, tag 0x0112). Pillow's rotations are counter-clockwise.
_TURN: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class PictureLimits:
    """What is decoded at all.

    Attributes:
        min_side_px: shorter side, pixels; under it no face can be large enough.
        max_side_px: longer side, pixels; over it the picture is a panorama or a trick.
        max_pixels: width times height; 50 MP is the largest sensor sold for the boards, and 150 MB as RGB.
        max_bytes: size of the file; a 16-bit PNG of a 12 MP picture stays under it.
    """

    min_side_px: int = 64
    max_side_px: int = 16_384
    max_pixels: int = 50_000_000
    max_bytes: int = 96 * 1024 * 1024


DEFAULT_LIMITS: Final = PictureLimits()


def decode_picture(data: bytes, source: str, *, limits: PictureLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG file.

    Args:
        data: the whole file.
        source: what to call it in messages.
        limits: bounds on bytes and pixels.

    Returns:
        (height, width, 3) uint8, RGB, upright, C-contiguous, read-only.

    Raises:
        CameraError: not-a-picture, unsupported-format, truncated-picture, damaged-picture, picture-too-small,
            picture-too-large.
    """
    if len(data) > limits.max_bytes:
        raise too_many_bytes(source, limits)
    header = read_header(data, source)
    _check_size(header, source, limits)
    try:
        with _open(data, header) as image:
            if image.size != (header.width, header.height):
                raise CameraError("damaged-picture", f"{source} is damaged (two sizes). Copy or take it again.")
            image.load()
            orientation = _orientation(image)
            upright = _rgb(image)
            if orientation in _TURN:
                # Turned here and not as an array: Pillow moves whole pixels, numpy one byte at a time.
                upright = upright.transpose(_TURN[orientation])
            pixels = np.asarray(upright)
    except CameraError:
        raise
    except MemoryError as error:
        raise CameraError("picture-too-large", f"{source} does not fit in this device's memory.") from error
    except Exception as error:  # decoders meeting hostile bytes raise OSError, SyntaxError, struct.error and more
        if "truncated" in str(error).lower():
            message = f"{source} ends before the picture does. Copy or take it again."
            raise CameraError("truncated-picture", message) from error
        raise CameraError("damaged-picture", f"{source} is damaged. Copy or take it again.") from error
    pixels.flags.writeable = False
    return pixels


def shrunk(pixels: NDArray[np.uint8], longest_px: int = PREVIEW_SIDE_PX) -> NDArray[np.uint8]:
    """The picture with its longer side `longest_px` at most, averaged over boxes; the same array where it is small.

    Args:
        pixels: (height, width, 3) uint8, RGB.

    Returns:
        (height, width, 3) uint8, RGB, C-contiguous, read-only.
    """
    factor = -(-max(pixels.shape[:2]) // longest_px)
    if factor == 1:
        return pixels
    small = np.asarray(Image.fromarray(pixels).reduce(factor))
    small.flags.writeable = False
    return small


def too_many_bytes(source: str, limits: PictureLimits) -> CameraError:
    """The refusal of a file over `limits.max_bytes`, for a reader that knows the size before it reads."""
    return CameraError("picture-too-large", f"{source} is larger than {limits.max_bytes // 1_048_576} MB.")


def _check_size(header: PictureHeader, source: str, limits: PictureLimits) -> None:
    size = f"{header.width} x {header.height} pixels"
    if min(header.width, header.height) < limits.min_side_px:
        message = f"{source} is only {size}; each side needs at least {limits.min_side_px}."
        raise CameraError("picture-too-small", message)
    if header.width * header.height > limits.max_pixels or max(header.width, header.height) > limits.max_side_px:
        limit = f"{limits.max_pixels // 1_000_000} megapixels and {limits.max_side_px} pixels a side"
        raise CameraError("picture-too-large", f"{source} is {size}; the limit is {limit}.")


def _open(data: bytes, header: PictureHeader) -> Image.Image:
    # The plugin classes, not Image.open: that would warn by a process-wide limit instead of ours, and would take a
    # phone's multi-picture JPEG for a sequence instead of its first picture.
    if header.format is PictureFormat.JPEG:
        return JpegImageFile(io.BytesIO(data))
    return PngImageFile(io.BytesIO(data))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8 (CIPA DC-008, tag 0x0112); 1 where it is absent or unreadable, as viewers do."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # a broken metadata block says nothing about the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I;16" or image.mode == "I":
        return _rgb_of_deep_grey(image)
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (*NEUTRAL_GREY, 255))
        return Image.alpha_composite(background, with_alpha).convert("RGB")
    return image.convert("RGB")


def _rgb_of_deep_grey(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips 16-bit grey at 255, which makes every such picture white.
    deep = np.asarray(image)
    grey = (deep >> 8).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[deep == transparent] = NEUTRAL_GREY[0]
    return Image.fromarray(grey).convert("RGB")
