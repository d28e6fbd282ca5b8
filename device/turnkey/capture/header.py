"""What a picture file says of itself, read before anything is decoded.

A decoder allocates what a header claims, so the claim is judged first, from the bytes alone. Rules kept here, in the
order they are enforced:
1. Only JPEG and PNG are read; another picture format is refused by name, anything else is not a picture.
2. JPEG (ITU-T T.81, annex B): the marker segments must lead to a scan, with one frame header only, 8-bit Huffman
   (baseline, extended or progressive), a bounded number of scans, and an end-of-image marker after the scan. A file
   whose tail never reached the disk reads as zeros and has none.
3. PNG (W3C PNG third edition, clause 5): every chunk whole and its CRC right, IHDR first and once, IEND last; an
   animated one (acTL) is refused, since which of its frames is the portrait is not for us to guess.

No I/O and no allocation beyond the bytes given.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from turnkey.capture.camera import CameraError

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE: Final = b"\xff\xd8\xff"
# libjpeg's progressive script writes 10. Each scan costs a pass over every pixel, so thousands of them are an attack.
MAX_JPEG_SCANS: Final = 64

# Leading bytes of what people do drop into such a folder, so that the refusal can say what it is.
_OTHER_FORMATS: Final = (
    (b"GIF8", 0, "GIF"),
    (b"II*\x00", 0, "TIFF"),
    (b"MM\x00*", 0, "TIFF"),
    (b"BM", 0, "BMP"),
    (b"WEBP", 8, "WebP"),
    (b"ftyp", 4, "HEIF or video"),
    (b"8BPS", 0, "Photoshop"),
    (b"%PDF", 0, "PDF"),
    (b"\x00\x00\x00\x0cjP  ", 0, "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL ", 0, "JPEG XL"),
    (b"\xff\x0a", 0, "JPEG XL"),
    (b"\x00\x00\x01\x00", 0, "icon"),
)

_SOF_READ: Final = frozenset({0xC0, 0xC1, 0xC2})
_SOF_NOT_READ: Final = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_SOS: Final = 0xDA
_EOI: Final = 0xD9


class PictureFormat(StrEnum):
    """The formats that are read."""

    JPEG = "JPEG"
    PNG = "PNG"


@dataclass(frozen=True)
class PictureHeader:
    """What the file claims: its format and its size as stored, in pixels, before any rotation."""

    format: PictureFormat
    width: int
    height: int


def read_header(data: bytes, source: str) -> PictureHeader:
    """Format and size of a JPEG or PNG file.

    Args:
        data: the whole file.
        source: what to call it in messages.

    Raises:
        CameraError: not-a-picture, unsupported-format, truncated-picture, damaged-picture.
    """
    if data.startswith(PNG_SIGNATURE):
        return _read_png(data, source)
    if data.startswith(JPEG_SIGNATURE):
        return _read_jpeg(data, source)
    for magic, offset, name in _OTHER_FORMATS:
        if data.startswith(magic, offset):
            raise CameraError("unsupported-format", f"{source} is a {name} file. Save the picture as JPEG or PNG.")
    raise CameraError("not-a-picture", f"{source} is not a picture. Use a JPEG or PNG file.")


def _truncated(source: str) -> CameraError:
    return CameraError("truncated-picture", f"{source} ends before the picture does. Copy or take it again.")


def _damaged(source: str, what: str) -> CameraError:
    return CameraError("damaged-picture", f"{source} is damaged ({what}). Copy or take it again.")


def _read_jpeg(data: bytes, source: str) -> PictureHeader:
    header: PictureHeader | None = None
    at = 2
    while True:
        if at + 4 > len(data):
            raise _truncated(source)
        if data[at] != 0xFF:
            raise _damaged(source, "a segment does not begin where the last one ends")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte, T.81 B.1.1.2
            at += 1
            continue
        if marker in _STANDALONE:
            at += 2
            continue
        if marker in (0x00, _EOI):
            raise _damaged(source, "it holds no picture")
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2:
            raise _damaged(source, "a segment has an impossible length")
        if at + 2 + length > len(data):
            raise _truncated(source)
        if marker in _SOF_NOT_READ:
            raise CameraError(
                "unsupported-format", f"{source} is an unusual kind of JPEG. Save it as a plain JPEG or PNG."
            )
        if marker in _SOF_READ:
            if header is not None:
                raise _damaged(source, "it has two frame headers")
            header = _jpeg_frame(data[at + 4 : at + 2 + length], source)
        at += 2 + length
        if marker == _SOS:
            break
    if header is None:
        raise _damaged(source, "the scan has no frame header")
    # Entropy-coded data never holds FF D9 (FF is stuffed, T.81 B.1.1.5), so what is found is the end of the image.
    end = data.find(b"\xff\xd9", at)
    if end < 0:
        raise _truncated(source)
    if data.count(b"\xff\xda", at, end) >= MAX_JPEG_SCANS:
        raise _damaged(source, "it has too many scans")
    return header


def _jpeg_frame(body: bytes, source: str) -> PictureHeader:
    if len(body) < 6:
        raise _damaged(source, "the frame header is too short")
    precision, height, width, components = struct.unpack_from(">BHHB", body)
    if precision != 8 or components not in (1, 3, 4):
        raise CameraError("unsupported-format", f"{source} is an unusual kind of JPEG. Save it as a plain JPEG or PNG.")
    return PictureHeader(PictureFormat.JPEG, width, height)


def _read_png(data: bytes, source: str) -> PictureHeader:
    header: PictureHeader | None = None
    view = memoryview(data)
    at = len(PNG_SIGNATURE)
    while True:
        if at + 12 > len(data):
            raise _truncated(source)
        length = int.from_bytes(view[at : at + 4], "big")
        kind = bytes(view[at + 4 : at + 8])
        end = at + 12 + length
        if end > len(data):
            raise _truncated(source)
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise _damaged(source, "a checksum is wrong")
        if (kind == b"IHDR") != (header is None):
            raise _damaged(source, "its header is not where it belongs")
        if header is None:
            if length != 13:
                raise _damaged(source, "its header has the wrong length")
            width, height = struct.unpack_from(">II", view, at + 8)
            header = PictureHeader(PictureFormat.PNG, width, height)
        elif kind == b"acTL":
            raise CameraError("unsupported-format", f"{source} is an animated picture. Save one frame as JPEG or PNG.")
        elif kind == b"IEND":
            return header
        at = end
