"""The gallery's rows: encrypted templates in SQLite. The rows are the truth; what searches them is a cache.

Rules kept here:
1. A template is on disk only as ciphertext. Row number, partition, reference and model id are bound to it, so that a
   row moved, renamed or swapped does not open.
2. The key comes from the interlock with its lease, and is never written here in clear. A wrong key is found before any
   row is read.
3. An enrolment is on disk before it is acknowledged, and the permit is checked last inside its transaction.
4. A row number is never used again, and rows are numbered in the order of their enrolment.
5. An opened template is in `SecretMemory` and nowhere else, and leaves this file only through `each_batch`.
6. What is removed is overwritten (`secure_delete`), and the write-ahead log that held it is emptied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from numpy.typing import NDArray

from turnkey.database import Database, StorageDamaged, StorageError
from turnkey.gallery.memory import SecretMemory, as_bytes
from turnkey.gallery.rows import (
    FACTS,
    FORMAT,
    KEY_BYTES,
    PARTITIONS,
    TEMPLATE_DIMENSIONS,
    Compared,
    Counters,
    Enrolment,
    Row,
    WrongKey,
    associated_data,
    row_of,
    stored_time,
)
from turnkey.gallery.sealing import Sealer
from turnkey.interlock.permit import Permit

__all__ = ["KEY_BYTES", "TEMPLATE_DIMENSIONS", "Enrolment", "Row", "TemplateStore", "WrongKey"]

# The statements put together below are made of this file's own text; values are always bound.
_TEMPLATE_BYTES = TEMPLATE_DIMENSIONS * 4
_ROWS_A_QUERY = 64
BATCH_ROWS = 1024
"""Rows opened at a time."""


class TemplateStore:
    """The rows at `path`, opened with the 32-byte `key`; without one, rows can be removed and nothing else.

    Raises:
        WrongKey: the rows were encrypted with another key.
        StorageError: see `turnkey.database.Database`.
    """

    def __init__(self, path: Path, key: bytes | bytearray | None) -> None:
        self.database = Database(path, FORMAT)
        self._sealers: dict[int, Sealer] = {}
        self._number = 0
        self._memory = SecretMemory((BATCH_ROWS + 2 * _ROWS_A_QUERY) * _TEMPLATE_BYTES)
        self._opened = self._memory.array(np.float32, (BATCH_ROWS, TEMPLATE_DIMENSIONS))
        self._places = [as_bytes(template) for template in self._opened]
        shape = (_ROWS_A_QUERY, TEMPLATE_DIMENSIONS)
        self._widened = self._memory.array(np.float64, shape, BATCH_ROWS * _TEMPLATE_BYTES)
        try:
            if key is not None:
                self.take_key(key)
        except BaseException:
            self.close()
            raise

    def take_key(self, key: bytes | bytearray) -> None:
        """Open with a key: at the start, and once a rotation has made another one the gallery's.

        Raises:
            WrongKey: the rows were encrypted with another key.
        """
        sealer = Sealer(key)
        with self.database.transaction():
            keys = self.database.rows("SELECT number, proof, wrapped FROM gallery_key ORDER BY number")
            if not keys:
                self.database.execute("INSERT INTO gallery_key VALUES (1, ?, NULL)", sealer.proof(1))
                keys = self.database.rows("SELECT number, proof, wrapped FROM gallery_key")
        number, proof, _ = keys[-1]
        if not sealer.proves(proof, number):
            raise WrongKey("wrong-gallery-key", f"{self.database.path}: encrypted with another key")
        self._number = number
        self._sealers = {number: sealer}
        for older, _, wrapped in keys[:-1]:
            try:
                self._sealers[older] = sealer.unwrap(wrapped or b"", older)
            except InvalidTag as error:
                raise StorageDamaged("key-damaged", f"{self.database.path}: the wrapped key was changed") from error

    @property
    def sealer(self) -> Sealer:
        """What seals with the key in force.

        Raises:
            StorageError: opened without a key.
        """
        return self._sealer(self._number)

    @property
    def key_number(self) -> int:
        """Which key is in force: 1, and one more for each rotation."""
        return self._number

    def _sealer(self, number: int) -> Sealer:
        if not self._sealers:
            raise StorageError("no-gallery-key", f"{self.database.path}: opened without its key")
        if number not in self._sealers:
            raise StorageDamaged("key-unknown", f"{self.database.path}: a row names key {number}, which there is not")
        return self._sealers[number]

    def add(self, enrolment: Enrolment, permit: Permit) -> int:
        """Enrol one template; on disk when this returns. Returns its row number. Raises as `add_many`."""
        return self.add_many((enrolment,), permit)[0]

    def add_many(
        self,
        enrolments: Iterable[Enrolment],
        permit: Permit,
        also: Callable[[list[int]], None] | None = None,
    ) -> list[int]:
        """Enrol several templates in one transaction: all are on disk when this returns, or none.

        Args:
            also: what else belongs into the same transaction; is given the rows' numbers.

        Raises:
            Stopped: the permit died; nothing was kept.
            StorageError: disk full or unwritable; nothing was kept.
            ValueError: not a unit template of 128 float32.
        """
        rows = []
        with permit.commit(), self.database.transaction():
            next_row = self.database.rows("SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence")[0][0]
            for row, enrolment in enumerate(enrolments, start=next_row):
                self._insert(row, enrolment)
                rows.append(row)
            if also is not None:
                also(rows)
            permit.check()
        return rows

    def _insert(self, row: int, enrolment: Enrolment) -> None:
        template = np.ascontiguousarray(enrolment.template, dtype=np.float32)
        if template.shape != (TEMPLATE_DIMENSIONS,) or not abs(float(np.linalg.norm(template)) - 1.0) < 1e-3:
            raise ValueError(f"a template is {TEMPLATE_DIMENSIONS} float32 of unit norm")
        bound = associated_data(row, enrolment.partition, enrolment.reference, enrolment.model_id)
        self.database.execute(
            f"INSERT INTO template ({FACTS}, key_number, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            row,
            enrolment.partition,
            enrolment.reference,
            enrolment.model_id,
            enrolment.quality,
            enrolment.enrolled_at.isoformat(),
            stored_time(enrolment.taken_at),
            stored_time(enrolment.delete_after),
            self._number,
            self.sealer.seal(as_bytes(template), bound),
        )

    def remove(self, partition: str, reference: str) -> list[int]:
        """Expunge every template of a reference; gone from disk when this returns. Returns the row numbers."""
        return self._remove("partition = ? AND reference = ?", partition, reference)

    def remove_row(self, row: int) -> list[int]:
        """Take back one enrolment; gone from disk when this returns. Returns its number, if it was there.

        An import forgets that it had done it: what was taken back was never enrolled.
        """
        with self.database.transaction():
            self.database.execute("DELETE FROM import_file WHERE row = ?", row)
            self.database.execute("DELETE FROM pack_row WHERE row = ?", row)
        return self._remove("row = ?", row)

    def remove_ended(self, partition: str, now: datetime) -> list[int]:
        """Drop what retention has ended; gone from disk when this returns. Returns the row numbers."""
        return self._remove("partition = ? AND delete_after <= ?", partition, stored_time(now))

    def first_of(self, partition: str, reference: str) -> int | None:
        """The lowest row number of a reference; None where there is none."""
        return self._first("partition = ? AND reference = ?", partition, reference)

    def first_ended(self, partition: str, now: datetime) -> int | None:
        """The lowest row number that retention has ended; None where there is none."""
        return self._first("partition = ? AND delete_after <= ?", partition, stored_time(now))

    def _first(self, which: str, *values: Any) -> int | None:
        found: int | None = self.database.rows(
            f"SELECT min(row) FROM template WHERE {which}",  # noqa: S608
            *values,
        )[0][0]
        return found

    def _remove(self, which: str, *values: Any) -> list[int]:
        with self.database.transaction():
            removed = self.database.rows(
                f"DELETE FROM template WHERE {which} RETURNING row",  # noqa: S608
                *values,
            )
        # The write-ahead log still holds the old page; emptying it leaves no copy behind, ciphertext as it was. The row
        # is gone all the same where a full disk puts that off: to the next removal, or to closing.
        with suppress(StorageError):
            self.database.empty_log()
        return sorted(row for (row,) in removed)

    def get(self, row: int) -> Row | None:
        """One row's facts; None where there is no such row."""
        found = self.database.rows(f"SELECT {FACTS} FROM template WHERE row = ?", row)  # noqa: S608
        return row_of(found[0]) if found else None

    def references(self, partition: str) -> int:
        """How many references a partition holds."""
        query = "SELECT count(DISTINCT reference) FROM template WHERE partition = ?"
        return int(self.database.rows(query, partition)[0][0])

    def foreign_model(self, model_id: str) -> str | None:
        """Another embedder whose templates the gallery holds; None where there is none."""
        for partition in ("bookings", "cases"):
            for comparison in ("<", ">"):
                found = self.database.rows(
                    f"SELECT model_id FROM template WHERE partition = ? AND model_id {comparison} ? LIMIT 1",  # noqa: S608
                    partition,
                    model_id,
                )
                if found:
                    return str(found[0][0])
        return None

    def counters(self) -> Counters:
        """How many rows each partition holds, and the highest number ever given."""
        counts = dict(self.database.rows("SELECT partition, count(*) FROM template GROUP BY partition"))
        highest = self.database.rows("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'template'")[0][0]
        return Counters({partition: int(counts.get(partition, 0)) for partition in PARTITIONS}, int(highest))

    def numbers(self, partition: str) -> NDArray[np.int64]:
        """Row numbers of a partition, rising."""
        # As one text: a Python object for each of millions of rows would be half of the time to the first search.
        in_order = "SELECT row FROM template WHERE partition = ? ORDER BY model_id, row"
        text = self.database.rows(f"SELECT group_concat(row) FROM ({in_order})", partition)[0][0]  # noqa: S608
        return np.sort(np.fromstring(text or "", dtype=np.int64, sep=","))

    def each_batch(
        self, partition: str, rows: NDArray[np.int64], visit: Callable[[list[int], NDArray[np.float32]], None]
    ) -> None:
        """Open the templates of these rows of a partition (`numbers` has them), in their order.

        Args:
            visit: is given up to `BATCH_ROWS` row numbers and their templates, (m, 128) float32 in memory that the next
                batch overwrites.

        Raises:
            StorageDamaged: a row does not open: changed, moved or damaged. Nothing is served in its place.
        """
        for start in range(0, len(rows), BATCH_ROWS):
            asked = rows[start : start + BATCH_ROWS].tolist()
            batch = self.database.rows(
                "SELECT row, partition, reference, model_id, key_number, sealed FROM template"
                " WHERE row IN (SELECT value FROM json_each(?)) AND +partition = ? ORDER BY row",
                str(asked),
                partition,
            )
            for place, (*bound, number, sealed) in enumerate(batch):
                self._open(bound, number, sealed, place)
            visit([values[0] for values in batch], self._opened[: len(batch)])

    def opened(self, partition: str, rows: Sequence[int]) -> tuple[list[Row], NDArray[np.float32]]:
        """Up to `BATCH_ROWS` rows, rising, and their templates, (m, 128) float32; the next use overwrites them.

        Raises:
            StorageError: a row is not there any more. StorageDamaged: one does not open.
        """
        facts: list[Row] = []
        for values in self.database.rows(
            f"SELECT {FACTS}, key_number, sealed FROM template"  # noqa: S608
            " WHERE row IN (SELECT value FROM json_each(?)) AND partition = ? ORDER BY row",
            f"[{','.join(map(str, rows))}]",
            partition,
        ):
            self._open(values[:4], values[8], values[9], len(facts))
            facts.append(row_of(values[:8]))
        if len(facts) != len(rows):
            raise StorageError("rows-changed", f"{self.database.path}: rows were removed meanwhile; try again")
        return facts, self._opened[: len(facts)]

    def compare(self, partition: str, rows: Sequence[int], probe: NDArray[np.float64]) -> list[Compared]:
        """Rows' facts and their exact scores against a probe ((128,) float64): cosine, -1 to 1, computed in float64.

        Raises:
            StorageDamaged: a row does not open. Nothing is served in its place.
            StorageError: a row is not there: the index is ahead of the rows.
        """
        compared = []
        for start in range(0, len(rows), _ROWS_A_QUERY):
            asked = [int(row) for row in rows[start : start + _ROWS_A_QUERY]]
            places = ",".join("?" * len(asked))
            found = self.database.rows(
                f"SELECT {FACTS}, key_number, sealed FROM template WHERE row IN ({places})",  # noqa: S608
                *asked,
            )
            if len(found) != len(asked):
                raise StorageError("index-ahead-of-rows", "the index holds a row that the gallery does not")
            for place, values in enumerate(found):
                if values[1] != partition:
                    raise StorageDamaged(
                        "row-damaged", f"{self.database.path}: row {values[0]} of {partition} was changed or moved"
                    )
                self._open(values[:4], values[8], values[9], place)
            self._widened[: len(found)] = self._opened[: len(found)]
            # Each row's sum is taken alike, wherever it stands: equal templates have equal scores.
            scores = np.clip(np.einsum("ij,j->i", self._widened[: len(found)], probe), -1.0, 1.0).tolist()
            compared += [Compared(row_of(values[:8]), score) for values, score in zip(found, scores, strict=True)]
        return compared

    def _open(self, bound: Sequence[Any], number: int, sealed: bytes, place: int) -> None:
        """Into place `place` of the opened templates."""
        try:
            self._sealer(number).open_into(sealed, associated_data(*bound), self._places[place])
        except InvalidTag as error:
            raise StorageDamaged(
                "row-damaged", f"{self.database.path}: row {bound[0]} of {bound[1]} was changed or moved"
            ) from error

    def reseal(self, bound: Sequence[Any], number: int, sealed: bytes) -> bytes:
        """A row's template sealed with the key in force, whichever sealed it before. For rotation.

        Args:
            bound: row number, partition, reference, model id.
        """
        self._open(bound, number, sealed, 0)
        return self.sealer.seal(self._places[0], associated_data(*bound))

    def close(self) -> None:
        """Close the file, forget the keys. Safe to call twice."""
        self._sealers = {}
        self._places.clear()
        self._opened, self._widened = np.empty((0, 0), np.float32), np.empty(0)
        self._memory.wipe()
        self.database.close()
