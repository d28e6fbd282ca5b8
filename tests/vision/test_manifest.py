"""The name of an embedder is the name of its templates."""

from __future__ import annotations

import pytest
from vision.portraits import MODELS

from turnkey.vision.manifest import model_id, read_manifest

EMBEDDER = read_manifest(MODELS).embedder


@pytest.mark.parametrize(
    "other",
    [
        {"id": "theirs"},
        {"sha256": "0" * 64},
        {"mirrored": not EMBEDDER.mirrored},
        {"cohort_mean": (*EMBEDDER.cohort_mean[:-1], EMBEDDER.cohort_mean[-1] + 1e-6)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_makes_other_templates_has_another_name(other: dict[str, object]) -> None:
    """A gallery refuses templates of another name: those of another cohort's mean were taken for its own."""
    assert model_id(EMBEDDER.model_copy(update=other)) != model_id(EMBEDDER)


def test_what_is_only_said_of_a_model_changes_no_template() -> None:
    said = EMBEDDER.model_copy(update={"licence": "MIT", "cohort": "told in other words"})
    assert model_id(said) == model_id(EMBEDDER)
    assert model_id(EMBEDDER).startswith(f"{EMBEDDER.id}-")
