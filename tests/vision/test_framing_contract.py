"""What the console may rely on of any framing guide, on real faces and with the models of the repository.

MediaPipe's half needs the extra `mediapipe` and, as in the product, a process without network; it says so where either
is missing. To run it: `unshare --map-root-user --net .venv/bin/python -m pytest tests/vision -k mediapipe`
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from turnkey.capture.picture import decode_picture
from turnkey.interlock.permit import Permit, Stopped
from turnkey.vision.advice import Advice, advise
from turnkey.vision.detector import Detector
from turnkey.vision.framing import Engine, FramingGuide, MediaPipeGuide, YuNetGuide, has_network
from turnkey.vision.litert import verified_bytes
from turnkey.vision.manifest import read_manifest

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
FACES = ROOT / "tests" / "faces"

# Between the eyes, as fractions of width and height, read off the pictures.
BETWEEN_THE_EYES = {
    "ardern/ardern-2018.jpg": (0.50, 0.35),
    "ardern/ardern-2022.jpg": (0.52, 0.32),
    "collins/collins-nasa.png": (0.44, 0.21),
    "macron/macron-2014.jpg": (0.50, 0.36),
    "macron/macron-2025.jpg": (0.48, 0.36),
    "obama/obama-2012.jpg": (0.55, 0.20),
    "obama/obama-senate.jpg": (0.52, 0.38),
    "sunak/sunak-2017.jpg": (0.51, 0.36),
}


def mediapipe_guide() -> FramingGuide:
    entry = read_manifest(MODELS).guide
    assert entry is not None
    return MediaPipeGuide(verified_bytes(MODELS, entry))


def yunet_guide() -> FramingGuide:
    return YuNetGuide(Detector.load(MODELS, read_manifest(MODELS).detector))


_needs_mediapipe = pytest.mark.skipif(
    importlib.util.find_spec("mediapipe") is None or has_network(),
    reason="needs the extra `mediapipe` and no network: unshare --map-root-user --net python -m pytest -k mediapipe",
)
_GUIDES = [
    pytest.param((Engine.MEDIAPIPE, mediapipe_guide), id="mediapipe", marks=_needs_mediapipe),
    pytest.param((Engine.YUNET, yunet_guide), id="yunet"),
]


@pytest.fixture(params=_GUIDES)
def guide(request: pytest.FixtureRequest) -> Iterator[FramingGuide]:
    engine, build = request.param
    built: FramingGuide = build()
    assert built.engine is engine
    yield built
    built.close()


@pytest.fixture
def permit() -> Permit:
    return Permit(time.monotonic_ns, time.monotonic_ns() + 60_000_000_000)


def portrait(name: str) -> NDArray[np.uint8]:
    return decode_picture((FACES / name).read_bytes(), name)


def scene(width: int, height: int, *placed: tuple[str, float, float, int]) -> NDArray[np.uint8]:
    """A grey preview with portraits in it: name, where between the eyes goes (x, y), the portrait's height."""
    picture = Image.new("RGB", (width, height), (128, 128, 128))
    for name, x, y, tall in placed:
        image = Image.fromarray(portrait(name))
        image = image.resize((round(image.width * tall / image.height), tall), Image.Resampling.LANCZOS)
        at_x, at_y = BETWEEN_THE_EYES[name]
        picture.paste(image, (round(x - at_x * image.width), round(y - at_y * image.height)))
    return np.asarray(picture)


@pytest.mark.parametrize("name", sorted(BETWEEN_THE_EYES))
def test_a_portrait_holds_one_face_where_it_is(guide: FramingGuide, permit: Permit, name: str) -> None:
    pixels = portrait(name)
    height, width = pixels.shape[:2]
    (face,) = guide.look(pixels, permit)
    x, y = BETWEEN_THE_EYES[name]
    assert face.box.left < x * width < face.box.left + face.box.width
    assert face.box.top < y * height < face.box.top + face.box.height
    assert 0.1 < face.box.width / width < 0.6
    assert 0.5 <= face.score <= 1


