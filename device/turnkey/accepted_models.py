"""Read a models directory's manifest, and let only accepted models through (`vision.acceptance`)."""

from __future__ import annotations

from pathlib import Path

from turnkey.interlock.authority import Authority
from turnkey.vision.acceptance import ACCEPTANCE_NAME, judge
from turnkey.vision.manifest import Manifest, ModelError, read_manifest


def accepted_manifest(models: Path, authority: Authority) -> Manifest:
    """The manifest of models that this device may load.

    Raises:
        ModelError: the manifest cannot be used, or nobody accepted these models.
    """
    manifest = read_manifest(models)
    judge(manifest, _acceptance(models / ACCEPTANCE_NAME), authority)
    return manifest


def _acceptance(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError("acceptance-unreadable", f"{path} cannot be read: {error.strerror}") from error
