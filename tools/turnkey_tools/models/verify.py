"""Check a models directory: every hash, the golden vectors, the channel order, the partitions.

Rules kept here:
1. Each check says what it found; one flaw fails the whole.
2. A check that cannot be made (a missing portrait, say) is a flaw, not a pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from turnkey.vision.align import similarity
from turnkey.vision.detector import Detector
from turnkey.vision.embedder import Embedder
from turnkey.vision.litert import Model, verified_bytes
from turnkey.vision.manifest import Manifest, ModelError, read_manifest
from turnkey.vision.mesh import MESH_TEMPLATE, FaceMesh
from turnkey_tools.models.golden import (
    MAX_LANDMARK_ERROR,
    MIN_COSINE,
    Golden,
    GoldenError,
    embedding_cosine,
    landmark_error,
    read_golden,
    read_portrait,
)

# uint8 pixels become int8 at the door; XNNPACK leaves that one operator to LiteRT.
_OUTSIDE = ("QUANTIZE",)
# Between the five landmarks of two models that mean slightly different points by them: LFW's faces have 0.03 to 0.14.
MAX_MESH_ERROR = 0.14


@dataclass(frozen=True)
class Check:
    """One check: what was looked at, whether it holds, what was found."""

    name: str
    holds: bool
    found: str


def verify_models(models: Path, repository: Path) -> list[Check]:
    """Every check on a models directory.

    Args:
        repository: where the golden portrait's path starts.
    """
    try:
        manifest = read_manifest(models)
    except ModelError as error:
        return [Check("manifest", False, str(error))]
    checks = [Check("manifest", True, f"version {manifest.version}, calibration {manifest.calibration.dataset}")]
    checks.extend(_hashes(models, manifest))
    if not all(check.holds for check in checks):
        return checks
    detector = Model.load(models, manifest.detector)
    embedder = Model.load(models, manifest.embedder)
    checks.append(partition_check(manifest.detector.id, detector))
    checks.append(partition_check(manifest.embedder.id, embedder))
    checks.append(partition_check(manifest.mesh.id, Model.load(models, manifest.mesh)))
    try:
        golden = read_golden(models)
        checks.append(_mesh(golden, repository, FaceMesh.load(models, manifest.mesh)))
        checks.extend(_golden(golden, repository, Detector(detector), Embedder(embedder, manifest.embedder.centre())))
    except GoldenError as error:
        checks.append(Check("golden vectors", False, str(error)))
    return checks


def _hashes(models: Path, manifest: Manifest) -> list[Check]:
    checks = []
    for entry in (manifest.detector, manifest.embedder, manifest.mesh, manifest.guide):
        if entry is None:
            continue
        try:
            verified_bytes(models, entry)
            checks.append(Check(f"hash of {entry.file}", True, entry.sha256))
        except ModelError as error:
            checks.append(Check(f"hash of {entry.file}", False, str(error)))
    return checks


def partition_check(name: str, model: Model) -> Check:
    """One XNNPACK partition, and nothing outside it but the door."""
    delegation = model.delegation()
    holds = delegation.partitions == 1 and set(delegation.left_over) <= set(_OUTSIDE)
    outside = ", ".join(delegation.left_over) or "nothing"
    return Check(f"XNNPACK partitions of {name}", holds, f"{delegation.partitions}, outside: {outside}")


def _mesh(golden: Golden, repository: Path, mesh: FaceMesh) -> Check:
    """The surface lies on the golden face: eyes, nose and mouth where the detector put them."""
    landmarks = golden.points()
    wanted = similarity(landmarks, MESH_TEMPLATE).apply(landmarks)
    found = mesh.find(read_portrait(golden, repository), landmarks).landmarks_in_cut()
    error = float(np.linalg.norm(found - wanted, axis=1).mean() / np.linalg.norm(wanted[0] - wanted[1]))
    found_text = f"{error:.4f} of the inter-eye distance off"
    return Check("face mesh on the golden face", error <= MAX_MESH_ERROR, found_text)


def _golden(golden: Golden, repository: Path, detector: Detector, embedder: Embedder) -> list[Check]:
    pixels = read_portrait(golden, repository)
    swapped = np.ascontiguousarray(pixels[..., ::-1])
    error, swapped_error = landmark_error(golden, pixels, detector), landmark_error(golden, swapped, detector)
    cosine, swapped_cosine = embedding_cosine(golden, pixels, embedder), embedding_cosine(golden, swapped, embedder)
    return [
        Check("golden landmarks", error <= MAX_LANDMARK_ERROR, f"{error:.4f} of the inter-eye distance off"),
        Check(
            "detector's channel order",
            swapped_error > MAX_LANDMARK_ERROR,
            f"red and blue swapped: {swapped_error:.4f} of the inter-eye distance off, more than {MAX_LANDMARK_ERROR}",
        ),
        Check("golden embedding", cosine >= MIN_COSINE, f"cosine {cosine:.4f}"),
        Check(
            "embedder's channel order",
            swapped_cosine < MIN_COSINE,
            f"red and blue swapped: cosine {swapped_cosine:.4f}, less than {MIN_COSINE}",
        ),
    ]
