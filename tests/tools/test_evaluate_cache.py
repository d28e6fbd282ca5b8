"""The cache of embeddings: a run goes on where it stopped, processes give what one gives, what is stale is seen."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from patience import wait_for
from vision.portraits import MODELS, REPOSITORY

from turnkey.vision.embedder import unit
from turnkey.vision.manifest import read_manifest
from turnkey_tools.evaluate import embeddings as room
from turnkey_tools.evaluate.conditions import CONDITIONS, Condition
from turnkey_tools.evaluate.embeddings import Task, embed_pictures, see
from turnkey_tools.evaluate.faces import list_pictures
from turnkey_tools.evaluate.pipeline import OpenPipeline, Pipeline


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline.shipped(MODELS, read_manifest(MODELS))


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every picture that a pipeline of this process looks at."""
    seen: list[Path] = []
    look = OpenPipeline.look

    def counting(self: OpenPipeline, path: Path, condition: Condition | None = None) -> object:
        seen.append(path)
        return look(self, path, condition)

    monkeypatch.setattr(OpenPipeline, "look", counting)
    return seen


FACES = REPOSITORY / "tests/faces"


def test_an_interrupted_run_goes_on_where_it_stopped(
    tmp_path: Path, pipeline: Pipeline, looked: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_PART", 3)
    pictures = list_pictures(FACES)

    def stop_after_four() -> None:
        if len(looked) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_pictures(pictures, pipeline, cache=tmp_path, progress=stop_after_four)
    looked.clear()
    again = embed_pictures(pictures, pipeline, cache=tmp_path)
    assert set(looked[-(len(pictures) - 3) :]) == {picture.path for picture in pictures[3:]}
    looked.clear()
    third = embed_pictures(pictures, pipeline, cache=tmp_path)
    assert len(looked) <= len(pictures)  # nothing but the check
    np.testing.assert_array_equal(third.raw, again.raw)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_cache_that_says_something_else_is_forgotten(tmp_path: Path, pipeline: Pipeline) -> None:
    pictures = list_pictures(FACES)
    right = embed_pictures(pictures, pipeline, cache=tmp_path)
    (part,) = tmp_path.rglob("part-*.npz")
    with np.load(part) as stored:
        altered = dict(stored) | {"views": -stored["views"]}
    np.savez(part, **altered)
    np.testing.assert_array_equal(embed_pictures(pictures, pipeline, cache=tmp_path).raw, right.raw)


def test_two_processes_give_what_one_gives(tmp_path: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_CHUNK", 1)
    pictures = list_pictures(FACES)
    one = embed_pictures(pictures, pipeline, cache=None)
    two = embed_pictures(pictures, pipeline, cache=tmp_path, workers=2)
    np.testing.assert_array_equal(one.raw, two.raw)
    assert one.persons.tolist() == two.persons.tolist()


_TWO_WORKERS = """
from pathlib import Path
import sys
from turnkey.vision.manifest import read_manifest
from turnkey_tools.evaluate import embeddings as room
from turnkey_tools.evaluate.faces import list_pictures
from turnkey_tools.evaluate.pipeline import Pipeline
if __name__ == "__main__":
    room._CHUNK = 1
    models, faces = map(Path, sys.argv[1:])
    pictures = list_pictures(faces)
    room.embed_pictures(pictures, Pipeline.shipped(models, read_manifest(models)), cache=None, workers=2,
                        progress=lambda: (print("one", flush=True), sys.stdin.read()))
"""


def test_workers_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(_TWO_WORKERS)
    command = [sys.executable, str(script), str(MODELS), str(FACES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"one\n"
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        run.kill()
        run.wait()
    assert len(children) >= 2
    wait_for(lambda: not any(_runs(int(child)) for child in children))


def _runs(pid: int) -> bool:
    """Whether the process is there and does not only wait to be reaped."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_mirrored_and_plain_are_different_caches_and_share_the_first_view(tmp_path: Path, pipeline: Pipeline) -> None:
    pictures = list_pictures(FACES)[:3]
    plain = embed_pictures(pictures, replace(pipeline, mirrored=False), cache=tmp_path)
    mirrored = embed_pictures(pictures, replace(pipeline, mirrored=True), cache=tmp_path)
    np.testing.assert_allclose(plain.raw, plain.plain, atol=1e-6)
    np.testing.assert_array_equal(plain.plain, mirrored.plain)
    assert np.abs(plain.raw - mirrored.raw).max() > 1e-3


def test_more_room_for_the_mirror_image_is_a_cache_of_its_own_and_shares_the_first_view(
    tmp_path: Path, pipeline: Pipeline
) -> None:
    pictures = list_pictures(FACES)[:3]
    as_shipped = embed_pictures(pictures, pipeline, cache=tmp_path)
    roomy = embed_pictures(pictures, replace(pipeline, rooms=(1.07,)), cache=tmp_path)
    np.testing.assert_array_equal(as_shipped.plain, roomy.plain)
    assert ((as_shipped.raw * roomy.raw).sum(axis=1) > 0.95).all()
    several = see([Task(picture) for picture in pictures], replace(pipeline, rooms=(1.0, 1.07)), cache=tmp_path)
    both = np.stack([one.views for one in several if one is not None])
    np.testing.assert_allclose(unit(both[:, 0] + both[:, 1]), as_shipped.raw, atol=1e-6)
    np.testing.assert_allclose(unit(both[:, 0] + both[:, 2]), roomy.raw, atol=1e-6)
    assert np.abs(as_shipped.raw - roomy.raw).max() > 1e-3


@pytest.mark.parametrize("left", [0, 100, 2000])
def test_a_part_that_was_cut_short_is_done_again(tmp_path: Path, pipeline: Pipeline, left: int) -> None:
    pictures = list_pictures(FACES)[:3]
    whole = embed_pictures(pictures, pipeline, cache=tmp_path)
    (part,) = tmp_path.glob("views-*/part-*.npz")
    part.write_bytes(part.read_bytes()[:left])
    np.testing.assert_array_equal(embed_pictures(pictures, pipeline, cache=tmp_path).raw, whole.raw)
    assert part.stat().st_size > left


def test_worse_pictures_are_tasks_of_their_own(tmp_path: Path, pipeline: Pipeline) -> None:
    picture = list_pictures(FACES)[0]
    seen = see([Task(picture), *(Task(picture, condition) for condition in CONDITIONS)], pipeline, cache=tmp_path)
    assert seen[0] is not None
    views = [one.views for one in seen if one is not None]
    assert len({view.tobytes() for view in views}) == len(views)


def test_conditions_change_what_they_say() -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (120, 100, 3)).astype(np.uint8)
    assert Condition("size", 0.5).apply(pixels).shape == (60, 50, 3)
    assert Condition("blur", 2).apply(pixels).std() < pixels.std() / 2
    np.testing.assert_array_equal(Condition("exposure", 0).apply(pixels), pixels)
    # One stop of light on sRGB's middle grey (188 is twice the light of 137).
    assert Condition("exposure", 1).apply(np.full((1, 1, 3), 137, np.uint8)).item(0) == pytest.approx(188, abs=1)
    assert Condition("exposure", 2).apply(np.full((1, 1, 3), 250, np.uint8)).item(0) == 255
    assert np.abs(Condition("jpeg", 5).apply(pixels).astype(int) - pixels).mean() > 5


def test_a_picture_that_cannot_be_read_is_kept_as_such(tmp_path: Path, pipeline: Pipeline) -> None:
    faces = Path(shutil.copytree(FACES, tmp_path / "faces"))
    (faces / "obama" / "zz.jpg").write_bytes(b"no picture")
    pictures = list_pictures(faces)
    for _ in range(2):
        found = embed_pictures(pictures, pipeline, cache=tmp_path / "cache")
        assert found.without_face == 1
        assert pictures[-1].path.parent.name == "sunak" or found.rows[-1] == len(pictures) - 1
