"""MediaPipe itself: that it takes the committed BlazeFace file, and that it is the metadata which makes it do so.

Needs the extra `mediapipe` and a process without network, as test_framing_contract.py does.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema

from turnkey.vision.framing import MediaPipeGuide, has_network
from turnkey.vision.litert import verified_bytes
from turnkey.vision.manifest import ModelError, read_manifest

MODELS = Path(__file__).parents[2] / "models"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mediapipe") is None or has_network(),
    reason="needs the extra `mediapipe` and no network: unshare --map-root-user --net python -m pytest -k mediapipe",
)


@pytest.fixture
def model() -> bytes:
    entry = read_manifest(MODELS).guide
    assert entry is not None
    return verified_bytes(MODELS, entry)


def test_mediapipe_takes_the_committed_file(model: bytes) -> None:
    MediaPipeGuide(model).close()


def test_mediapipe_refuses_the_file_without_the_metadata(model: bytes) -> None:
    tree = schema.ModelT.InitFromPackedBuf(model)
    tree.metadata = []
    builder = flatbuffers.Builder(len(model))
    builder.Finish(tree.Pack(builder), b"TFL3")
    with pytest.raises(ModelError, match="NormalizationOptions") as refusal:
        MediaPipeGuide(bytes(builder.Output()))
    assert refusal.value.reason == "guide-unusable"


@pytest.mark.parametrize("data", [b"", b"not a model at all, not even nearly", b"\x1c\x00\x00\x00TFL3" + bytes(64)])
def test_mediapipe_refuses_what_is_no_model(data: bytes) -> None:
    with pytest.raises(ModelError) as refusal:
        MediaPipeGuide(data)
    assert refusal.value.reason == "guide-unusable"
