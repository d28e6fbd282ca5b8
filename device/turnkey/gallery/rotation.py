"""Key rotation: every row sealed anew with another key, in batches, resumable after any interruption.

    begin    one transaction: the new key's proof is stored, and the old key, sealed with the new one
    batches  rows of the old key are opened and sealed with the new one, a few hundred a transaction
    finish   one transaction: the sealed old key is deleted, once no row needs it

Rules kept here:
1. From `begin` on, the new key opens the gallery and the old one does not: there is no moment at which two keys do, and
   none at which neither does.
2. In between, every row opens: each says which key sealed it.
3. Every step is under a permit, and a stop in between leaves a gallery that the new key opens and the next call
   continues.
"""

from __future__ import annotations

from contextlib import suppress

from turnkey.database import StorageError
from turnkey.gallery.sealing import Sealer
from turnkey.gallery.store import TemplateStore
from turnkey.interlock.permit import Permit

BATCH_ROWS = 256


class RotationUnderWay(StorageError):
    """An earlier rotation is not finished: continue it first."""


def begin_rotation(
    store: TemplateStore, old_key: bytes | bytearray, new_key: bytes | bytearray, permit: Permit
) -> None:
    """Make `new_key` the gallery's key. `store` is open with `old_key`, and with `new_key` afterwards.

    Raises:
        RotationUnderWay: an earlier one is not finished.
        Stopped, StorageError: nothing has changed.
    """
    if rotation_pending(store):
        raise RotationUnderWay("rotation-under-way", f"{store.database.path}: finish the rotation that is under way")
    if bytes(old_key) == bytes(new_key):
        raise StorageError("same-key", f"{store.database.path}: the new key is the old one")
    sealer, old = Sealer(new_key), store.key_number
    with permit.commit(), store.database.transaction():
        store.database.execute("INSERT INTO gallery_key VALUES (?, ?, NULL)", old + 1, sealer.proof(old + 1))
        store.database.execute("UPDATE gallery_key SET wrapped = ? WHERE number = ?", sealer.wrap(old_key, old), old)
        permit.check()
    store.take_key(new_key)


def rotation_pending(store: TemplateStore) -> bool:
    """Whether a rotation was begun and is not finished."""
    return bool(store.database.rows("SELECT 1 FROM gallery_key WHERE number < ? LIMIT 1", store.key_number))


def rotate_batch(store: TemplateStore, after: int, permit: Permit) -> int | None:
    """Seal the next rows above `after` anew; on disk when this returns. Returns the last of them, None at the end.

    Raises:
        StorageDamaged: a row does not open; it stays as it is, and so does the old key.
        Stopped, StorageError: this batch has not been done.
    """
    with permit.commit(), store.database.transaction():
        batch = store.database.rows(
            "SELECT row, partition, reference, model_id, key_number, sealed FROM template"
            " WHERE row > ? AND key_number < ? ORDER BY row LIMIT ?",
            after,
            store.key_number,
            BATCH_ROWS,
        )
        for *bound, number, sealed in batch:
            store.database.execute(
                "UPDATE template SET sealed = ?, key_number = ? WHERE row = ?",
                store.reseal(bound, number, sealed),
                store.key_number,
                bound[0],
            )
        permit.check()
    return batch[-1][0] if batch else None


def finish_rotation(store: TemplateStore, permit: Permit) -> None:
    """Delete the sealed old key, where no row needs it any more.

    Raises:
        RotationUnderWay: a row still does.
    """
    with permit.commit(), store.database.transaction():
        if store.database.rows("SELECT 1 FROM template WHERE key_number < ? LIMIT 1", store.key_number):
            raise RotationUnderWay("rotation-under-way", f"{store.database.path}: rows of the old key are left")
        store.database.execute("DELETE FROM gallery_key WHERE number < ?", store.key_number)
        permit.check()
    with suppress(StorageError):
        store.database.empty_log()
