"""What a witness believes. Pure.

Rules, in the order in which they are enforced:
1. The attestation is signed by the device under whose name it comes, and so is the checkpoint in it; both say one tree.
2. Where a tree of this size is known, it is the same tree, or the device has signed two histories.
3. A tree that is larger than the largest known is believed with a proof that it only added to that one. The first tree
   ever is taken as it comes.
4. A smaller one that was never seen says nothing: it is not the newest, and cannot be held against anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from turnkey.envelope import EnvelopeError, PublicKey, peek, verify
from turnkey.leads.records import PAYLOAD_TYPE_ATTESTATION, Attestation
from turnkey.notary.note import Checkpoint, NoteError, log_verifier, read_checkpoint
from turnkey.notary.proofs import consistent


@dataclass(frozen=True)
class Known:
    """A tree that was believed, and the note that says it."""

    checkpoint: Checkpoint
    note: str


class Memory(Protocol):
    """What a witness has seen of a device."""

    def newest(self, device_id: str) -> Known | None:
        """The largest tree believed; None: there is none."""
        ...

    def at(self, device_id: str, size: int) -> Known | None:
        """The tree of a size; None: it was never seen."""
        ...


@dataclass(frozen=True)
class Consistent:
    """A larger tree that only added to what is known."""

    device_id: str
    known: Known


@dataclass(frozen=True)
class Fork:
    """Two trees of one size, both signed by the device: proof that it has two histories."""

    device_id: str
    one: str
    two: str


@dataclass(frozen=True)
class Refused:
    """Not believed, and why. `unlinked`: nothing is wrong with it, but a part in between never came: catch up."""

    device_id: str
    reason: str
    detail: str = ""


Verdict = Consistent | Fork | Refused


def consider(payload: bytes, keys: Mapping[str, PublicKey], memory: Memory) -> Verdict:
    """Decide about one published attestation (a DSSE envelope); raises for nothing that came over a wire."""
    try:
        claimed = Attestation.model_validate_json(peek(payload).payload).device_id
        key = keys.get(claimed)
        if key is None:
            return Refused(claimed, "unknown-device", "no public key for this device")
        attestation = Attestation.model_validate_json(verify(payload, PAYLOAD_TYPE_ATTESTATION, [key]).payload)
        checkpoint = read_checkpoint(attestation.checkpoint, log_verifier(claimed, key))
    except (EnvelopeError, NoteError) as error:
        return Refused("", error.reason, str(error))
    except ValidationError as error:
        return Refused("", "not-an-attestation", f"{error.error_count()} fault(s) in the record")
    if (checkpoint.size, checkpoint.root.hex()) != (attestation.index + 1, attestation.ledger_root):
        return Refused(claimed, "checkpoint-of-another-tree", "attestation and checkpoint disagree")
    proof = [bytes.fromhex(step) for step in attestation.consistency]
    return link(claimed, Known(checkpoint, attestation.checkpoint), attestation.previous_size, proof, memory)


def link(device_id: str, new: Known, previous_size: int, proof: list[bytes], memory: Memory) -> Verdict:
    """Decide about a signed tree, given a proof from an earlier one."""
    size = new.checkpoint.size
    known = memory.at(device_id, size)
    if known is not None:
        if known.checkpoint.root == new.checkpoint.root:
            return Refused(device_id, "duplicate", "it is here already")
        return Fork(device_id, known.note, new.note)
    newest = memory.newest(device_id)
    if newest is None:
        return Consistent(device_id, new)
    before = newest.checkpoint
    if size < before.size:
        return Refused(device_id, "older", f"a tree of {size} entries, after one of {before.size}")
    if previous_size != before.size:
        return Refused(device_id, "unlinked", f"it follows a tree of {previous_size} entries; {before.size} are known")
    if not consistent(before.size, size, before.root, new.checkpoint.root, proof):
        return Refused(device_id, "inconsistent", f"no continuation of the tree of {before.size} entries")
    return Consistent(device_id, new)
