"""Only models of the release, or models that somebody answers for, are let through."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from vision.portraits import MODELS

from turnkey.accepted_models import accepted_manifest
from turnkey.device import DeviceError
from turnkey.envelope import SigningKey, cosign, sign
from turnkey.interlock.authority import Authority, Role
from turnkey.vision.acceptance import ACCEPTANCE_NAME, ACCEPTANCE_TYPE, SHIPPED, Acceptance, judge, models_digest
from turnkey.vision.manifest import Manifest, ModelError, read_manifest
from turnkey_tools.authority import new_authority

KEYS = [SigningKey.generate() for _ in range(3)]


def authority(threshold: int = 2) -> Authority:
    """`models` 2 of 3; the third also is the policy's signer, alone."""
    keys = tuple(key.public.to_hex() for key in KEYS)
    return new_authority(
        "Test",
        {f"holder {number}": key.public for number, key in enumerate(KEYS)},
        {
            "root": Role(keys=keys[:1], threshold=1, rank=3, may=frozenset({"authority"})),
            "models": Role(keys=keys, threshold=threshold, may=frozenset({"models"})),
            "policy": Role(keys=keys[2:], threshold=1, may=frozenset({"policy"})),
        },
    )


def foreign(manifest: Manifest | None = None) -> Manifest:
    """The same files under another calibration: another claim, so other models."""
    manifest = manifest or read_manifest(MODELS)
    return manifest.model_copy(
        update={"calibration": manifest.calibration.model_copy(update={"dataset": "somebody's faces"})}
    )


def acceptance(manifest: Manifest, **others: str) -> Acceptance:
    fields = {"models": models_digest(manifest), "report": "0" * 64, "requirements": "1" * 64, "role": "models"}
    return Acceptance(embedder_id="theirs", accepted_at="2026-01-01T00:00:00+00:00", **(fields | others))  # type: ignore[arg-type]


def signed(document: Acceptance, *keys: SigningKey, payload_type: str = ACCEPTANCE_TYPE) -> bytes:
    data = sign(payload_type, document.payload(), keys[0])
    for key in keys[1:]:
        data = cosign(data, key)
    return data


def reason(manifest: Manifest, data: bytes | None, by: Authority | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        judge(manifest, data, by or authority())
    return caught.value.reason


def test_the_shipped_models_are_known_to_the_software() -> None:
    """Where models/ was built anew, put this digest into `acceptance.SHIPPED`."""
    assert models_digest(read_manifest(MODELS)) in SHIPPED


def test_shipped_models_need_nothing_more() -> None:
    assert judge(read_manifest(MODELS), None, authority()).shipped


def test_foreign_models_without_an_acceptance_are_refused() -> None:
    assert reason(foreign(), None) == "models-not-accepted"


def test_foreign_models_that_enough_answer_for_are_loaded() -> None:
    document = acceptance(foreign())
    found = judge(foreign(), signed(document, *KEYS[:2]), authority())
    assert not found.shipped
    assert found.acceptance == document


@pytest.mark.parametrize(
    "change",
    [
        {"embedder": {"sha256": "a" * 64}},
        {"embedder": {"mirrored": False}},
        {"embedder": {"cohort_mean": (0.5,) * 128}},
        {"detector": {"sha256": "b" * 64}},
        {"mesh": {"sha256": "c" * 64}},
        {"guide": {"sha256": "d" * 64}},
    ],
)
def test_every_model_and_how_it_is_used_is_in_the_digest(change: dict[str, dict[str, object]]) -> None:
    manifest = read_manifest(MODELS)
    ((part, fields),) = change.items()
    other = manifest.model_copy(update={part: getattr(manifest, part).model_copy(update=fields)})
    assert models_digest(other) != models_digest(manifest)
    assert reason(other, signed(acceptance(manifest), *KEYS[:2])) == "acceptance-of-other-models"


def test_too_few_signatures_strangers_and_other_roles_are_refused() -> None:
    manifest = foreign()
    document = acceptance(manifest)
    stranger = SigningKey.generate()
    assert reason(manifest, signed(document, KEYS[0])) == "acceptance-not-signed"
    assert reason(manifest, signed(document, KEYS[0], stranger)) == "acceptance-not-signed"
    assert reason(manifest, signed(acceptance(manifest, role="policy"), KEYS[2])) == "acceptance-not-signed"
    assert reason(manifest, signed(acceptance(manifest, role="nobody"), *KEYS)) == "acceptance-not-signed"
    other_type = signed(document, *KEYS, payload_type="application/vnd.turnkey.policy+json")
    assert reason(manifest, other_type) == "acceptance-not-signed"


def test_what_is_no_acceptance_is_refused() -> None:
    manifest = foreign()
    assert reason(manifest, b"") == "acceptance-not-signed"
    assert reason(manifest, b"{}") == "acceptance-not-signed"
    assert reason(manifest, sign(ACCEPTANCE_TYPE, b'{"version": 1}', KEYS[0])) == "acceptance-malformed"
    altered = signed(acceptance(manifest), *KEYS[:2]).replace(b"payload", b"peyload", 1)
    assert reason(manifest, altered) == "acceptance-not-signed"


def test_a_device_reads_the_acceptance_beside_the_manifest(tmp_path: Path) -> None:
    models = Path(shutil.copytree(MODELS, tmp_path / "models"))
    text = (models / "manifest.toml").read_text()
    (models / "manifest.toml").write_text(text.replace('dataset = "', 'dataset = "other, ', 1))
    with pytest.raises(ModelError, match="nobody accepted them"):
        accepted_manifest(models, authority())
    document = acceptance(read_manifest(models))
    (models / ACCEPTANCE_NAME).write_bytes(signed(document, *KEYS[:2]))
    assert accepted_manifest(models, authority()).calibration.dataset.startswith("other, ")
    (models / ACCEPTANCE_NAME).unlink()
    (models / ACCEPTANCE_NAME).mkdir()
    with pytest.raises(ModelError) as caught:
        accepted_manifest(models, authority())
    assert caught.value.reason == "acceptance-unreadable"


def test_a_device_with_foreign_models_does_not_start(tmp_path: Path) -> None:
    from turnkey.device import Device
    from turnkey_tools.pilot import provision_pilot

    models = Path(shutil.copytree(MODELS, tmp_path / "models"))
    text = (models / "manifest.toml").read_text()
    (models / "manifest.toml").write_text(text.replace('dataset = "', 'dataset = "other, ', 1))
    pilot = provision_pilot(tmp_path / "pilot", models)
    with pytest.raises(DeviceError, match="nobody accepted them"):
        Device(pilot.settings())
