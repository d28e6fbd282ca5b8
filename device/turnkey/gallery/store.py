"""The gallery's rows: encrypted templates in SQLite. The rows are the truth; what searches them is a cache.

Rules kept here:
1. A template is on disk only as ciphertext (ChaCha20-Poly1305, RFC 8439: as fast and as safe on a board without AES
   instructions). Row number, partition, reference and model id are bound to it as associated data, so that a row moved,
   renamed or swapped does not open.
2. The key comes from the interlock with its lease, and is never written here. A wrong key is found before any row is
   read.
3. An enrolment is on disk before it is acknowledged, and the permit is checked last inside its transaction.
4. A row number is never used again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from numpy.typing import NDArray

from turnkey.database import Database, Format, StorageDamaged, StorageError
from turnkey.interlock.permit import Permit

TEMPLATE_DIMENSIONS = 128
KEY_BYTES = 32
_NONCE_BYTES = 12
_KEY_PROOF = b"turnkey gallery key"

FORMAT = Format(
    name="gallery",
    application_id=int.from_bytes(b"TKGA"),
    version=1,
    schema="""
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
CREATE TABLE key_proof (one INTEGER PRIMARY KEY CHECK (one = 1), sealed BLOB NOT NULL) STRICT;
""",
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
    """

    row: int
    partition: str
    reference: str
    model_id: str
    quality: int
    enrolled_at: datetime


@dataclass(frozen=True, eq=False)
class Enrolment:
    """What is to be enrolled. `template` is (128,) float32, unit norm, centred."""

    partition: str
    reference: str
    model_id: str
    quality: int
    enrolled_at: datetime
    template: NDArray[np.float32]


class TemplateStore:
    """The rows at `path`, opened with the 32-byte `key`; without one, rows can be removed and nothing else.

    Raises:
        WrongKey: the rows were encrypted with another key.
        StorageError: see `turnkey.database.Database`.
    """

    def __init__(self, path: Path, key: bytes | bytearray | None) -> None:
        self._key = None if key is None else ChaCha20Poly1305(key)
        self._database = Database(path, FORMAT)
        try:
            if key is not None:
                self._prove_key()
        except BaseException:
            self._database.close()
            raise

    @property
    def _cipher(self) -> ChaCha20Poly1305:
        if self._key is None:
            raise StorageError("no-gallery-key", f"{self._database.path}: opened without its key")
        return self._key

    def _prove_key(self) -> None:
        with self._database.transaction():
            proof = self._database.rows("SELECT sealed FROM key_proof")
            if not proof:
                self._database.execute("INSERT INTO key_proof VALUES (1, ?)", self._seal(b"", _KEY_PROOF))
                return
        try:
            self._unseal(proof[0][0], _KEY_PROOF)
        except InvalidTag as error:
            raise WrongKey("wrong-gallery-key", f"{self._database.path}: encrypted with another key") from error

    def add(self, enrolment: Enrolment, permit: Permit) -> int:
        """Enrol one template; on disk when this returns. Returns its row number.

        Raises:
            Stopped: the permit died; nothing was kept.
            StorageError: disk full or unwritable; nothing was kept.
            ValueError: not a unit template of 128 float32.
        """
        template = np.ascontiguousarray(enrolment.template, dtype=np.float32)
        if template.shape != (TEMPLATE_DIMENSIONS,) or not abs(float(np.linalg.norm(template)) - 1.0) < 1e-3:
            raise ValueError(f"a template is {TEMPLATE_DIMENSIONS} float32 of unit norm")
        with permit.commit(), self._database.transaction():
            row = self._database.execute(
                "INSERT INTO template (partition, reference, model_id, quality, enrolled_at, sealed)"
                " VALUES (?, ?, ?, ?, ?, x'') RETURNING row",
                enrolment.partition,
                enrolment.reference,
                enrolment.model_id,
                enrolment.quality,
                enrolment.enrolled_at.isoformat(),
            ).fetchone()[0]
            bound = _bound(row, enrolment.partition, enrolment.reference, enrolment.model_id)
            sealed = self._seal(template.tobytes(), bound)
            self._database.execute("UPDATE template SET sealed = ? WHERE row = ?", sealed, row)
            permit.check()
        return int(row)

    def remove(self, partition: str, reference: str) -> list[int]:
        """Expunge every template of a reference; gone from disk when this returns. Returns the row numbers."""
        with self._database.transaction():
            removed = self._database.rows(
                "DELETE FROM template WHERE partition = ? AND reference = ? RETURNING row", partition, reference
            )
        # The write-ahead log still holds the old page; emptying it leaves no copy behind, ciphertext as it was.
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return [row for (row,) in removed]

    def remove_row(self, row: int) -> None:
        """Take back one enrolment; gone from disk when this returns."""
        with self._database.transaction():
            self._database.execute("DELETE FROM template WHERE row = ?", row)
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def get(self, row: int) -> Row | None:
        """One row's facts; None where there is no such row."""
        found = self._database.rows(
            "SELECT row, partition, reference, model_id, quality, enrolled_at FROM template WHERE row = ?", row
        )
        return _row(found[0]) if found else None

    def model_ids(self) -> set[str]:
        """Which embedders' templates the gallery holds."""
        return {model_id for (model_id,) in self._database.rows("SELECT DISTINCT model_id FROM template")}

    def templates(self, partition: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Row numbers and decrypted templates ((128,) float32) of a partition, in row order.

        Raises:
            StorageDamaged: a row does not open: changed, moved or damaged. Nothing is served in its place.
        """
        for row, reference, model_id, sealed in self._database.rows(
            "SELECT row, reference, model_id, sealed FROM template WHERE partition = ? ORDER BY row", partition
        ):
            try:
                plain = self._unseal(sealed, _bound(row, partition, reference, model_id))
            except InvalidTag as error:
                raise StorageDamaged(
                    "row-damaged", f"{self._database.path}: row {row} of {partition} was changed or moved"
                ) from error
            yield row, np.frombuffer(plain, dtype=np.float32)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._database.close()

    def _seal(self, plain: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, bound)

    def _unseal(self, sealed: bytes, bound: bytes) -> bytes:
        # Shorter than a nonce is refused by the cipher as ValueError; say the same of it as of any other damage.
        if len(sealed) <= _NONCE_BYTES:
            raise InvalidTag
        return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)


def _bound(row: int, partition: str, reference: str, model_id: str) -> bytes:
    return json.dumps(["turnkey template 1", row, partition, reference, model_id]).encode()


def _row(values: tuple[int, str, str, str, int, str]) -> Row:
    row, partition, reference, model_id, quality, enrolled_at = values
    return Row(row, partition, reference, model_id, quality, datetime.fromisoformat(enrolled_at))