def test_the_boxes_of_a_12_megapixel_frame_are_in_its_own_pixels(guide: FramingGuide, permit: Permit) -> None:
    name = "ardern/ardern-2018.jpg"
    pixels = scene(4056, 3040, (name, 2500, 1300, 2600))
    (face,) = guide.look(pixels, permit)
    centre_x, _ = face.box.centre
    assert abs(centre_x - 2500) < 100
    assert face.box.top < 1300 < face.box.top + face.box.height


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_frame_holds_no_face(guide: FramingGuide, permit: Permit, level: int) -> None:
    assert guide.look(np.full((480, 640, 3), level, np.uint8), permit) == ()


# The size is the portrait's height; the face in it is about 0.37 of that wide.
_ADVICE: list[tuple[Advice, Callable[[], NDArray[np.uint8]]]] = [
    (Advice.GOOD, lambda: scene(640, 480, ("ardern/ardern-2018.jpg", 320, 215, 480))),
    (Advice.MOVE_CLOSER, lambda: scene(640, 480, ("ardern/ardern-2018.jpg", 320, 215, 180))),
    (Advice.MOVE_BACK, lambda: scene(640, 480, ("ardern/ardern-2018.jpg", 320, 200, 1000))),
    (Advice.CENTRE, lambda: scene(640, 480, ("ardern/ardern-2018.jpg", 140, 215, 480))),
    (
        Advice.SEVERAL_FACES,
        lambda: scene(640, 480, ("ardern/ardern-2018.jpg", 160, 215, 400), ("macron/macron-2025.jpg", 480, 215, 400)),
    ),
    (Advice.NO_FACE, lambda: scene(640, 480)),
]


@pytest.mark.parametrize(("expected", "make"), _ADVICE, ids=[advice.value for advice, _ in _ADVICE])
def test_both_engines_lead_to_the_same_advice(
    guide: FramingGuide, permit: Permit, expected: Advice, make: Callable[[], NDArray[np.uint8]]
) -> None:
    pixels = make()
    assert advise(guide.look(pixels, permit), 640, 480) is expected


def test_red_comes_first(guide: FramingGuide, permit: Permit) -> None:
    pixels = portrait("obama/obama-senate.jpg")
    (right,) = guide.look(pixels, permit)
    swapped = guide.look(np.ascontiguousarray(pixels[..., ::-1]), permit)
    assert all(face.score < right.score for face in swapped)


def test_a_view_and_a_read_only_frame_are_taken_as_they_are(guide: FramingGuide, permit: Permit) -> None:
    pixels = portrait("macron/macron-2025.jpg")
    assert not pixels.flags.writeable
    before = pixels.copy()
    assert len(guide.look(pixels[:, ::-1], permit)) == 1
    assert len(guide.look(pixels[::2, ::2], permit)) == 1
    np.testing.assert_array_equal(pixels, before)


def test_a_dead_permit_sees_nothing(guide: FramingGuide, permit: Permit) -> None:
    permit.revoke("switch-open")
    with pytest.raises(Stopped):
        guide.look(portrait("macron/macron-2025.jpg"), permit)


def test_a_permit_that_dies_while_looking_sees_nothing(guide: FramingGuide) -> None:
    checks = 0

    class DiesOnTheSecondLook(Permit):
        def check(self) -> None:
            nonlocal checks
            checks += 1
            if checks == 2:
                self.revoke("switch-open")
            super().check()

    with pytest.raises(Stopped):
        guide.look(
            portrait("macron/macron-2025.jpg"),
            DiesOnTheSecondLook(time.monotonic_ns, time.monotonic_ns() + 60_000_000_000),
        )


def test_closing_twice_is_safe(guide: FramingGuide) -> None:
    guide.close()
    guide.close()
