"""The notary: it alone appends to the ledger and holds the signing key.

Rules kept here, in the order in which they are enforced by `Notary.submit`:
1. A lead is built from the record's schema: what does not fit is never signed.
2. Entry, sequence number, signature and envelope are one transaction; the permit is checked last inside it, so that no
   lead is kept whose permit had died.
3. An envelope goes to the outlet only after that transaction, and again later where the outlet did not confirm.
4. With an entry that says nothing about any person (boot, change of state, heartbeat) the tree is signed as a
   checkpoint, in the same transaction. It is also published in an attestation where there is an outlet for that; the
   outlet may refuse: the entry is on the ledger anyway.
5. A heartbeat that a change of state has overtaken is not put on the ledger: no two entries contradict each other.
6. Where the ledger cannot be written, nothing goes on: the error reaches the booth, which captures no more.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from turnkey.database import StorageError
from turnkey.envelope import SigningKey, sign
from turnkey.interlock.permit import Permit
from turnkey.leads.receipts import PAYLOAD_TYPE_RECEIPT, ExpungementReceipt, Removal
from turnkey.leads.records import (
    PAYLOAD_TYPE_ATTESTATION,
    PAYLOAD_TYPE_LEAD,
    Attestation,
    Boot,
    Event,
    Expunged,
    Heartbeat,
    Lead,
    LeadSigned,
    LedgerEntry,
    PackExported,
    Partition,
    SwitchChanged,
    Updated,
    canonical,
    reference_digest,
)
from turnkey.leads.template_pack import PAYLOAD_TYPE_PACK, PackDraft, PackManifest
from turnkey.notary.journal import Journal, SignedCheckpoint, SignedLead, Tally
from turnkey.notary.note import Checkpoint, origin_of, sign_checkpoint
from turnkey.notary.published import PublishedCheckpoint
from turnkey.notary.recorder import LeadDraft as LeadDraft
from turnkey.notary.recorder import Recorder as Recorder


class Outlet(Protocol):
    """Where signed leads (or attestations) go: the outbox. Puts are durable and idempotent by message id."""

    def __call__(self, message_id: str, envelope: bytes) -> None:
        """Take over one envelope; on disk when this returns."""
        ...


@dataclass(frozen=True)
class Clocks:
    """The clocks and the randomness that records carry.

    Attributes:
        utc_now: wall clock, UTC.
        monotonic_ns: monotonic clock, nanoseconds.
        new_id: 128 random bits as 32 hexadecimal digits.
    """

    utc_now: Callable[[], datetime]
    monotonic_ns: Callable[[], int]
    new_id: Callable[[], str]


@dataclass(frozen=True)
class _Attested:
    """What an entry gives to be published."""

    message_id: str
    envelope: bytes
    checkpoint: SignedCheckpoint


class Notary:
    """Appends events and signs leads for one device. Its methods may be called from any thread.

    Args:
        outlet: takes signed leads.
        attestations: takes signed attestations; None: they are not published.
        published: remembers the last signed checkpoint somewhere else than the ledger.
    """

    def __init__(
        self,
        journal: Journal,
        key: SigningKey,
        outlet: Outlet,
        *,
        device_id: str,
        clocks: Clocks,
        attestations: Outlet | None = None,
        published: PublishedCheckpoint | None = None,
    ) -> None:
        self._journal = journal
        self._key = key
        self._outlet = outlet
        self._attestations = attestations
        self._device_id = device_id
        self._clocks = clocks
        self._published = published
        self._boot_id = clocks.new_id()
        self._boot_place = journal.size
        self._models: dict[str, str] = {}
        self._outlet_lock = threading.Lock()

    def record(self, event: Event, permit: Permit | None = None) -> None:
        """Append one event; on disk when this returns.

        Args:
            event: what happened.
            permit: given for what only a running device does; checked last inside the transaction, so that no such
                entry stands behind a stop.

        Raises:
            Stopped: the permit is dead; nothing was kept.
            StorageError: the ledger cannot be written.
        """
        with permit.commit() if permit else nullcontext(), self._journal.transaction():
            entry = self._append(event)
            attested = self._attest(entry)
            if permit is not None:
                permit.check()
        if isinstance(event, Boot):
            self._boot_place, self._models = entry.index, event.models
        if attested is not None:
            self._send(attested)

    def beat(self, statement: Heartbeat) -> bool:
        """Append a heartbeat, completed by what the ledger itself knows; on disk when this returns.

        Args:
            statement: how the device stood a moment ago.

        Returns:
            False where a change of state came in between: nothing was kept, ask again how it stands.

        Raises:
            StorageError: the ledger cannot be written.
        """
        with self._journal.transaction():
            if not self._stands(statement):
                return False
            since = self._boot_place
            completed = statement.model_copy(
                update={
                    "sequence": self._journal.count("heartbeat", since) + 1,
                    "captures": self._journal.count("capture", since),
                    "searches": self._journal.count("search", since),
                    "leads": self._journal.count("lead", since),
                    "models": self._models,
                }
            )
            attested = self._attest(self._append(completed))
        if attested is not None:
            self._send(attested)
        return True

    def _stands(self, statement: Heartbeat) -> bool:
        """Whether the ledger's last change of state is what a statement says; a booting device runs nothing anyway."""
        newest = self._journal.last("switch")
        if newest is None or statement.state == "BOOTING":
            return statement.state == "BOOTING"
        event = LedgerEntry.model_validate_json(newest).event
        return isinstance(event, SwitchChanged) and (event.state, event.epoch) == (statement.state, statement.epoch)

    def submit(self, draft: LeadDraft, permit: Permit) -> Lead:
        """Sign a lead, put it on the ledger and hand it to the outlet.

        Raises:
            Stopped: the permit is dead; nothing was kept.
            StorageError: the ledger cannot be written; nothing was kept.

        Where it is the outlet that cannot take the lead, the lead is kept, and the next `hand_over` says so.
        """
        with permit.commit(), self._journal.transaction():
            lead = Lead(
                lead_id=self._clocks.new_id(),
                device_id=self._device_id,
                sequence=self._journal.next_sequence(),
                attempt_id=draft.attempt_id,
                issued_at=self._clocks.utc_now(),
                booking_number=draft.booking_number,
                case_number=draft.case_number,
                partition=draft.partition,
                gallery_size=draft.gallery_size,
                threshold=draft.threshold,
                max_fpir=draft.max_fpir,
                search=draft.search,
                search_recall=draft.search_recall,
                model_id=draft.model_id,
                policy_digest=draft.policy_digest,
                probe_quality=draft.probe_quality,
                candidates=draft.candidates,
            )
            envelope = sign(PAYLOAD_TYPE_LEAD, canonical(lead), self._key)
            self._append(
                LeadSigned(
                    attempt_id=lead.attempt_id,
                    lead_id=lead.lead_id,
                    sequence=lead.sequence,
                    envelope_digest=hashlib.sha256(envelope).hexdigest(),
                    candidates=tuple(reference_digest(lead.attempt_id, one.reference) for one in lead.candidates),
                )
            )
            self._journal.keep(SignedLead(lead.sequence, lead.lead_id, envelope))
            permit.check()
        with suppress(StorageError):
            self.hand_over()
        return lead

    def certify(self, removal: Removal) -> bytes:
        """Put an expungement on the ledger, an entry for each template, and sign a receipt for it.

        Raises:
            StorageError: the ledger cannot be written; nothing was kept.
        """
        with self._journal.transaction():
            entries = [
                self._append(Expunged(partition=removal.partition, row=row, reason=removal.reason))
                for row in removal.rows
            ]
            receipt = ExpungementReceipt(
                device_id=self._device_id,
                removed=removal,
                at=entries[-1].at,
                first_entry=entries[0].index,
                ledger_size=self._journal.size,
                ledger_root=self._journal.root().hex(),
            )
        return sign(PAYLOAD_TYPE_RECEIPT, canonical(receipt), self._key)

    def sign_pack(self, draft: PackDraft, permit: Permit) -> bytes:
        """Put an export of templates on the ledger, and sign its manifest.

        Raises:
            Stopped: the permit is dead; nothing was kept, nothing was signed.
            StorageError: the ledger cannot be written; likewise.
        """
        with permit.commit(), self._journal.transaction():
            named = {"pack_id", "order_digest", "signers", "to_device", "partition", "model_id", "rows", "attempt_id"}
            exported = PackExported(**draft.model_dump(include=named), pack_digest=draft.body_digest)
            manifest = PackManifest(device_id=self._device_id, at=self._append(exported).at, draft=draft)
            envelope = sign(PAYLOAD_TYPE_PACK, canonical(manifest), self._key)
            permit.check()
        return envelope

    def tally(self, partition: Partition) -> Tally:
        """What the ledger says of a partition of the gallery."""
        return self._journal.tally(partition)

    def standing_rows(self, partition: Partition, after: int) -> list[int]:
        """See `Journal.standing_rows`."""
        return self._journal.standing_rows(partition, after)

    def hand_over(self) -> None:
        """Give the outlet every signed lead it has not confirmed, in order. Call at start, and before each capture.

        Raises:
            StorageError: the outlet is full or failing: capture nothing until it is not.
        """
        with self._outlet_lock:
            for lead in self._journal.waiting():
                self._outlet(lead.lead_id, lead.envelope)
                self._journal.handed_over(lead.sequence)

    def _attest(self, entry: LedgerEntry) -> _Attested | None:
        """Sign the tree that an entry made, where its kind may leave the device; inside the entry's transaction."""
        if not isinstance(entry.event, Boot | SwitchChanged | Heartbeat | Updated):
            return None
        before, size, root = self._journal.checkpoint(), entry.index + 1, self._journal.root()
        note = sign_checkpoint(Checkpoint(origin_of(self._device_id), size, root), self._key)
        checkpoint = SignedCheckpoint(size, note)
        self._journal.keep_checkpoint(checkpoint)
        previous = before.size if before is not None else 0
        attestation = Attestation(
            device_id=entry.device_id,
            index=entry.index,
            boot_id=entry.boot_id,
            at=entry.at,
            monotonic_ns=entry.monotonic_ns,
            event=entry.event,
            ledger_root=root.hex(),
            checkpoint=note,
            previous_size=previous,
            consistency=tuple(step.hex() for step in self._journal.consistency(previous, size)),
        )
        message_id = f"attestation-{entry.boot_id}-{entry.index}"
        return _Attested(message_id, sign(PAYLOAD_TYPE_ATTESTATION, canonical(attestation), self._key), checkpoint)

    def _send(self, attested: _Attested) -> None:
        if self._attestations is not None:
            with suppress(StorageError):
                self._attestations(attested.message_id, attested.envelope)
        if self._published is not None:
            self._published.keep(attested.checkpoint)

    def hold(self) -> None:
        """Hold the ledger to the last checkpoint that was signed. Raises: StorageDamaged: it is another one."""
        if self._published is not None:
            self._published.hold(self._journal)

    def _append(self, event: Event) -> LedgerEntry:
        entry = LedgerEntry(
            device_id=self._device_id,
            index=self._journal.size,
            boot_id=self._boot_id,
            at=self._clocks.utc_now(),
            monotonic_ns=self._clocks.monotonic_ns(),
            event=event,
        )
        self._journal.append(event.kind, canonical(entry))
        return entry
