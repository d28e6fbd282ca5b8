"""Which engine guides, and that one which could talk to anybody never does."""

from __future__ import annotations

import errno
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from turnkey.vision import framing
from turnkey.vision.framing import Engine, MediaPipeGuide, choose_engine, framing_guide, has_network
from turnkey.vision.manifest import Manifest, ModelError, read_manifest

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"


@pytest.fixture
def manifest() -> Manifest:
    return read_manifest(MODELS)


@pytest.mark.parametrize("imports", [True, False])
@pytest.mark.parametrize("network", [True, False])
@pytest.mark.parametrize("modelled", [True, False])
def test_mediapipe_needs_itself_its_model_and_no_network(
    manifest: Manifest, imports: bool, network: bool, modelled: bool
) -> None:
    assert manifest.guide is not None
    given = manifest if modelled else manifest.model_copy(update={"guide": None})
    chosen = choose_engine(mediapipe_imports=imports, network=network, manifest=given)
    assert (chosen is Engine.MEDIAPIPE) == (imports and modelled and not network)


def test_without_mediapipe_the_guide_is_yunet_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    monkeypatch.setattr(framing, "has_network", lambda: False)
    guide = framing_guide(MODELS)
    assert guide.engine is Engine.YUNET
    guide.close()


def test_with_a_network_the_guide_is_yunet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "_mediapipe_imports", lambda: True)
    monkeypatch.setattr(framing, "has_network", lambda: True)
    assert framing_guide(MODELS).engine is Engine.YUNET


def test_mediapipe_refuses_to_start_with_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "has_network", lambda: True)
    with pytest.raises(ModelError) as refusal:
        MediaPipeGuide(b"")
    assert refusal.value.reason == "guide-has-network"


def test_a_chosen_mediapipe_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "_mediapipe_imports", lambda: True)
    monkeypatch.setattr(framing, "has_network", lambda: False)
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(ModelError) as refusal:
        framing_guide(MODELS)
    assert refusal.value.reason == "guide-unusable"


def test_an_altered_guide_model_never_reaches_mediapipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = shutil.copytree(MODELS, tmp_path / "models")
    entry = read_manifest(models).guide
    assert entry is not None
    data = bytearray((models / entry.file).read_bytes())
    data[len(data) // 2] ^= 1
    (models / entry.file).write_bytes(data)
    monkeypatch.setattr(framing, "_mediapipe_imports", lambda: True)
    monkeypatch.setattr(framing, "has_network", lambda: False)
    with pytest.raises(ModelError) as refusal:
        framing_guide(models)
    assert refusal.value.reason == "model-altered"


def test_an_interface_beside_loopback_is_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "eth0")])
    assert has_network()


def test_loopback_alone_is_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo")])
    assert not has_network()


def test_not_knowing_is_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> list[tuple[int, str]]:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(socket, "if_nameindex", refused)
    assert has_network()


def test_forbidden_address_families_are_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", forbidden)
    assert not has_network()


def test_a_process_in_a_network_namespace_of_its_own_has_none() -> None:
    unshare = shutil.which("unshare")
    isolate = [unshare or "unshare", "--map-root-user", "--net"]
    if unshare is None or subprocess.run([*isolate, "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let a user make a network namespace")
    question = "from turnkey.vision.framing import has_network; raise SystemExit(3 if has_network() else 4)"
    assert subprocess.run([*isolate, sys.executable, "-c", question], check=False).returncode == 4
