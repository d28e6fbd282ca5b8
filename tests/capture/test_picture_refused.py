"""Every kind of file that is refused, by name, without a traceback, a warning or a large allocation; and fuzzing."""

from __future__ import annotations

import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from capture.picture_files import encoded, png_chunk, raw_png
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from turnkey.capture.camera import CameraError
from turnkey.capture.picture import DEFAULT_LIMITS, PictureLimits, decode_picture

REASONS = {
    "not-a-picture",
    "unsupported-format",
    "truncated-picture",
    "damaged-picture",
    "picture-too-small",
    "picture-too-large",
}


def scene() -> NDArray[np.uint8]:
    """A picture with an edge and some grain, so that its files are neither tiny nor regular."""
    grain = np.random.default_rng(7).integers(0, 40, (96, 160, 3), np.uint8)
    grain[:, 60:] += 180
    return grain


def jpeg(**options: object) -> bytes:
    return encoded(Image.fromarray(scene()), "JPEG", quality=95, subsampling=0, **options)


def png(**options: object) -> bytes:
    return encoded(Image.fromarray(scene()), "PNG", **options)


def reason_of(data: bytes, limits: PictureLimits = DEFAULT_LIMITS) -> str:
    with pytest.raises(CameraError) as refusal:
        decode_picture(data, "x.jpg", limits=limits)
    assert refusal.value.reason in REASONS
    assert "x.jpg" in str(refusal.value)
    return refusal.value.reason


def outcome(data: bytes) -> NDArray[np.uint8] | str:
    """The pixels, or the reason for which there are none."""
    try:
        return decode_picture(data, "x.jpg")
    except CameraError as refusal:
        return refusal.reason


@pytest.mark.parametrize("make", [jpeg, png])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_ends_early_is_truncated(make: Callable[[], bytes], kept: float) -> None:
    data = make()
    assert reason_of(data[: int(len(data) * kept)]) == "truncated-picture"


