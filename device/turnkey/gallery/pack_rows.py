"""What the gallery's file knows of template packs: which rows may go, which came, which packs were used up.

Rules kept here:
1. A template is handed on by the device that enrolled it, and by no other: what came in a pack does not go out in one.
2. What retention has ended does not go out.
3. Another device's row comes in once, and stays known after it was removed here: an expunged template does not come
   back with the next pack.
4. A pack is marked before any of its rows is enrolled, and marked as finished after the last of them. One that was cut
   short is finished by the same file, and by no other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from turnkey.gallery.rows import stored_time
from turnkey.gallery.store import TemplateStore

Way = Literal["export", "import"]


@dataclass(frozen=True, eq=False)
class Exportable:
    """Which rows of a partition may go.

    Attributes:
        rows: their numbers, rising, (n,) int64.
        left: how many stay behind, by reason.
    """

    rows: NDArray[np.int64]
    left: dict[str, int]


@dataclass(frozen=True)
class PackMark:
    """What is noted of a pack.

    Attributes:
        number: in this file.
        device_id: the other end.
        state: `new`; `cut-short`, where this file was begun before; `used`, where it was finished, or another file bore
            its name.
    """

    number: int
    device_id: str
    state: Literal["new", "cut-short", "used"]


def exportable(store: TemplateStore, partition: str, now: datetime) -> Exportable:
    """The rows of a partition that this device enrolled itself, and whose retention has not ended by `now`."""
    own = "partition = ? AND NOT EXISTS (SELECT 1 FROM pack_row WHERE pack_row.row = template.row)"
    cursor = store.database.execute(
        f"SELECT row FROM template WHERE {own} AND (delete_after IS NULL OR delete_after > ?)",  # noqa: S608
        partition,
        stored_time(now),
    )
    rows = np.sort(np.fromiter((row for (row,) in cursor), dtype=np.int64))
    ((of_own,),) = store.database.rows(f"SELECT count(*) FROM template WHERE {own}", partition)  # noqa: S608
    ((of_all,),) = store.database.rows("SELECT count(*) FROM template WHERE partition = ?", partition)
    left = {"came-from-another-device": of_all - of_own, "retention-ended": of_own - len(rows)}
    return Exportable(rows, {reason: int(count) for reason, count in left.items() if count})


def pack_used(store: TemplateStore, pack_id: str, way: Way) -> bool:
    """Whether a pack was finished."""
    query = "SELECT 1 FROM pack WHERE pack_id = ? AND way = ? AND finished = 1"
    return bool(store.database.rows(query, pack_id, way))


def mark_pack(store: TemplateStore, pack_id: str, way: Way, device_id: str, digest: str) -> PackMark:
    """Mark a pack as begun; on disk when this returns.

    Args:
        device_id: the other end.
        digest: of its rows as they are encrypted.
    """
    with store.database.transaction():
        marked = store.database.execute(
            "INSERT OR IGNORE INTO pack (pack_id, way, device_id, digest) VALUES (?, ?, ?, ?)",
            pack_id,
            way,
            device_id,
            digest,
        )
        ((number, known, finished),) = store.database.rows(
            "SELECT number, digest, finished FROM pack WHERE pack_id = ? AND way = ?", pack_id, way
        )
    if marked.rowcount == 1:
        return PackMark(number, device_id, "new")
    return PackMark(number, device_id, "used" if finished or known != digest else "cut-short")


def finish_pack(store: TemplateStore, mark: PackMark) -> None:
    """Mark a pack as used up; on disk when this returns."""
    with store.database.transaction():
        store.database.execute("UPDATE pack SET finished = 1 WHERE number = ?", mark.number)


def rows_known(store: TemplateStore, device_id: str, rows: Sequence[int]) -> Mapping[int, int]:
    """Those of another device's row numbers that came before, and the number of the pack that each came in."""
    found = store.database.rows(
        "SELECT origin_row, pack FROM pack_row WHERE device_id = ? AND origin_row IN (SELECT value FROM json_each(?))",
        device_id,
        json.dumps(list(rows)),
    )
    return {int(row): int(pack) for row, pack in found}


def note_rows(store: TemplateStore, mark: PackMark, origins: Sequence[int], rows: Sequence[int]) -> None:
    """Note which of the other device's rows became which here, inside the transaction that enrols them."""
    for origin, row in zip(origins, rows, strict=True):
        store.database.execute("INSERT INTO pack_row VALUES (?, ?, ?, ?)", mark.device_id, origin, mark.number, row)
