"""What a search of the gallery gives, and why there may be none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from turnkey.database import StorageError
from turnkey.gallery.search import EXHAUSTIVE, Strategy


class OtherModel(StorageError):
    """The gallery holds templates of another embedder."""


class GalleryLocked(StorageError):
    """The gallery is ciphertext: the interlock has taken the key back, or has not given it yet."""


@dataclass(frozen=True)
class Candidate:
    """One enrolled template and its score against the probe: cosine similarity, -1 to 1."""

    row: int
    reference: str
    enrolled_at: datetime
    score: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        partition: what was searched.
        gallery_size: templates that the partition held, all of them.
        candidates: the best reference by reference, best score first. No threshold has been applied.
        strategy: how it was searched, and with what recall.
    """

    partition: str
    gallery_size: int
    candidates: tuple[Candidate, ...]
    strategy: Strategy = EXHAUSTIVE
