"""`turnkeyctl models verify`: holds for what is committed, and fails for every flaw it is there to find."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from typer.testing import CliRunner
from vision.portraits import MODELS, REPOSITORY

from turnkey.vision.litert import Model
from turnkey.vision.manifest import MANIFEST_NAME, read_manifest
from turnkey_tools.models import tflite
from turnkey_tools.models.commands import app
from turnkey_tools.models.golden import GOLDEN_NAME, Golden, golden_text, read_golden
from turnkey_tools.models.graph import Graph, Kind, Op
from turnkey_tools.models.manifest_file import manifest_text
from turnkey_tools.models.sources import SFACE, SourceError, read_source
from turnkey_tools.models.verify import partition_check, verify_models


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODELS, tmp_path / "models"))


def failed(models: Path, repository: Path = REPOSITORY) -> list[str]:
    return [check.name for check in verify_models(models, repository) if not check.holds]


def test_the_committed_models_hold() -> None:
    assert failed(MODELS) == []


def test_both_channel_orders_are_checked() -> None:
    names = [check.name for check in verify_models(MODELS, REPOSITORY)]
    assert "detector's channel order" in names
    assert "embedder's channel order" in names


@pytest.mark.parametrize("kind", ["detector", "embedder", "mesh", "guide"])
def test_one_flipped_byte_fails(copied: Path, kind: str) -> None:
    path = copied / getattr(read_manifest(copied), kind).file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    assert failed(copied) == [f"hash of {path.name}"]


def test_an_altered_golden_embedding_fails(copied: Path) -> None:
    golden = read_golden(copied)
    wrong = Golden(**{**golden.model_dump(), "embedding": tuple(reversed(golden.embedding))})
    (copied / GOLDEN_NAME).write_text(golden_text(wrong))
    assert failed(copied) == ["golden embedding"]


def test_golden_vectors_taken_from_swapped_channels_fail(copied: Path) -> None:
    """Had the models been built for blue first, their golden vectors would be these."""
    from turnkey.vision.align import align
    from turnkey.vision.embedder import Embedder
    from turnkey_tools.models.golden import read_portrait

    golden = read_golden(copied)
    pixels = read_portrait(golden, REPOSITORY)[..., ::-1].copy()
    embedder = Embedder.load(copied, read_manifest(copied).embedder)
    swapped = tuple(embedder.views(align(pixels, golden.points()))[0].tolist())
    (copied / GOLDEN_NAME).write_text(golden_text(Golden(**{**golden.model_dump(), "embedding": swapped})))
    assert failed(copied) == ["golden embedding", "embedder's channel order"]


def test_a_missing_portrait_is_a_flaw_not_a_pass(tmp_path: Path) -> None:
    assert failed(MODELS, tmp_path) == ["golden vectors"]


class _WithAForeignOperator(tflite._Writer):
    """Puts a FLOOR_MOD, which XNNPACK does not take, between two convolutions."""

    def _write_op(self, op: Op) -> None:
        if op.output == "second":
            before = self.placed["first", True].index
            between = self.file.tensor("between", op.shape, schema.TensorType.FLOAT32)
            self.file.operator("FLOOR_MOD", [before, before], between, schema.FloorModOptionsT())
            self.placed["first", True] = tflite._Placed(between, None)
        super()._write_op(op)


def test_a_model_in_two_partitions_fails() -> None:
    weights, bias = np.ones((3, 1, 1, 3), np.float32), np.zeros(3, np.float32)
    shape = (1, 32, 32, 3)
    ops = [
        Op(Kind.CONV, ("image",), "first", shape, weights, bias),
        Op(Kind.CONV, ("first",), "second", shape, weights, bias),
    ]
    graph = Graph("split", "image", shape, 1.0, 0, ops, ("second",))
    whole = Model(tflite.write_float(graph))
    split = Model(_WithAForeignOperator(graph, None).write(every_activation=False))
    assert partition_check("whole", whole).holds
    assert not partition_check("split", split).holds
    assert split.delegation().partitions == 2
    assert split.delegation().left_over == ("FLOOR_MOD",)


def test_the_command_prints_json_and_exits_by_what_it_found(copied: Path) -> None:
    runner = CliRunner()
    options = ["verify", "--repository", str(REPOSITORY), "--json", "--models"]
    good = runner.invoke(app, [*options, str(MODELS)])
    assert good.exit_code == 0
    assert all(check["holds"] for check in json.loads(good.stdout))
    (copied / MANIFEST_NAME).write_text("version = 1\n")
    assert runner.invoke(app, [*options, str(copied)]).exit_code == 1


def test_the_manifest_is_written_as_it_is_read() -> None:
    assert (MODELS / MANIFEST_NAME).read_text() == manifest_text(read_manifest(MODELS))


def test_whatever_a_dataset_is_called_the_manifest_can_be_read_again(tmp_path: Path) -> None:
    manifest = read_manifest(MODELS)
    calibration = manifest.calibration.model_copy(update={"dataset": 'faces of "Zoë",\n\tC:\\new'})
    named = manifest.model_copy(update={"calibration": calibration})
    (tmp_path / MANIFEST_NAME).write_text(manifest_text(named), encoding="utf-8")
    assert read_manifest(tmp_path) == named


def test_every_model_has_a_card() -> None:
    manifest = read_manifest(MODELS)
    assert manifest.guide is not None
    for entry in (manifest.detector, manifest.embedder, manifest.mesh, manifest.guide):
        card = (MODELS / entry.file).with_suffix(".md").read_text()
        assert entry.source_package in card
        assert entry.licence in card
        for part in ("## Groups", "## Training data", "## Largest", "## Known failures"):
            assert part in card, f"{entry.id}: {part}"


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path) -> None:
    (tmp_path / SFACE.wheel).write_bytes(b"not the wheel")
    with pytest.raises(SourceError, match="SHA-256"):
        read_source(SFACE, tmp_path)


def test_a_missing_wheel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not there"):
        read_source(SFACE, tmp_path)
