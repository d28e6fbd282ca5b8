"""The export: the ledger, or a stretch of it, as a file that an outsider checks without the device.

One JSON value a line:

    {"format": "turnkey-ledger-export/1", ...}      whose ledger, where the stretch begins, the tree in front of it
    {...}                                           each entry, byte for byte as it was hashed
    {"checkpoint": "...", "consistency": [...]}     the newest signed checkpoint, and the proof that the tree up to the
                                                    stretch's end is a beginning of that one

Rules kept here:
1. Only what a signed checkpoint covers is exported: what lies behind it is a minute from being covered.
2. A stretch begins with a boot, so that whoever reads it knows how the device stood, and ends with an entry that says
   so.
3. The file is written beside its name and renamed: whole, or not there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from turnkey.database import StorageError
from turnkey.leads.records import DeviceId, LedgerEntry, LedgerIndex, Record, Sha256
from turnkey.notary.journal import Journal, SignedCheckpoint

FORMAT: Literal["turnkey-ledger-export/1"] = "turnkey-ledger-export/1"
ATTESTED = ("boot", "switch", "heartbeat")
"""Kinds of entries with which a checkpoint is signed."""
_BATCH = 1000


class ExportHead(Record):
    """The first line.

    Attributes:
        device_id: whose ledger.
        first: index of the first entry.
        roots: RFC 9162 roots of the perfect subtrees of the `first` entries in front of it, largest first, hexadecimal.
        size: index of the last entry, and one.
    """

    format: Literal["turnkey-ledger-export/1"] = FORMAT
    device_id: DeviceId
    first: LedgerIndex
    roots: Annotated[tuple[Sha256, ...], Field(max_length=64)]
    size: Annotated[int, Field(ge=1, le=2**53 - 1)]


class ExportEnd(Record):
    """The last line: a signed note over a tree of at least `size` entries, and the proof from that size to its own."""

    checkpoint: Annotated[str, Field(max_length=1024)]
    consistency: Annotated[tuple[Sha256, ...], Field(max_length=128)]


@dataclass(frozen=True)
class Stretch:
    """Which entries: from index `first` to below `size`, under a checkpoint of at least that size."""

    first: int
    size: int
    checkpoint: SignedCheckpoint


def stretch(journal: Journal, since: datetime | None, until: datetime | None) -> Stretch:
    """The entries to export for a time, UTC; None: from the first one, to the newest.

    Raises:
        StorageError: no checkpoint was signed yet.
    """
    checkpoint = journal.checkpoint()
    if checkpoint is None:
        raise StorageError("nothing-signed", "no checkpoint was signed yet: let the device run for a minute")
    first, size = 0, checkpoint.size
    if since is not None:
        for entry in _of_kind(journal, "boot"):
            if entry.at > since:
                break
            first = entry.index
    if until is not None:
        for kind in ATTESTED:
            for entry in _of_kind(journal, kind):
                if entry.at >= until and entry.index >= first:
                    size = min(size, entry.index + 1)
                    break
    return Stretch(first, size, checkpoint)


def write_export(
    journal: Journal, device_id: str, what: Stretch, out: Path, progress: Callable[[int], None] = lambda _done: None
) -> None:
    """Write a stretch to `out`.

    Args:
        progress: told how many entries are written.

    Raises:
        OSError: it cannot be written; nothing stands under `out`, or what stood there before.
        StorageError: the ledger cannot be read.
    """
    frontier = journal.frontier_at(what.first)
    head = ExportHead(
        device_id=device_id, first=what.first, roots=tuple(root.hex() for root in frontier.roots), size=what.size
    )
    proof = journal.consistency(what.size, what.checkpoint.size)
    end = ExportEnd(checkpoint=what.checkpoint.note, consistency=tuple(step.hex() for step in proof))
    draft = out.with_name(f"{out.name}.draft")
    try:
        with draft.open("wb") as file:
            file.write(head.model_dump_json().encode() + b"\n")
            for done, data in enumerate(_entries(journal, what), start=1):
                file.write(data + b"\n")
                if done % _BATCH == 0:
                    progress(done)
            file.write(end.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    progress(what.size - what.first)


def _entries(journal: Journal, what: Stretch) -> Iterator[bytes]:
    place = what.first
    while place < what.size:
        batch = journal.entries(place, min(_BATCH, what.size - place))
        yield from batch
        place += len(batch)


def _of_kind(journal: Journal, kind: str) -> Iterator[LedgerEntry]:
    for data in journal.of_kind(kind):
        yield LedgerEntry.model_validate_json(data)
