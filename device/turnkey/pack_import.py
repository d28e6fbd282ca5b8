"""An import of templates from another Turnkey, start to end, out of an open file.

    admitted (`turnkey.packs`) -> presented -> opened -> order and manifest judged -> every chunk verified -> marked
                               -> accepted -> enrolled, batch by batch -> used up

Rules kept here, in the order in which they are enforced:
1. A pack that is presented is on the ledger before it is opened, and what came of it is on the ledger after it.
2. Nothing is enrolled before every byte of the file was found to be the one that was signed: a pack that was changed,
   cut short or holds anything unknown is refused whole.
3. From there on, an import that is stopped or killed is finished by calling it again with the same file: each template
   is enrolled once, and the ledger holds each.
4. A template of a pack is held to this device's policy: form of its reference, quality, retention from the day it was
   first enrolled, and never longer than the other device kept it. What does not fit is left out, counted by reason.
5. Another device's row comes in once: not again with a later pack, not even after it was expunged here.
6. Each batch is small enough to be put right at the next boot, where a kill comes between its rows and their entry.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from turnkey.attempt import Refusal, Refuse
from turnkey.gallery.gallery import Gallery
from turnkey.gallery.pack_file import PackFileError, PackHead, PackReader, PackRow
from turnkey.gallery.pack_rows import PackMark, finish_pack, mark_pack, note_rows, rows_known
from turnkey.gallery.rows import Enrolment
from turnkey.gallery.store import TemplateStore
from turnkey.leads.policy import Policy
from turnkey.leads.records import PackAccepted, PackEnrolled, PackImported, PackPresented, Partition, Reference
from turnkey.leads.template_pack import (
    OrderHolds,
    PackDraft,
    PackReason,
    PackRefusal,
    judge_manifest,
    judge_order,
    unreadable,
)
from turnkey.packs import Admitted, PackRoom, Progress, refuse, silent
from turnkey.reconciliation import MOST_UNRECORDED
from turnkey.sealed import OpeningKey

ROWS_A_BATCH = MOST_UNRECORDED - 8
"""Rows to one entry of the ledger. What a kill leaves without one, beside a booking's, is within what is put right."""

IMPORTED_BEFORE = "imported-before"
_UNIT = 1e-3
_REFERENCE: TypeAdapter[str] = TypeAdapter(Reference)


@dataclass(frozen=True)
class PackTaken:
    """A pack was gone through, to its end.

    Attributes:
        rows: how many templates are in it.
        enrolled: how many of them this attempt enrolled.
        enrolled_before: how many an attempt that was cut short had.
        refused: how many were left out, by reason.
    """

    pack_id: str
    from_device: str
    partition: str
    rows: int
    enrolled: int
    enrolled_before: int
    refused: dict[str, int]
    digest: str


@dataclass(frozen=True)
class _Pack:
    """A pack that holds, and is open."""

    reader: PackReader
    head: PackHead
    draft: PackDraft
    from_device: str

    def chunks(self) -> Iterator[tuple[tuple[PackRow, ...], NDArray[np.float32]]]:
        """See `PackReader.chunks`. Raises: Refuse as well."""
        try:
            yield from self.reader.chunks(self.head, self.draft.pack_id, self.draft.chunks)
        except ValidationError as error:
            raise refuse(unreadable("rows", error)) from error


@dataclass
class _Counts:
    enrolled: int = 0
    enrolled_before: int = 0
    refused: Counter[str] = field(default_factory=Counter)


