"""The folder camera: order, bad files, and things in the folder that are not pictures."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from turnkey.capture.camera import CameraError
from turnkey.capture.folder import FolderCamera
from turnkey.capture.picture import PictureLimits
from turnkey.interlock.permit import Permit, Stopped

SECOND_NS = 1_000_000_000


def living() -> Permit:
    return Permit(time.monotonic_ns, time.monotonic_ns() + 60 * SECOND_NS)


def picture(path: Path, red: int = 0) -> None:
    Image.new("RGB", (80, 80), (red, 0, 0)).save(path)


def reds(camera: FolderCamera, count: int) -> list[int]:
    return [int(camera.capture(living()).pixels[0, 0, 0]) for _ in range(count)]


def reason_of(camera: FolderCamera) -> str:
    with pytest.raises(CameraError) as refusal:
        camera.capture(living())
    return refusal.value.reason


def test_pictures_come_in_name_order_and_once(tmp_path: Path) -> None:
    for name, red in (("c.png", 3), ("a.png", 1), ("b.png", 2)):
        picture(tmp_path / name, red)
    camera = FolderCamera(tmp_path)
    assert reds(camera, 3) == [1, 2, 3]
    assert reason_of(camera) == "no-more-pictures"
    assert reason_of(camera) == "no-more-pictures"


def test_repeat_starts_over_and_sees_what_was_added(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    camera = FolderCamera(tmp_path, repeat=True)
    assert reds(camera, 2) == [1, 1]
    picture(tmp_path / "b.png", 2)
    assert reds(camera, 3) == [1, 2, 1]


def test_an_empty_folder_has_no_pictures_even_with_repeat(tmp_path: Path) -> None:
    assert reason_of(FolderCamera(tmp_path, repeat=True)) == "no-more-pictures"


def test_a_folder_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(CameraError) as refusal:
        FolderCamera(tmp_path / "gone")
    assert refusal.value.reason == "folder-unreadable"


def test_a_bad_file_is_named_and_the_next_one_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("Dear officer,\n")
    picture(tmp_path / "b.jpg")
    whole = (tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (1, 1)).save(tmp_path / "c.jpg")
    picture(tmp_path / "d.png", 4)
    camera = FolderCamera(tmp_path)
    for name, reason in (("a", "not-a-picture"), ("b", "truncated-picture"), ("c", "picture-too-small")):
        with pytest.raises(CameraError, match=f"{name}.jpg") as refusal:
            camera.capture(living())
        assert refusal.value.reason == reason
    assert reds(camera, 1) == [4]


def test_a_dead_permit_leaves_the_picture_for_the_next_capture(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    camera = FolderCamera(tmp_path)
    dead = living()
    dead.revoke("switch-open")
    with pytest.raises(Stopped):
        camera.capture(dead)
    assert reds(camera, 1) == [1]


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    upright = np.zeros((80, 120, 3), np.uint8)
    upright[:40] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    pixels = FolderCamera(tmp_path).capture(living()).pixels
    assert pixels.shape == (80, 120, 3)
    assert pixels[:30, :, 0].min() > 240
    assert pixels[50:, :, 0].max() < 15


def test_only_regular_files_inside_the_folder_are_taken(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    picture(outside, 9)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a-link.png").symlink_to(outside)
    os.mkfifo(folder / "b-pipe.png")
    (folder / "c-folder.png").mkdir()
    picture(folder / ".hidden.png", 8)
    picture(folder / "d.png", 1)
    camera = FolderCamera(folder)
    assert reds(camera, 1) == [1]
    assert reason_of(camera) == "no-more-pictures"


@pytest.mark.parametrize("replacement", ["pipe", "link", "folder", "nothing"])
def test_what_takes_a_pictures_place_after_the_listing_is_refused(tmp_path: Path, replacement: str) -> None:
    outside = tmp_path / "outside.png"
    picture(outside, 9)
    folder = tmp_path / "folder"
    folder.mkdir()
    picture(folder / "a.png", 1)
    picture(folder / "b.png", 2)
    camera = FolderCamera(folder)
    (folder / "a.png").unlink()
    if replacement == "pipe":
        os.mkfifo(folder / "a.png")
    elif replacement == "link":
        (folder / "a.png").symlink_to(outside)
    elif replacement == "folder":
        (folder / "a.png").mkdir()
    started = time.monotonic()
    assert reason_of(camera) == "picture-unreadable"
    assert time.monotonic() - started < 1
    assert reds(camera, 1) == [2]


def test_a_huge_file_is_refused_by_its_size_without_being_read(tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(1 << 40)
    assert reason_of(FolderCamera(tmp_path)) == "picture-too-large"


def test_the_given_limits_hold(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    assert reason_of(FolderCamera(tmp_path, limits=PictureLimits(min_side_px=100))) == "picture-too-small"


def test_a_name_cannot_forge_a_line_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "a\nINFO all is well.jpg").write_text("x")
    with pytest.raises(CameraError) as refusal:
        FolderCamera(tmp_path).capture(living())
    assert "\n" not in str(refusal.value)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("x")
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    picture(tmp_path / "c.png")
    picture(tmp_path / "d.png")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    camera = FolderCamera(tmp_path)
    assert reason_of(camera) == "not-a-picture"
    assert reason_of(camera) == "truncated-picture"
    assert reds(camera, 1) == [0]
    (tmp_path / "d.png").unlink()
    (tmp_path / "d.png").mkdir()
    assert reason_of(camera) == "picture-unreadable"
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_directory_of_a_burst_is_one_press(tmp_path: Path) -> None:
    (tmp_path / "b.burst").mkdir()
    for name, red in (("a.png", 1), ("b.burst/2.png", 3), ("b.burst/1.png", 2), ("c.png", 4)):
        picture(tmp_path / name, red)
    camera = FolderCamera(tmp_path)
    pressed = [[int(frame.pixels[0, 0, 0]) for frame in camera.burst(living(), 5)] for _ in range(3)]
    assert pressed == [[1], [2, 3], [4]]


def test_an_empty_burst_is_a_failed_press_and_costs_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.burst").mkdir()
    picture(tmp_path / "b.png", 7)
    camera = FolderCamera(tmp_path)
    assert reason_of(camera) == "picture-unreadable"
    assert reds(camera, 1) == [7]
