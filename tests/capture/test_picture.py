"""What a file becomes: every kind that is read, and every kind that is refused, on bytes made here."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
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


def scene(width: int = 160, height: int = 96) -> NDArray[np.uint8]:
    """A smooth picture without any symmetry, so that no wrong turn of it looks right."""
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x / width
    green = 255 * y / height
    blue = 255 * (x + 2 * y) / (width + 2 * height)
    return np.stack([red, green, blue], axis=2).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def jpeg(**options: object) -> bytes:
    return encoded(Image.fromarray(scene()), "JPEG", quality=95, subsampling=0, **options)


def png(**options: object) -> bytes:
    return encoded(Image.fromarray(scene()), "PNG", **options)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written chunk by chunk, for the kinds Pillow cannot write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


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


def mean_error(got: NDArray[np.uint8], expected: NDArray[np.uint8]) -> float:
    assert got.shape == expected.shape
    return float(np.abs(got.astype(np.int16) - expected.astype(np.int16)).mean())


def test_png_comes_out_as_it_went_in() -> None:
    pixels = decode_picture(png(), "x.png")
    np.testing.assert_array_equal(pixels, scene())
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert not pixels.flags.writeable


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_jpeg_comes_out_red_first(options: dict[str, object]) -> None:
    assert mean_error(decode_picture(jpeg(**options), "x.jpg"), scene()) < 2


def test_grey_jpeg_has_three_equal_channels() -> None:
    grey = Image.fromarray(scene()).convert("L")
    pixels = decode_picture(encoded(grey, "JPEG", quality=95), "x.jpg")
    assert mean_error(pixels, np.asarray(grey.convert("RGB"))) < 2
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_cmyk_jpeg_is_not_a_negative() -> None:
    data = encoded(Image.fromarray(scene()).convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    assert mean_error(decode_picture(data, "x.jpg"), scene()) < 3


def test_transparent_pixels_become_neutral_grey() -> None:
    alpha = np.full((96, 160), 255, np.uint8)
    alpha[:, :80] = 0
    rgba = Image.fromarray(np.dstack([scene(), alpha]))
    pixels = decode_picture(encoded(rgba, "PNG"), "x.png")
    assert (pixels[:, :80] == 128).all()
    np.testing.assert_array_equal(pixels[:, 80:], scene()[:, 80:])


def test_half_transparent_is_laid_over_grey() -> None:
    rgba = Image.new("RGBA", (80, 80), (255, 0, 0, 128))
    pixel = decode_picture(encoded(rgba, "PNG"), "x.png")[40, 40]
    assert np.abs(pixel.astype(int) - (192, 64, 64)).max() <= 1


def test_grey_with_alpha_png() -> None:
    image = Image.new("LA", (80, 80), (200, 255))
    assert (decode_picture(encoded(image, "PNG"), "x.png") == 200).all()


def test_palette_png_with_a_transparent_entry() -> None:
    image = Image.new("P", (80, 80), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (40, 0, 80, 80))
    pixels = decode_picture(encoded(image, "PNG", transparency=0), "x.png")
    assert (pixels[:, :40] == 128).all()
    assert (pixels[:, 40:] == (200, 100, 50)).all()


def test_one_bit_png_is_black_and_white() -> None:
    image = Image.new("1", (80, 80), 1)
    assert (decode_picture(encoded(image, "PNG"), "x.png") == 255).all()


def test_16_bit_grey_png_is_scaled_not_clipped() -> None:
    deep = np.broadcast_to(np.linspace(0, 65535, 80).astype(np.uint16), (80, 80))
    pixels = decode_picture(encoded(Image.fromarray(np.ascontiguousarray(deep)), "PNG"), "x.png")
    np.testing.assert_array_equal(pixels[..., 1], (deep >> 8).astype(np.uint8))


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4)], ids=["rgb", "rgba"])
def test_16_bit_colour_png_keeps_the_high_byte(colour: int, channels: int) -> None:
    deep = np.zeros((70, 80, channels), ">u2")
    deep[..., :3] = (0x1234, 0x80FF, 0xFE01)
    deep[..., 3:] = 0xFFFF
    rows = b"".join(b"\x00" + row.tobytes() for row in deep)
    pixels = decode_picture(raw_png(80, 70, 16, colour, rows), "x.png")
    assert pixels.shape == (70, 80, 3)
    assert (pixels == (0x12, 0x80, 0xFE)).all()


# How a camera stores the upright scene under each orientation (CIPA DC-008, tag 0x0112): the inverse of the turn a
# viewer makes, written with Pillow's operations rather than with numpy's as the code under test is.
_STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_gives_the_same_upright_picture(orientation: int, kind: str) -> None:
    image = Image.fromarray(scene())
    turn = _STORED_AS[orientation]
    stored = image if turn is None else image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    pixels = decode_picture(encoded(stored, kind, exif=exif, **options), "x")
    assert mean_error(pixels, scene()) < 2


def test_an_orientation_that_does_not_exist_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    assert mean_error(decode_picture(jpeg(exif=exif), "x"), scene()) < 2


@pytest.mark.parametrize("metadata", [b"Exif\x00\x00II*\x00\xff\xff\xff\x7f", b"Exif\x00\x00nonsense", b"Exif\x00\x00"])
def test_broken_exif_does_not_cost_the_picture(metadata: bytes) -> None:
    assert mean_error(decode_picture(jpeg(exif=metadata), "x"), scene()) < 2


@pytest.mark.parametrize("profile", [b"", b"nonsense" * 40])
def test_a_colour_profile_is_ignored(profile: bytes) -> None:
    assert mean_error(decode_picture(jpeg(icc_profile=profile), "x"), scene()) < 2
    np.testing.assert_array_equal(decode_picture(png(icc_profile=profile), "x"), scene())


@pytest.mark.parametrize("make", [jpeg, png])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_ends_early_is_truncated(make: object, kept: float) -> None:
    data = make()  # type: ignore[operator]
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


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_100_megapixels_are_refused_without_decoding_or_warning(kind: str) -> None:
    data = encoded(Image.new("L", (10_000, 10_000)), kind)
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert reason_of(data) == "picture-too-large"
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1_000_000


def test_a_header_that_claims_too_much_is_refused_on_its_word() -> None:
    assert reason_of(raw_png(10_000, 10_000, 8, 2, b"")) == "picture-too-large"
    assert reason_of(raw_png(2**31 - 1, 2**31 - 1, 16, 6, b"")) == "picture-too-large"


def test_a_long_strip_is_refused() -> None:
    assert reason_of(encoded(Image.new("L", (20_000, 64)), "PNG")) == "picture-too-large"


def test_a_limit_above_pillows_own_warns_of_nothing() -> None:
    data = encoded(Image.new("L", (9_500, 9_500)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = decode_picture(data, "x", limits=PictureLimits(max_pixels=100_000_000))
    assert pixels.shape == (9_500, 9_500, 3)


def test_a_png_with_no_pixels_is_refused() -> None:
    assert reason_of(raw_png(100, 100, 8, 2, b"")) in {"truncated-picture", "damaged-picture"}


def test_endless_scans_are_refused() -> None:
    data = jpeg(progressive=True)
    end = data.rindex(b"\xff\xd9")
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00"
    assert reason_of(data[:end] + scan * 600 + data[end:]) == "damaged-picture"


_SEEDS = [jpeg(), jpeg(progressive=True, exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00"), png()]


@settings(max_examples=300, deadline=None)
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


@settings(max_examples=200, deadline=None)
@given(head=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a"]), tail=st.binary(max_size=400))
def test_any_bytes_end_in_a_reason(head: bytes, tail: bytes) -> None:
    reason_of(head + tail)
