"""The last signed checkpoint, kept apart from the ledger: what shows that the ledger alone was set back.

Rules kept here:
1. It is written after the ledger's transaction, never before: it is never ahead of an honest ledger.
2. A ledger that is shorter than it, or that had another root at its size, is not the one that was signed. Nothing more
   is signed then: a device with two histories has none.
3. Where there is none, or it is not this device's, nothing follows: it lies where the uplink can write, and what an
   uplink can delete must not stop a device.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from turnkey.database import StorageDamaged
from turnkey.notary.journal import Journal, SignedCheckpoint
from turnkey.notary.note import MAX_NOTE_BYTES, Checkpoint, NoteError, Verifier, read_checkpoint


class PublishedCheckpoint:
    """The checkpoint at `path`, of the log that `log` verifies."""

    def __init__(self, path: Path, log: Verifier) -> None:
        self._path = path
        self._log = log

    def keep(self, checkpoint: SignedCheckpoint) -> None:
        """Put a checkpoint in place of the one before. Best effort: a full disk is the ledger's to find."""
        draft = self._path.with_name(f"{self._path.name}.draft")
        with contextlib.suppress(OSError):
            with draft.open("w", encoding="utf-8") as file:
                file.write(checkpoint.note)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)

    def read(self) -> Checkpoint | None:
        """The checkpoint; None where there is none that this device signed."""
        try:
            with self._path.open(encoding="utf-8") as file:
                return read_checkpoint(file.read(MAX_NOTE_BYTES + 1), self._log)
        except (OSError, UnicodeDecodeError, NoteError):
            return None

    def hold(self, journal: Journal) -> None:
        """Hold the ledger to it.

        Raises:
            StorageDamaged: with reason `ledger-rolled-back` or `ledger-forked`.
        """
        known = self.read()
        if known is None:
            return
        if known.size > journal.size:
            raise StorageDamaged(
                "ledger-rolled-back",
                f"the ledger holds {journal.size} entries, and {known.size} were signed: it was set back. Leave this "
                "device as it is, and have its ledger audited against a witness",
            )
        if known.root != journal.root_at(known.size):
            raise StorageDamaged(
                "ledger-forked",
                f"the ledger's first {known.size} entries are not those that were signed. Leave this device as it is, "
                "and have its ledger audited against a witness",
            )
