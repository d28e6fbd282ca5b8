"""Every kind of picture that is read, on bytes made here. What is refused: test_picture_refused.py."""

from __future__ import annotations

import numpy as np
import pytest
from capture.picture_files import encoded, raw_png
from numpy.typing import NDArray
from PIL import Image

from turnkey.capture.picture import decode_picture


def scene(width: int = 160, height: int = 96) -> NDArray[np.uint8]:
    """A smooth picture without any symmetry, so that no wrong turn of it looks right."""
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x / width
    green = 255 * y / height
    blue = 255 * (x + 2 * y) / (width + 2 * height)
    return np.stack([red, green, blue], axis=2).astype(np.uint8)


def jpeg(**options: object) -> bytes:
    return encoded(Image.fromarray(scene()), "JPEG", quality=95, subsampling=0, **options)


def png(**options: object) -> bytes:
    return encoded(Image.fromarray(scene()), "PNG", **options)


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


# How a camera stores the upright scene under each orientation (CIPA DC-008, tag 0x0112), on the array: where row 0 and
# column 0 of the stored picture are in the scene. 6, for one: row 0 is the right side, column 0 the top.
def _stored(orientation: int) -> NDArray[np.uint8]:
    upright = scene()
    across = np.transpose(upright, (1, 0, 2))
    return np.ascontiguousarray(
        {
            1: upright,  # row 0 is the top, column 0 the left side
            2: upright[:, ::-1],  # top, right
            3: upright[::-1, ::-1],  # bottom, right
            4: upright[::-1],  # bottom, left
            5: across,  # left, top
            6: across[::-1],  # right, top
            7: across[::-1, ::-1],  # right, bottom
            8: across[:, ::-1],  # left, bottom
        }[orientation]
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_gives_the_same_upright_picture(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    pixels = decode_picture(encoded(Image.fromarray(_stored(orientation)), kind, exif=exif, **options), "x")
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
