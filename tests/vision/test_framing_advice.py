"""The advice for every kind of framing, and that it depends on nothing but where the faces are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkey.vision.advice import Advice, FaceBox, FramingLimits, advise
from turnkey.vision.geometry import Box

WIDTH, HEIGHT = 640, 480


def face(centre_x: float = 320, centre_y: float = 240, size: float = 160) -> FaceBox:
    return FaceBox(Box(centre_x - size / 2, centre_y - size / 2, size, size), 0.9)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([], Advice.NO_FACE),
        ([face()], Advice.GOOD),
        ([face(size=96)], Advice.GOOD),
        ([face(size=95)], Advice.MOVE_CLOSER),
        ([face(size=288)], Advice.GOOD),
        ([face(size=289)], Advice.MOVE_BACK),
        ([face(centre_x=200)], Advice.CENTRE),
        ([face(centre_x=440)], Advice.CENTRE),
        ([face(centre_y=140)], Advice.CENTRE),
        ([face(centre_y=340)], Advice.CENTRE),
        ([face(centre_x=10, size=95)], Advice.MOVE_CLOSER),
        ([face(), face(centre_x=500, size=80)], Advice.SEVERAL_FACES),
        ([face(centre_x=500, size=80), face()], Advice.SEVERAL_FACES),
        ([face(), face(centre_x=500, size=79)], Advice.GOOD),
    ],
)
def test_the_advice_for_a_framing(seen: list[FaceBox], expected: Advice) -> None:
    assert advise(seen, WIDTH, HEIGHT) is expected


def test_a_face_over_the_edge_is_to_be_centred() -> None:
    limits = FramingLimits(max_offset=0.5)
    assert advise([face(centre_x=79)], WIDTH, HEIGHT, limits) is Advice.CENTRE
    assert advise([face(centre_x=80)], WIDTH, HEIGHT, limits) is Advice.GOOD


_SCENES = st.lists(
    st.builds(
        Box,
        left=st.integers(-100, 600),
        top=st.integers(-100, 440),
        width=st.integers(1, 600),
        height=st.integers(1, 600),
    ),
    max_size=4,
)


def faces(boxes: list[Box]) -> list[FaceBox]:
    return [FaceBox(box, 0.9) for box in boxes]


@given(boxes=_SCENES)
def test_a_larger_preview_of_the_same_scene_gets_the_same_advice(boxes: list[Box]) -> None:
    doubled = [Box(2 * box.left, 2 * box.top, 2 * box.width, 2 * box.height) for box in boxes]
    assert advise(faces(doubled), 2 * WIDTH, 2 * HEIGHT) is advise(faces(boxes), WIDTH, HEIGHT)


@given(boxes=_SCENES)
def test_a_mirrored_preview_gets_the_same_advice(boxes: list[Box]) -> None:
    mirrored = [Box(WIDTH - box.left - box.width, box.top, box.width, box.height) for box in boxes]
    assert advise(faces(mirrored), WIDTH, HEIGHT) is advise(faces(boxes), WIDTH, HEIGHT)
