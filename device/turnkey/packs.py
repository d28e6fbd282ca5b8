"""What an export and an import of template packs share: the rooms they need, how they begin, and how they are refused.

    permit -> policy -> model -> gallery open -> the steps of the export, or of the import

Rules kept here, in the order in which they are enforced:
1. No permit, no step: in a moratorium the gallery is ciphertext, and nothing goes out or comes in.
2. Nothing begins without a policy in force that permits the model in use.
3. Every refusal is a value with a step and a reason code, and is on the ledger, a stop that came in between as well.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from turnkey.attempt import Refusal, Refuse
from turnkey.database import StorageError
from turnkey.gallery.gallery import Gallery
from turnkey.gallery.pack_file import PackFileError
from turnkey.gallery_room import GalleryRoom
from turnkey.interlock.authority import Authority
from turnkey.interlock.permit import Permit, Stopped
from turnkey.leads.policy import PolicyRefusal, SignedPolicy
from turnkey.leads.records import Refused
from turnkey.leads.template_pack import PackReason, PackRefusal
from turnkey.notary.notary import Clocks, Recorder
from turnkey.recording import system_clocks
from turnkey.sealed import OpeningKey, SealedFileError

Outcome = TypeVar("Outcome")
Progress = Callable[[int, int], None]
"""Called with how much is done, and of how much; raises `Abandoned` where nobody waits for it any more."""


class Abandoned(Exception):
    """Whoever asked has gone away."""


def silent(_done: int, _of: int) -> None:
    """No progress shown."""


@dataclass(frozen=True)
class Admitted:
    """An exchange that may begin."""

    attempt_id: str
    permit: Permit
    policy: SignedPolicy


@dataclass(frozen=True)
class PackRoom:
    """The parts that an exchange needs, made elsewhere.

    Attributes:
        permit: a live permit, or raises Stopped.
        policy: the one in force, or why there is none; asked anew for each exchange, as is the authority.
        model_id: the embedder in use.
        device_id: this device.
        key: opens what was sealed for this device; None where it has none.
    """

    gallery: Gallery
    notary: Recorder
    permit: Callable[[], Permit]
    policy: Callable[[], SignedPolicy | PolicyRefusal]
    authority: Callable[[], Authority]
    model_id: str
    device_id: str
    key: OpeningKey | None
    clocks: Clocks

    def run(self, steps: Callable[[Admitted], Outcome]) -> Outcome | Refusal:
        """Admit an exchange and take its steps; what came of it, or the refusal, which is on the ledger."""
        attempt_id, permit = self.clocks.new_id(), None
        try:
            permit = self.permit()
            return steps(self._admitted(attempt_id, permit))
        except (
            Refuse,
            PackFileError,
            SealedFileError,
            ValidationError,
            OSError,
            StorageError,
            Stopped,
            Abandoned,
        ) as error:
            refusal = _refusal(error, permit)
        try:
            self.notary.record(Refused(attempt_id=attempt_id, step=refusal.step, reason=refusal.reason))
        except StorageError as error:
            return Refusal("ledger", error.reason, f"{refusal.message} It cannot be put on record: {error}. Call IT.")
        return refusal

    def _admitted(self, attempt_id: str, permit: Permit) -> Admitted:
        policy = self.policy()
        if isinstance(policy, PolicyRefusal):
            raise Refuse("policy", policy.reason, policy.message)
        if self.model_id not in policy.policy.models:
            raise Refuse("policy", "model-not-permitted", f"The policy does not permit the model {self.model_id}.")
        self.gallery.unlock(permit.gallery_key())
        permit.check()
        return Admitted(attempt_id, permit, policy)


def pack_room(room: GalleryRoom, permit: Callable[[], Permit] | None = None) -> PackRoom:
    """The parts of an exchange, out of those that work on the gallery has.

    Args:
        permit: in place of the room's, where there is a stricter gate.

    Raises:
        KeyFileError, OSError: the device's key cannot be used.
    """
    key = room.settings.encryption_key
    return PackRoom(
        gallery=room.gallery,
        notary=room.notary,
        permit=permit or room.permit,
        policy=room.policy,
        authority=room.authority,
        model_id=room.model_id,
        device_id=room.settings.device_id,
        key=OpeningKey.from_pem(key.read_bytes()) if key else None,
        clocks=system_clocks(),
    )


def refuse(refusal: PackRefusal) -> Refuse:
    """A refusal of the documents' as the steps leave with it."""
    return Refuse("template-pack", refusal.reason, f"The pack is refused: {refusal.message}.")


def _refusal(error: Exception, permit: Permit | None) -> Refusal:
    """An error as a refusal. Where the permit is dead, that is the reason: a key that is missing is a stop's doing."""
    if isinstance(error, Refuse):
        return error.refusal
    stop = error.reason if isinstance(error, Stopped) else None
    if stop is None and permit is not None:
        with suppress(Stopped):
            permit.check()
        stop = permit.refusal()
    if stop is not None:
        return Refusal("interlock", stop, f"Facial recognition is stopped ({stop}), and the gallery's key is gone.")
    if isinstance(error, PackFileError | SealedFileError):
        return Refusal("template-pack", error.reason, f"The pack is refused: {error}.")
    if isinstance(error, ValidationError):
        return Refusal(
            "template-pack", PackReason.UNREADABLE, f"A row does not fit into a pack: {error.errors()[0]['msg']}."
        )
    if isinstance(error, StorageError):
        return Refusal("gallery", error.reason, f"The gallery cannot be used: {error}. Call IT.")
    if isinstance(error, OSError):
        reason = "disk" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else PackReason.UNREADABLE
        return Refusal("template-pack", reason, f"The pack's file cannot be used: {error.strerror or error}.")
    return Refusal("template-pack", "abandoned", "Nobody waits for it any more.")
