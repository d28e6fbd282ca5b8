"""From a file in the folder to a template or a named refusal: the kinds of picture an officer may hand over.

The whole of capture and vision is real: files on disk, the folder camera, the models of the repository.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from turnkey.capture.camera import CameraError
from turnkey.capture.folder import FolderCamera
from turnkey.interlock.permit import Permit
from turnkey.vision.analyzer import Analysis, Analyzer
from turnkey.vision.refusals import VisionRefusal

FACES = Path(__file__).parent
MODELS = FACES.parents[1] / "models"
ARDERN = FACES / "ardern" / "ardern-2018.jpg"


@pytest.fixture(scope="module")
def analyzer() -> Analyzer:
    return Analyzer.load(MODELS)


def analysed(analyzer: Analyzer, path: Path) -> Analysis | VisionRefusal:
    """What becomes of the only picture of a folder."""
    permit = Permit(time.monotonic_ns, time.monotonic_ns() + 60_000_000_000)
    return analyzer.analyze(FolderCamera(path.parent).capture(permit), permit)


def template(analyzer: Analyzer, path: Path) -> NDArray[np.float32]:
    analysis = analysed(analyzer, path)
    assert isinstance(analysis, Analysis), analysis
    return analysis.template


@pytest.fixture(scope="module")
def original(analyzer: Analyzer, tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.float32]:
    path = tmp_path_factory.mktemp("original") / "a.jpg"
    path.write_bytes(ARDERN.read_bytes())
    return template(analyzer, path)


def test_a_png_with_alpha_is_the_same_person(analyzer: Analyzer, original: NDArray[np.float32], tmp_path: Path) -> None:
    image = Image.open(ARDERN).convert("RGBA")
    cut_out = Image.new("L", image.size, 0)
    cut_out.paste(255, (150, 60, 600, 900))  # head and shoulders stay, the wall goes
    image.putalpha(cut_out)
    image.save(tmp_path / "a.png")
    assert template(analyzer, tmp_path / "a.png") @ original > 0.9


def test_a_grey_jpeg_is_the_same_person(analyzer: Analyzer, original: NDArray[np.float32], tmp_path: Path) -> None:
    Image.open(ARDERN).convert("L").save(tmp_path / "a.jpg", quality=95)
    assert template(analyzer, tmp_path / "a.jpg") @ original > 0.8


def test_a_cmyk_jpeg_is_the_same_person(analyzer: Analyzer, original: NDArray[np.float32], tmp_path: Path) -> None:
    Image.open(ARDERN).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert template(analyzer, tmp_path / "a.jpg") @ original > 0.95


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90), (8, Image.Transpose.ROTATE_270)],
)
def test_a_camera_held_sideways_is_the_same_person(
    analyzer: Analyzer, original: NDArray[np.float32], tmp_path: Path, orientation: int, stored: Image.Transpose
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(ARDERN).transpose(stored).save(tmp_path / "a.png", exif=exif)
    assert template(analyzer, tmp_path / "a.png") @ original > 0.99


def test_it_is_the_orientation_that_does_it(analyzer: Analyzer, original: NDArray[np.float32], tmp_path: Path) -> None:
    Image.open(ARDERN).transpose(Image.Transpose.ROTATE_180).save(tmp_path / "a.png")
    analysis = analysed(analyzer, tmp_path / "a.png")
    assert isinstance(analysis, VisionRefusal) or analysis.template @ original < 0.5


def test_a_16_bit_grey_png_is_the_same_person(
    analyzer: Analyzer, original: NDArray[np.float32], tmp_path: Path
) -> None:
    grey = np.asarray(Image.open(ARDERN).convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert template(analyzer, tmp_path / "a.png") @ original > 0.8


def test_two_persons_in_one_picture_are_refused(analyzer: Analyzer, tmp_path: Path) -> None:
    pictures = [Image.open(ARDERN), Image.open(FACES / "macron" / "macron-2025.jpg")]
    both = Image.new("RGB", (sum(picture.width for picture in pictures), 900))
    both.paste(pictures[0], (0, 0))
    both.paste(pictures[1], (pictures[0].width, 0))
    both.save(tmp_path / "a.jpg", quality=95)
    refusal = analysed(analyzer, tmp_path / "a.jpg")
    assert isinstance(refusal, VisionRefusal)
    assert refusal.reason == "several-faces"


def test_a_picture_of_nobody_is_refused(analyzer: Analyzer, tmp_path: Path) -> None:
    Image.open(ARDERN).crop((0, 620, 716, 900)).save(tmp_path / "a.png")
    refusal = analysed(analyzer, tmp_path / "a.png")
    assert isinstance(refusal, VisionRefusal)
    assert refusal.reason == "no-face"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (ARDERN.read_bytes()[:80_000], "truncated-picture"),
        (b"Dear officer,\n", "not-a-picture"),
        (b"", "not-a-picture"),
    ],
    ids=["truncated", "text", "empty"],
)
def test_a_broken_file_never_reaches_vision(analyzer: Analyzer, tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(CameraError) as refusal:
        analysed(analyzer, tmp_path / "a.jpg")
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    ("person", "one", "other"),
    [
        ("ardern", "ardern-2018.jpg", "ardern-2022.jpg"),
        ("macron", "macron-2014.jpg", "macron-2025.jpg"),
        ("obama", "obama-senate.jpg", "obama-2012.jpg"),
    ],
)
def test_two_pictures_of_a_person_are_nearer_than_any_two_persons(
    analyzer: Analyzer, tmp_path: Path, person: str, one: str, other: str
) -> None:
    def of(path: Path) -> NDArray[np.float32]:
        copy = tmp_path / path.parent.name / path.stem / path.name
        copy.parent.mkdir(parents=True)
        copy.write_bytes(path.read_bytes())
        return template(analyzer, copy)

    first, second = of(FACES / person / one), of(FACES / person / other)
    strangers = [of(path) for path in sorted(FACES.glob("*/*.*g")) if path.parent.name != person]
    assert first @ second > max(float(max(first @ stranger, second @ stranger)) for stranger in strangers) + 0.2
