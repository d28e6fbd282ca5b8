"""Gallery and ledger held against each other: at boot row by row, and each hour by their counters.

An enrolment writes the row first and the entry then; a removal deletes the row first and writes the entry then. So a
kill in between leaves a row without an entry, or an entry without its row, and both are put right at the next boot.
What no kill explains stops the device.

Rules kept here, in the order in which they are enforced:
1. A gallery whose highest row number is below the ledger's was set back: the device stops.
2. Rows that the ledger does not hold are taken back, whoever enrolled them: nobody was told that they were enrolled.
   More than `MOST_UNRECORDED` of them are no kill but a ledger that was set back: the device stops, and they stay.
3. Rows that the ledger holds and the gallery has not are put on the ledger as gone.
4. Whatever was found is on the ledger.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, get_args

from turnkey.database import StorageError
from turnkey.interlock.permit import Permit, Stopped
from turnkey.leads.records import Expunged, Partition, TamperFound
from turnkey.notary.recorder import Recorder
from turnkey.recurring import Recurring

if TYPE_CHECKING:
    # The notary's process goes on rounds too, and has no gallery: it need not read one.
    from turnkey.gallery.gallery import Gallery

MOST_UNRECORDED: Final = 64
MOST_COMPARED: Final = 20_000
"""Partitions up to this size are compared row by row at each boot; larger ones where their counts differ."""
EVERY_S: Final = 3600.0


def reconcile(gallery: Gallery, ledger: Recorder) -> str | None:
    """Hold the gallery to the ledger, row by row, before any work begins.

    Returns:
        Why the device must stop; None where it need not.

    Raises:
        StorageError: gallery or ledger cannot be used.
    """
    reason = set_back(gallery, ledger)
    if reason is not None:
        return reason
    for partition in get_args(Partition):
        reason = _reconcile_partition(gallery, ledger, partition)
        if reason is not None:
            return reason
    return None


def set_back(gallery: Gallery, ledger: Recorder) -> str | None:
    """Whether the gallery is older than the ledger; as `reconcile`. May be asked while work is going on."""
    # The ledger first: an enrolment in between has its row before its entry.
    highest = max(ledger.tally(partition).highest for partition in get_args(Partition))
    found = gallery.counters().highest
    if found >= highest:
        return None
    ledger.record(TamperFound(finding="gallery-older-than-ledger", stopped=True, expected=highest, found=found))
    return "gallery-older-than-ledger"


def stops_missing(ledger: Recorder, on_ledger: int, on_latch: int) -> str | None:
    """Whether the latch has counted stops that the ledger does not hold: it was set back, or could not be written.

    Args:
        on_ledger, on_latch: the highest stop number that each knows; the latch may be ahead by the stop under way.
    """
    if not on_ledger or on_latch <= on_ledger + 1:
        return None
    ledger.record(TamperFound(finding="ledger-older-than-latch", stopped=True, expected=on_latch, found=on_ledger))
    return "ledger-older-than-latch"


def _reconcile_partition(gallery: Gallery, ledger: Recorder, partition: Partition) -> str | None:
    standing, count = ledger.tally(partition).standing, gallery.counters().rows[partition]
    if count == standing and count > MOST_COMPARED:
        return None
    on_ledger, rows = set(_standing(ledger, partition)), set(gallery.row_numbers(partition))
    unrecorded, missing = sorted(rows - on_ledger), sorted(on_ledger - rows)
    if len(unrecorded) > MOST_UNRECORDED:
        ledger.record(
            TamperFound(finding="ledger-older-than-gallery", stopped=True, expected=len(on_ledger), found=len(rows))
        )
        return "ledger-older-than-gallery"
    if unrecorded:
        for row in unrecorded:
            gallery.withdraw(partition, row)
        ledger.record(
            TamperFound(finding="rows-without-entry", stopped=False, expected=len(on_ledger), found=len(rows))
        )
    if missing:
        ledger.record(TamperFound(finding="rows-missing", stopped=False, expected=len(on_ledger), found=len(rows)))
        for row in missing:
            ledger.record(Expunged(partition=partition, row=row, reason="found-missing"))
    return None


def _standing(ledger: Recorder, partition: Partition) -> Iterator[int]:
    after = 0
    while rows := ledger.standing_rows(partition, after):
        yield from rows
        after = rows[-1]


class HeldToLedger:
    """The gate of a booth whose notary is another process: nothing begins before gallery and ledger agree.

    Args:
        permit: the gate behind this one; it gives none while the notary is away.
        halt: stops the device, with a reason code.
    """

    def __init__(
        self, permit: Callable[[], Permit], gallery: Gallery, ledger: Recorder, halt: Callable[[str], None]
    ) -> None:
        self._permit = permit
        self._gallery = gallery
        self._ledger = ledger
        self._halt = halt
        self._lock = threading.Lock()
        self._agreed = False

    def permit(self) -> Permit:
        """A live permit. Raises: Stopped."""
        permit = self._permit()
        with self._lock:
            if not self._agreed:
                try:
                    reason = reconcile(self._gallery, self._ledger)
                except StorageError as error:
                    raise Stopped(error.reason) from error
                if reason is not None:
                    self._halt(reason)
                    raise Stopped(reason)
                self._agreed = True
        return permit


class Rounds(Recurring):
    """Asks a question each hour, first after an hour since the boot has asked it; an answer that is a reason to stops
    the device.

    Args:
        question: returns why the device must stop; None where it need not.
        halt: stops the device, with a reason code.
    """

    def __init__(
        self, question: Callable[[], str | None], halt: Callable[[str], None], every_s: float = EVERY_S
    ) -> None:
        super().__init__(self.go, halt, "rounds-failed", every_s)
        self._question = question

    def go(self) -> None:
        """One round, now."""
        try:
            reason = self._question()
        except StorageError as error:
            reason = error.reason
        if reason is not None:
            self._halt(reason)
