"""An export of templates to another Turnkey, start to end, into an open file.

    admitted (`turnkey.packs`) -> order judged -> rows encrypted, chunk by chunk -> used up -> signed, on the ledger
                               -> the head

Rules kept here, in the order in which they are enforced:
1. Two people ordered it, under the policy in force; the policy says which key it is encrypted to.
2. An order is used up before its pack is signed: a crash in between costs the order, never gives a second pack.
3. The head, without which the file opens for nobody, is written after the export is on the ledger, and never behind a
   stop. What was written before is cipher text whose key is gone.
4. Each chunk is read under the permit, and no stop waits for more than the reading of one; none waits for the file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO

from turnkey.attempt import Refusal, Refuse
from turnkey.envelope import KeyFileError
from turnkey.gallery.pack_file import ROWS_A_CHUNK, PackBody, PackWriter
from turnkey.gallery.pack_rows import Exportable, exportable, finish_pack, mark_pack, pack_used
from turnkey.leads.template_pack import OrderHolds, PackDraft, PackReason, PackRefusal, judge_order
from turnkey.packs import Admitted, PackRoom, Progress, refuse, silent
from turnkey.sealed import SealingKey


@dataclass(frozen=True)
class PackMade:
    """A pack was written, and signed.

    Attributes:
        rows: how many templates are in it.
        left: how many of the partition stayed behind, by reason.
        digest: SHA-256 of the rows as they are encrypted: what both ledgers have.
    """

    pack_id: str
    to_device: str
    partition: str
    rows: int
    left: dict[str, int]
    digest: str


def export_pack(
    room: PackRoom,
    order: bytes,
    file: BinaryIO,
    *,
    receiver: SealingKey | None = None,
    progress: Progress = silent,
) -> PackMade | Refusal:
    """Write the templates of a partition for another device. Where it is refused, what is in `file` is to be deleted.

    Args:
        order: signed by two people.
        file: empty, seekable; on disk when this returns.
        receiver: the other device's key as somebody handed it over: it must be the policy's. None: the policy's alone.
        progress: told of rows.
    """

    def steps(admitted: Admitted) -> PackMade:
        holds = _judged(room, admitted, order, receiver)
        with room.gallery.rows() as store:
            if pack_used(store, holds.order.pack_id, "export"):
                raise _used()
            choice = exportable(store, holds.order.partition, room.clocks.utc_now())
        _fitting(choice, holds)
        writer = PackWriter(file, holds.order.pack_id)
        try:
            _write(room, admitted, holds, choice, writer, progress)
            draft = _draft(room, admitted, holds, len(choice.rows), writer.body, writer.key_digest)
            with room.gallery.rows() as store:
                mark = mark_pack(store, holds.order.pack_id, "export", holds.order.to_device, draft.body_digest)
                if mark.state == "used":
                    raise _used()
                finish_pack(store, mark)
            manifest = room.notary.sign_pack(draft, admitted.permit)
            admitted.permit.check()
            writer.seal(manifest, order, SealingKey.from_hex(holds.other.sealing_key))
            file.flush()
            os.fsync(file.fileno())
            admitted.permit.check()
        finally:
            writer.wipe()
        return PackMade(
            draft.pack_id, draft.to_device, draft.partition, draft.rows, choice.left, digest=draft.body_digest
        )

    return room.run(steps)


def _judged(room: PackRoom, admitted: Admitted, order: bytes, receiver: SealingKey | None) -> OrderHolds:
    now = room.clocks.utc_now()
    holds = judge_order(order, "export", admitted.policy.policy, room.authority(), room.device_id, now)
    if isinstance(holds, PackRefusal):
        raise refuse(holds)
    try:
        named = SealingKey.from_hex(holds.other.sealing_key)
    except KeyFileError as error:
        raise Refuse(
            "policy", PackReason.OTHER_KEY, f"The policy's key for {holds.order.to_device}: {error}."
        ) from error
    if receiver is not None and receiver.to_hex() != named.to_hex():
        raise Refuse(
            "template-pack",
            PackReason.OTHER_KEY,
            f"The policy has another key for {holds.order.to_device} than the one given: find out whose that is.",
        )
    return holds


def _fitting(choice: Exportable, holds: OrderHolds) -> None:
    rows = len(choice.rows)
    if not rows:
        raise Refuse("template-pack", PackReason.NOTHING, f"{holds.order.partition} holds no template that may go.")
    if rows > holds.order.most_rows:
        raise Refuse(
            "template-pack",
            PackReason.TOO_LARGE,
            f"{rows} templates would go; the order is for {holds.order.most_rows}.",
        )


def _write(
    room: PackRoom,
    admitted: Admitted,
    holds: OrderHolds,
    choice: Exportable,
    writer: PackWriter,
    progress: Progress,
) -> None:
    of = len(choice.rows)
    for start in range(0, of, ROWS_A_CHUNK):
        admitted.permit.check()
        wanted = choice.rows[start : start + ROWS_A_CHUNK]
        with room.gallery.rows() as store:
            rows, templates = store.opened(holds.order.partition, wanted.tolist())
            chunk = writer.sealed(rows, templates, last=start + ROWS_A_CHUNK >= of)
        writer.write(chunk)  # a stick may be slow, and a stop waits for the gallery
        progress(min(of, start + ROWS_A_CHUNK), of)


def _draft(
    room: PackRoom, admitted: Admitted, holds: OrderHolds, rows: int, body: PackBody, key_digest: str
) -> PackDraft:
    return PackDraft(
        attempt_id=admitted.attempt_id,
        pack_id=holds.order.pack_id,
        order_digest=holds.digest,
        signers=holds.signers,
        to_device=holds.order.to_device,
        partition=holds.order.partition,
        model_id=room.model_id,
        rows=rows,
        chunks=body.chunks,
        body_bytes=body.size,
        body_digest=body.digest,
        key_digest=key_digest,
    )


def _used() -> Refuse:
    return Refuse(
        "template-pack",
        PackReason.USED_BEFORE,
        "The order was used before: each is good for one pack. Have one signed.",
    )