def test_a_jpeg_whose_tail_is_zeros_is_truncated() -> None:
    data = jpeg()
    assert reason_of(data[: len(data) // 2] + bytes(len(data) // 2)) == "truncated-picture"


def test_a_flipped_bit_in_a_png_is_damage() -> None:
    data = bytearray(png())
    data[len(data) // 2] ^= 1
    assert reason_of(bytes(data)) == "damaged-picture"


@pytest.mark.parametrize("data", [b"", b"\xff", b"Dear officer,\n", bytes(1000), b"\x00\x00\x00\x0c"])
def test_what_is_no_picture_is_called_that(data: bytes) -> None:
    assert reason_of(data) == "not-a-picture"


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "WEBP", "JPEG2000", "ICO"])
def test_other_formats_are_refused_by_name(kind: str) -> None:
    assert reason_of(encoded(Image.fromarray(scene()), kind)) == "unsupported-format"


def test_animated_png_is_refused() -> None:
    frames = [Image.fromarray(scene()), Image.fromarray(scene()[::-1])]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert b"acTL" in data
    assert reason_of(data) == "unsupported-format"


@pytest.mark.parametrize("size", [(1, 1), (63, 500), (500, 63)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_tiny_picture_is_too_small(size: tuple[int, int], kind: str) -> None:
    assert reason_of(encoded(Image.new("RGB", size), kind)) == "picture-too-small"


def test_the_smallest_side_that_is_read() -> None:
    assert decode_picture(encoded(Image.new("RGB", (64, 64)), "JPEG"), "x").shape == (64, 64, 3)


def test_too_many_bytes_are_refused_unread() -> None:
    assert reason_of(png(), PictureLimits(max_bytes=100)) == "picture-too-large"


_PEAK_OF_A_REFUSAL = """
import resource, sys, warnings
from pathlib import Path
from turnkey.capture.camera import CameraError
from turnkey.capture.picture import decode_picture
warnings.simplefilter("error")
data = Path(sys.argv[1]).read_bytes()
before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode_picture(data, "x")
except CameraError as refusal:
    print(refusal.reason, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib)
"""


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_100_megapixels_are_refused_without_decoding_or_warning(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "huge"
    Image.new("L", (10_000, 10_000)).save(path, kind)
    # In a process of its own: decoded, it would take 100 MB of memory that Python's allocator never sees.
    command = [sys.executable, "-c", _PEAK_OF_A_REFUSAL, str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    reason, growth_kib = said.stdout.split()
    assert reason == "picture-too-large"
    assert int(growth_kib) < 5_000
    assert said.stderr == ""


def test_a_header_that_claims_too_much_is_refused_on_its_word() -> None:
    assert reason_of(raw_png(10_000, 10_000, 8, 2, b"")) == "picture-too-large"
    assert reason_of(raw_png(2**31 - 1, 2**31 - 1, 16, 6, b"")) == "picture-too-large"


def test_a_long_strip_is_refused() -> None:
    assert reason_of(encoded(Image.new("L", (20_000, 64)), "PNG")) == "picture-too-large"


def test_pillows_own_limit_neither_warns_nor_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in (jpeg(), png()):
            assert decode_picture(data, "x").shape == (96, 160, 3)


def test_a_png_with_no_pixels_is_refused() -> None:
    assert reason_of(raw_png(100, 100, 8, 2, b"")) in {"truncated-picture", "damaged-picture"}


def test_endless_scans_are_refused() -> None:
    data = jpeg(progressive=True)
    end = data.rindex(b"\xff\xd9")
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00"
    with pytest.raises(CameraError, match="too many scans") as refusal:
        decode_picture(data[:end] + scan * 64 + data[end:], "x.jpg")
    assert refusal.value.reason == "damaged-picture"


_SEEDS = [jpeg(), jpeg(progressive=True, exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00"), png()]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.sampled_from(_SEEDS),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=8),
    kept=st.floats(0.02, 1),
)
def test_any_damage_ends_in_a_picture_or_a_reason(seed: bytes, flips: list[tuple[float, int]], kept: float) -> None:
    data = bytearray(seed[: int(len(seed) * kept)])
    for place, bits in flips:
        data[int(place * len(data))] ^= bits
    result = outcome(bytes(data))
    if isinstance(result, str):
        assert result in REASONS
    else:
        assert result.ndim == 3
        assert result.shape[2] == 3
        assert result.dtype == np.uint8


@settings(max_examples=150, deadline=None)
@given(head=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a"]), tail=st.binary(max_size=400))
def test_any_bytes_end_in_a_reason(head: bytes, tail: bytes) -> None:
    reason_of(head + tail)


def _with_chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk after its header, its checksum right."""
    data = png()
    return data[:33] + png_chunk(kind, body) + data[33:]


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(
        [b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"iTXt", b"tEXt", b"eXIf", b"gAMA", b"pHYs", b"cHRM", b"zzZz"]
    ),
    body=st.binary(max_size=120),
)
def test_any_chunk_in_a_png_ends_in_a_picture_or_a_reason(kind: bytes, body: bytes) -> None:
    result = outcome(_with_chunk(kind, body))
    assert result in REASONS if isinstance(result, str) else result.shape == (96, 160, 3)


@settings(max_examples=150, deadline=None)
@given(depth=st.integers(0, 17), colour=st.integers(0, 8), rows=st.binary(max_size=64), times=st.integers(0, 2000))
def test_any_png_header_ends_in_a_picture_or_a_reason(depth: int, colour: int, rows: bytes, times: int) -> None:
    result = outcome(raw_png(100, 70, depth, colour, rows * times))
    assert result in REASONS if isinstance(result, str) else result.shape == (70, 100, 3)


@settings(max_examples=150, deadline=None)
@given(exif=st.binary(max_size=80))
def test_any_exif_leaves_the_picture_readable(exif: bytes) -> None:
    result = outcome(jpeg(exif=b"Exif\x00\x00" + exif))
    assert not isinstance(result, str)
    assert sorted(result.shape) == [3, 96, 160]


def test_a_text_chunk_that_swells_is_not_swallowed() -> None:
    bomb = b"key\x00\x00" + zlib.compress(bytes(50_000_000), 9)
    result = outcome(_with_chunk(b"zTXt", bomb))
    assert result in REASONS if isinstance(result, str) else result.shape == (96, 160, 3)
