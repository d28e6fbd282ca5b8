"""What a row of the gallery is: its facts, its errors, and the format of the file that holds it.

References are opaque: a booking or case number, resolved only in the agency's records system. No name, no picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from turnkey.database import Format, StorageError
from turnkey.gallery.sealing import KEY_BYTES

__all__ = [
    "FORMAT",
    "KEY_BYTES",
    "PARTITIONS",
    "TEMPLATE_DIMENSIONS",
    "Compared",
    "Counters",
    "Enrolment",
    "Row",
    "WrongKey",
]

TEMPLATE_DIMENSIONS = 128
PARTITIONS = ("bookings", "cases")

_TEMPLATE = """
CREATE TABLE template (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    partition TEXT NOT NULL CHECK (partition IN ('bookings', 'cases')),
    reference TEXT NOT NULL,
    model_id TEXT NOT NULL,
    quality INTEGER NOT NULL,
    enrolled_at TEXT NOT NULL,
    sealed BLOB NOT NULL
) STRICT;
CREATE INDEX template_reference ON template (partition, reference);
"""
_KEYS_AND_RETENTION = """
ALTER TABLE template ADD COLUMN key_number INTEGER NOT NULL DEFAULT 1;
ALTER TABLE template ADD COLUMN taken_at TEXT;
ALTER TABLE template ADD COLUMN delete_after TEXT;
CREATE INDEX template_model ON template (partition, model_id);
CREATE INDEX template_retention ON template (partition, delete_after) WHERE delete_after IS NOT NULL;
CREATE TABLE gallery_key (number INTEGER PRIMARY KEY, proof BLOB NOT NULL, wrapped BLOB) STRICT;
CREATE TABLE import_file (
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    outcome TEXT NOT NULL,
    row INTEGER,
    PRIMARY KEY (source, name)
) STRICT, WITHOUT ROWID;
"""
_KEPT_PROOF = """
INSERT INTO gallery_key (number, proof) SELECT 1, sealed FROM key_proof;
DROP TABLE key_proof;
"""

FORMAT = Format(
    name="gallery",
    application_id=int.from_bytes(b"TKGA"),
    version=2,
    schema=_TEMPLATE + _KEYS_AND_RETENTION,
    upgrades=(_KEYS_AND_RETENTION + _KEPT_PROOF,),
    # 2.5 million rows are 2 GB, and reading them all would be most of the time to the first search.
    checked_below_bytes=64 << 20,
)


class WrongKey(StorageError):
    """The gallery was encrypted with another key. Nothing was read or written."""


@dataclass(frozen=True)
class Row:
    """One enrolled template, without the template.

    Attributes:
        row: number, never used again.
        partition: `bookings` or `cases`.
        reference: booking or case number.
        model_id: the embedder that computed it.
        quality: unified quality of its probe, 0 to 100.
        enrolled_at: UTC.
        taken_at: when the picture was taken, where that was given; UTC.
        delete_after: when retention ends; None: kept until expunged. UTC.
    """

    row: int
    partition: str
    reference: str
    model_id: str
    quality: int
    enrolled_at: datetime
    taken_at: datetime | None = None
    delete_after: datetime | None = None


@dataclass(frozen=True, eq=False)
class Enrolment:
    """What is to be enrolled. `template` is (128,) float32, unit norm, centred; the rest as in `Row`."""

    partition: str
    reference: str
    model_id: str
    quality: int
    enrolled_at: datetime
    template: NDArray[np.float32]
    taken_at: datetime | None = None
    delete_after: datetime | None = None


@dataclass(frozen=True)
class Counters:
    """How many rows each partition holds, and the highest number that was ever given to one."""

    rows: dict[str, int]
    highest: int


@dataclass(frozen=True)
class Compared:
    """A row and the exact score of its template against a probe: cosine similarity, -1 to 1."""

    row: Row
    score: float
