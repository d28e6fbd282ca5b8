"""Removing from the gallery: an expungement with its receipt, and what retention has ended.

Rules kept here:
1. It works stopped as well: nobody's right to be removed waits for a moratorium to end, and no key is needed.
2. Where nobody keeps the ledger nothing is removed: a removal without its entry has no receipt, and never gets one.
3. The template is gone from disk before the ledger says so: an entry never claims what has not happened yet. Where
   a crash comes in between, the ledger's tally of rows and the gallery's differ, and that is found.
4. An expungement of a reference is certified; what retention ends is on the ledger alone, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from turnkey.gallery.gallery import Gallery
from turnkey.leads.receipts import MOST_ROWS, Removal
from turnkey.leads.records import Expunged, Partition
from turnkey.notary.notary import Recorder


@dataclass(frozen=True)
class Removed:
    """What was removed.

    Attributes:
        templates: how many, by partition.
        receipts: signed envelopes, for an expungement that removed anything.
    """

    templates: dict[Partition, int]
    receipts: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Remover:
    """Removes from one gallery, and has it recorded."""

    gallery: Gallery
    notary: Recorder

    def expunge(self, partition: Partition, reference: str, reason: str) -> Removed:
        """Remove every template of a reference.

        Raises:
            StorageError: rows or ledger cannot be written, or the notary is gone: then nothing was removed.
        """
        self.notary.tally(partition)
        rows = self.gallery.expunge(partition, reference)
        receipts = tuple(
            self.notary.certify(
                Removal(
                    partition=partition, reference=reference, rows=tuple(rows[start : start + MOST_ROWS]), reason=reason
                )
            )
            for start in range(0, len(rows), MOST_ROWS)
        )
        return Removed({partition: len(rows)}, receipts)

    def retain(self, now: datetime) -> Removed:
        """Remove what retention has ended by `now`.

        Raises:
            StorageError: rows or ledger cannot be written.
        """
        counts: dict[Partition, int] = {}
        for partition in get_args(Partition):
            self.notary.tally(partition)
            rows = self.gallery.retain(partition, now)
            counts[partition] = len(rows)
            for row in rows:
                self.notary.record(Expunged(partition=partition, row=row, reason="retention-ended"))
        return Removed(counts)
