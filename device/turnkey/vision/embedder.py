"""Turn an aligned face into a template with SFace, and centre it.

Source: Zhong et al., "SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition", IEEE TIP 2021.

Rules kept here:
1. Embeddings are centred: the mean embedding of a cohort (manifest) is subtracted and the rest scaled to unit length.
   All faces share that mean, so it tells no two apart; taking it away raises the true accept rate for nothing at
   search time.
2. A template is float32, (128,), unit norm. Its score against another is their dot product.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.vision.litert import Model
from turnkey.vision.manifest import EmbedderEntry


class Embedder:
    """SFace over LiteRT."""

    def __init__(self, model: Model, centre: NDArray[np.float32]) -> None:
        self._model = model
        self._centre = centre

    @classmethod
    def load(cls, models: Path, entry: EmbedderEntry, *, threads: int = 1) -> Embedder:
        """Verify and load. Raises ModelError."""
        return cls(Model.load(models, entry, threads=threads), entry.centre())

    def embed(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Template of an aligned face.

        Args:
            aligned: (112, 112, 3) uint8 RGB.

        Returns:
            (128,) float32, centred, unit norm.
        """
        return centred(self.raw(aligned), self._centre)

    def raw(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(128,) float32 unit norm, not centred: for evaluation and for taking a cohort's mean."""
        return unit(self._model.run(aligned)["embedding"])


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., d) scaled to length one along the last axis."""
    norm = np.linalg.norm(vector, axis=-1, keepdims=True)
    return np.asarray(vector / np.maximum(norm, 1e-9), dtype=np.float32)


def centred(embedding: NDArray[np.float32], centre: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., d) unit-norm embeddings less the cohort's mean, unit norm again."""
    return unit(embedding - centre)
