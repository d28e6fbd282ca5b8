"""What a row of the gallery is: its facts, its errors, and the format of the file that holds it.

References are opaque: a booking or case number, resolved only in the agency's records system. No name, no picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

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
_PACKS = """
CREATE TABLE pack (
    number INTEGER PRIMARY KEY,
    pack_id TEXT NOT NULL,
    way TEXT NOT NULL CHECK (way IN ('export', 'import')),
    device_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    finished INTEGER NOT NULL DEFAULT 0 CHECK (finished IN (0, 1)),
    UNIQUE (pack_id, way)
) STRICT;
CREATE TABLE pack_row (
    device_id TEXT NOT NULL,
    origin_row INTEGER NOT NULL,
    pack INTEGER NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (device_id, origin_row)
) STRICT, WITHOUT ROWID;
CREATE INDEX pack_row_here ON pack_row (row);
"""
_KEPT_PROOF = """
INSERT INTO gallery_key (number, proof) SELECT 1, sealed FROM key_proof;
DROP TABLE key_proof;
"""

FORMAT = Format(
    name="gallery",
    application_id=int.from_bytes(b"TKGA"),
    version=3,
    schema=_TEMPLATE + _KEYS_AND_RETENTION + _PACKS,
    upgrades=(_KEYS_AND_RETENTION + _KEPT_PROOF, _PACKS),
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


FACTS = "row, partition, reference, model_id, quality, enrolled_at, taken_at, delete_after"
"""The columns that `row_of` takes."""


def row_of(values: tuple[Any, ...]) -> Row:
    """A row as the file holds it."""
    row, partition, reference, model_id, quality, enrolled_at, taken_at, delete_after = values
    return Row(
        row,
        partition,
        reference,
        model_id,
        quality,
        datetime.fromisoformat(enrolled_at),
        taken_at and datetime.fromisoformat(taken_at),
        delete_after and datetime.fromisoformat(delete_after),
    )


def stored_time(moment: datetime | None) -> str | None:
    """Times are stored in UTC, so that their order is the order of their text."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="microseconds")


def associated_data(row: int, partition: str, reference: str, model_id: str) -> bytes:
    """What a row's template is bound to: moved or renamed, it does not open."""
    # As `json.dumps` writes the list, at a tenth of the time: millions of rows are opened.
    return f'["turnkey template 1", {row}, {_quoted(partition)}, {_quoted(reference)}, {_quoted(model_id)}]'.encode()
