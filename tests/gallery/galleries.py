"""What the gallery's tests share: templates of a seed, permits, and galleries filled with them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.gallery.gallery import Gallery
from turnkey.gallery.store import Enrolment, TemplateStore
from turnkey.interlock.permit import Permit

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = bytes(range(32))
OTHER_KEY = bytes(range(100, 132))
MODEL = "sface-0123"


def unit(seed: int) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).standard_normal(128).astype(np.float32)
    return vector / np.linalg.norm(vector)


def units(count: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((count, 128)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def live() -> Permit:
    return Permit(lambda: 0, 10**9)


def dead() -> Permit:
    permit = live()
    permit.revoke("key-opened")
    return permit


def unlocked(path: Path, key: bytes = KEY, model_id: str = MODEL) -> Gallery:
    gallery = Gallery(path, model_id)
    gallery.unlock(key)
    return gallery


def enrol(gallery: Gallery, reference: str, seed: int, partition: str = "cases") -> int:
    return gallery.enrol(partition, reference, unit(seed), quality=50, enrolled_at=NOW, permit=live())


def filled(
    path: Path,
    templates: Sequence[NDArray[np.float32]] | NDArray[np.float32],
    partition: str = "cases",
    key: bytes = KEY,
) -> None:
    """Rows 1, 2, 3, ... of references R-1, R-2, R-3, ..."""
    store = TemplateStore(path, key)
    rows = (
        Enrolment(partition, f"R-{number}", MODEL, 50, NOW, template) for number, template in enumerate(templates, 1)
    )
    store.add_many(rows, live())
    store.close()
