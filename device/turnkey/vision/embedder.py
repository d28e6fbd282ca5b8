"""Turn an aligned face into a template with SFace, and centre it.

Source: Zhong et al., "SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition", IEEE TIP 2021.

Rules kept here:
1. Embeddings are centred: the mean embedding of a cohort (manifest) is subtracted and the rest scaled to unit length.
   All faces share that mean, so it tells no two apart; taking it away raises the true accept rate for nothing at
   search time.
2. Where the manifest asks for it, a face is embedded as it is and mirrored, and the two are averaged: what an embedder
   makes of a tilt, of light from one side and of int8 rounding is partly another in the mirror, the person is not.
3. A template is float32, (128,), unit norm. Its score against another is their dot product.
4. The length that scaling takes away is kept beside it: it grows with how much of a person the network recognises
   (Meng et al., "MagFace", CVPR 2021; ISO/IEC 29794-5 takes its unified score from it).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from turnkey.vision.litert import Model
from turnkey.vision.manifest import EmbedderEntry


@dataclass(frozen=True, eq=False)
class Embedding:
    """A template and how far it is to be trusted.

    Attributes:
        template: (128,) float32, centred, unit norm.
        length: of the network's answer before anything was taken away or scaled; the mean of both where mirrors are
            averaged.
    """

    template: NDArray[np.float32]
    length: float


class Embedder:
    """SFace over LiteRT.

    Args:
        model: takes (side, side, 3) and gives `embedding`.
        centre: (d,) cohort mean.
        mirrored: average with the mirror image's embedding.
    """

    def __init__(self, model: Model, centre: NDArray[np.float32], *, mirrored: bool = False) -> None:
        self._model = model
        self._centre = centre
        self._mirrored = mirrored

    @classmethod
    def load(cls, models: Path, entry: EmbedderEntry, *, threads: int = 1) -> Embedder:
        """Verify and load. Raises ModelError."""
        return cls(Model.load(models, entry, threads=threads), entry.centre(), mirrored=entry.mirrored)

    def embed(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Template of an aligned face.

        Args:
            aligned: (112, 112, 3) uint8 RGB.

        Returns:
            (128,) float32, centred, unit norm.
        """
        return self.measured(aligned).template

    def measured(self, aligned: NDArray[np.uint8]) -> Embedding:
        """As `embed`, with the length beside it."""
        answers = self._answers(aligned)
        template = centred(unit(unit(answers).sum(axis=0)), self._centre)
        return Embedding(template, float(np.linalg.norm(answers, axis=1).mean()))

    def raw(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(128,) float32 unit norm, not centred: for evaluation and for taking a cohort's mean."""
        return unit(self.views(aligned).sum(axis=0))

    def views(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(1 or 2, 128) float32 unit norm: the face as it is and, where mirrors are averaged, in the mirror."""
        return unit(self._answers(aligned))

    def _answers(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
        faces = [aligned, np.ascontiguousarray(aligned[:, ::-1])] if self._mirrored else [aligned]
        return np.stack([self._model.run(face)["embedding"] for face in faces])


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., d) scaled to length one along the last axis."""
    norm = np.linalg.norm(vector, axis=-1, keepdims=True)
    return np.asarray(vector / np.maximum(norm, 1e-9), dtype=np.float32)


def centred(embedding: NDArray[np.float32], centre: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., d) unit-norm embeddings less the cohort's mean, unit norm again."""
    return unit(embedding - centre)