def import_pack(room: PackRoom, file: BinaryIO, *, progress: Progress = silent) -> PackTaken | Refusal:
    """Take the templates of a pack. Called again with the same file, it finishes what was cut short.

    Args:
        file: seekable.
        progress: told of rows: each is verified, and then enrolled.
    """

    def steps(admitted: Admitted) -> PackTaken:
        pack, holds = _opened(room, admitted, file)
        _verify(admitted, pack, progress)
        draft = pack.draft
        with room.gallery.rows() as store:
            mark = mark_pack(store, draft.pack_id, "import", pack.from_device, draft.body_digest)
        if mark.state == "used":
            raise Refuse(
                "template-pack", PackReason.USED_BEFORE, "The pack was used before: each is good for one import."
            )
        room.notary.record(_accepted(admitted, holds, draft, resumed=mark.state == "cut-short"), admitted.permit)
        counts = _enrol(room, admitted, pack, mark, progress)
        with room.gallery.rows() as store:
            finish_pack(store, mark)
        room.notary.record(
            PackImported(
                attempt_id=admitted.attempt_id,
                pack_id=draft.pack_id,
                enrolled=counts.enrolled,
                enrolled_before=counts.enrolled_before,
                refused=dict(counts.refused),
            )
        )
        return PackTaken(
            draft.pack_id,
            pack.from_device,
            draft.partition,
            draft.rows,
            counts.enrolled,
            counts.enrolled_before,
            dict(counts.refused.most_common()),
            draft.body_digest,
        )

    return room.run(steps)


def row_refusal(row: PackRow, partition: Partition, policy: Policy, now: datetime) -> str | None:
    """Why this device does not take a row; None where it does. Pure.

    Args:
        partition: where it would go.
        policy: in force here.
        now: wall clock, UTC.
    """
    permitted = policy.permits_booking_number if partition == "bookings" else policy.permits_case_number
    if not permitted(row.reference) or not _is_reference(row.reference):
        return "reference-malformed"
    if row.quality < policy.min_quality:
        return "quality-below-floor"
    if row.enrolled_at > now:
        return "enrolled-in-the-future"
    if delete_after(row, partition, policy) <= now:
        return "retention-ended"
    return None


def delete_after(row: PackRow, partition: Partition, policy: Policy) -> datetime:
    """When a row must be gone from here: by this policy, from its first enrolment; earlier where its device said so."""
    own = policy.delete_after(partition, row.enrolled_at)
    return own if row.delete_after is None else min(own, row.delete_after)


def _is_reference(value: str) -> bool:
    try:
        _REFERENCE.validate_python(value)
    except ValidationError:
        return False
    return True


def _opened(room: PackRoom, admitted: Admitted, file: BinaryIO) -> tuple[_Pack, OrderHolds]:
    """The pack, every rule but the chunks' own kept."""
    policy, key = admitted.policy.policy, _key(room)
    reader = PackReader(file)
    digest = reader.digest(admitted.permit.check)
    room.notary.record(PackPresented(attempt_id=admitted.attempt_id, pack_digest=digest))
    head = reader.head(key)
    holds = judge_order(head.order, "import", policy, room.authority(), room.device_id, room.clocks.utc_now())
    if isinstance(holds, PackRefusal):
        raise refuse(holds)
    draft = judge_manifest(head.manifest, holds, room.model_id)
    if isinstance(draft, PackRefusal):
        raise refuse(draft)
    if draft.partition == "cases" and not policy.cases_without_packets:
        raise Refuse("policy", "case-packet-needed", "The policy takes a case's probe from a case packet only.")
    if draft.partition == "bookings" and not policy.enrol_bookings:
        raise Refuse("policy", PackReason.NOT_KEPT, "The policy keeps no bookings' templates on this device.")
    if reader.body_bytes < draft.body_bytes:
        raise PackFileError(PackReason.TRUNCATED, "the file is shorter than it was signed: copy it again")
    if digest != draft.body_digest or hashlib.sha256(head.key).hexdigest() != draft.key_digest:
        raise PackFileError(PackReason.CHANGED, "the file is not the one that was signed: copy it again")
    return _Pack(reader, head, draft, holds.order.from_device), holds


def _key(room: PackRoom) -> OpeningKey:
    if room.key is None:
        raise Refuse("template-pack", "no-encryption-key", "This device has no key for template packs. Call IT.")
    return room.key


def _verify(admitted: Admitted, pack: _Pack, progress: Progress) -> None:
    """Go through every chunk and keep nothing of it."""
    seen, last = 0, 0
    for rows, _ in pack.chunks():
        admitted.permit.check()
        for row in rows:
            if row.row <= last:
                raise PackFileError(PackReason.UNREADABLE, f"row {row.row} is there twice, or out of order")
            last = row.row
        seen += len(rows)
        progress(seen, 2 * pack.draft.rows)
    if seen != pack.draft.rows:
        raise PackFileError(PackReason.UNREADABLE, f"{seen} templates, and {pack.draft.rows} were signed for")


def _accepted(admitted: Admitted, holds: OrderHolds, draft: PackDraft, *, resumed: bool) -> PackAccepted:
    return PackAccepted(
        attempt_id=admitted.attempt_id,
        pack_id=draft.pack_id,
        order_digest=holds.digest,
        from_device=holds.order.from_device,
        partition=draft.partition,
        model_id=draft.model_id,
        rows=draft.rows,
        signers=holds.signers,
        pack_digest=draft.body_digest,
        resumed=resumed,
    )


def _enrol(room: PackRoom, admitted: Admitted, pack: _Pack, mark: PackMark, progress: Progress) -> _Counts:
    counts, done = _Counts(), pack.draft.rows
    for rows, templates in pack.chunks():
        lengths = np.linalg.norm(templates, axis=1)
        for start in range(0, len(rows), ROWS_A_BATCH):
            stop = start + ROWS_A_BATCH
            batch = list(zip(rows[start:stop], templates[start:stop], lengths[start:stop], strict=True))
            _enrol_batch(room, admitted, pack, mark, batch, counts)
            done += len(batch)
            progress(done, 2 * pack.draft.rows)
    return counts


def _enrol_batch(
    room: PackRoom,
    admitted: Admitted,
    pack: _Pack,
    mark: PackMark,
    batch: Sequence[tuple[PackRow, NDArray[np.float32], float]],
    counts: _Counts,
) -> None:
    admitted.permit.check()
    partition, policy = pack.draft.partition, admitted.policy.policy
    with room.gallery.rows() as store:
        known = rows_known(store, mark.device_id, [row.row for row, _, _ in batch])
    now, origins, enrolments = room.clocks.utc_now(), [], []
    for row, template, length in batch:
        if row.row in known:
            own = known[row.row] == mark.number
            counts.enrolled_before += own
            counts.refused.update([] if own else [IMPORTED_BEFORE])
            continue
        reason = row_refusal(row, partition, policy, now)
        if reason is None and not abs(float(length) - 1.0) < _UNIT:
            reason = "not-a-template"
        if reason is not None:
            counts.refused[reason] += 1
            continue
        origins.append(row.row)
        enrolments.append(
            Enrolment(
                partition,
                row.reference,
                pack.draft.model_id,
                row.quality,
                row.enrolled_at.astimezone(UTC),
                template,
                row.taken_at and row.taken_at.astimezone(UTC),
                delete_after(row, partition, policy),
            )
        )
    if enrolments:
        _keep(room, admitted, partition, enrolments, lambda store, rows: note_rows(store, mark, origins, rows))
        counts.enrolled += len(enrolments)


def _keep(
    room: PackRoom,
    admitted: Admitted,
    partition: Partition,
    enrolments: Sequence[Enrolment],
    also: Callable[[TemplateStore, list[int]], None],
) -> None:
    """Enrol a batch and put it on the ledger; taken back where the ledger does not take it."""
    rows = room.gallery.enrol_many(enrolments, admitted.permit, also)
    try:
        entry = PackEnrolled(attempt_id=admitted.attempt_id, partition=partition, first_row=rows[0], rows=len(rows))
        room.notary.record(entry, admitted.permit)
    except BaseException:
        _withdraw(room.gallery, partition, rows)
        raise


def _withdraw(gallery: Gallery, partition: str, rows: Sequence[int]) -> None:
    for row in rows:
        gallery.withdraw(partition, row)
