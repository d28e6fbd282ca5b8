"""The witness at work: takes attestations in, cosigns the newest tree of each device now and then, tells what it knows.

Rules kept here:
1. A cosignature says: of this log, this is the largest tree that I have seen at this time, and it is consistent with
   all others (tlog-cosignature/v1). A device that signed two histories gets none any more.
2. Between two cosignatures of a device lie `every_s` seconds; a year is then 35,000 lines and not half a million.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from turnkey.envelope import PublicKey, SigningKey
from turnkey.notary.export import ExportEnd
from turnkey.notary.note import KeyType, NoteKey, cosign, log_verifier, read_checkpoint
from turnkey.notary.proofs import consistent
from turnkey_tools.audit.export_file import ExportFile
from turnkey_tools.audit.witnessed import WitnessHead
from turnkey_tools.listener import Arrived, Listener
from turnkey_tools.provision import Identity
from turnkey_tools.witness.judge import Consistent, Known, Refused, Verdict, consider
from turnkey_tools.witness.store import Store

EVERY_S: Final = 900
ATTESTATION_TOPICS: Final = "turnkey/v1/+/attestation"


@dataclass(frozen=True)
class Witness:
    """A witness: its name and key, whom it watches, its memory and its clock (POSIX seconds)."""

    name: str
    key: SigningKey
    keys: Mapping[str, PublicKey]
    store: Store
    now_s: Callable[[], int]
    every_s: int = EVERY_S

    @property
    def verifier_key(self) -> NoteKey:
        """What an auditor needs to believe this witness."""
        return NoteKey(self.name, KeyType.WITNESS, self.key.public)

    def take(self, payloads: Iterable[bytes]) -> list[Verdict]:
        """Judge published attestations; verdicts and cosignatures are on disk when this returns.

        Raises:
            StorageError: nothing was kept.
        """
        with self.store.transaction():
            verdicts = []
            for payload in payloads:
                verdicts.append(consider(payload, self.keys, self.store))
                self.store.write(verdicts[-1])
            self._cosign_due(self.every_s)
        return verdicts

    def cosign_newest(self) -> None:
        """Cosign what is newest of each device, however short ago the last time was. Raises: StorageError."""
        with self.store.transaction():
            self._cosign_due(1)

    def _cosign_due(self, every_s: int) -> None:
        for device_id in self.store.devices():
            newest, (last_s, last_size) = self.store.newest(device_id), self.store.cosigned_last(device_id)
            now_s = self.now_s()
            if newest is None or newest.checkpoint.size <= last_size or self.store.forks(device_id):
                continue
            if now_s - last_s >= every_s:
                note = cosign(newest.note, self.name, self.key, now_s)
                self.store.keep_cosigned(device_id, now_s, newest.checkpoint.size, note)

    def catch_up(self, export: Path) -> Verdict:
        """Take over the tree of an export, where attestations in between never came.

        Every tree known so far is looked for in it. Where one differs the device has another history now; an audit of
        the export against this witness's file shows from where on.

        Raises:
            NotAnExport, OSError, NoteError: the file is none, or its checkpoint is not the device's.
            StorageError: nothing was kept.
        """
        file = ExportFile(export)
        device_id = file.head.device_id
        if device_id not in self.keys:
            file.close()
            return Refused(device_id, "unknown-device", "no public key for this device")
        log = log_verifier(device_id, self.keys[device_id])
        known = {size: note for size, note in self.store.sizes(device_id) if size > file.head.first}
        differing: int | None = None
        for line in file.entries():
            file.tree.append(line)
            note = known.pop(file.tree.size, None)
            if note is not None and read_checkpoint(note, log).root != file.tree.root():
                differing = differing or file.tree.size
        verdict = self._caught_up(file, file.end, differing, bool(known))
        with self.store.transaction():
            self.store.write(verdict)
            self._cosign_due(1)
        return verdict

    def _caught_up(self, file: ExportFile, end: ExportEnd | None, differing: int | None, missing: bool) -> Verdict:
        device_id = file.head.device_id
        if end is None:
            return Refused(device_id, "export-damaged", "the file is cut off")
        checkpoint = read_checkpoint(end.checkpoint, log_verifier(device_id, self.keys[device_id]))
        proof = [bytes.fromhex(step) for step in end.consistency]
        if not consistent(file.tree.size, checkpoint.size, file.tree.root(), checkpoint.root, proof):
            return Refused(device_id, "inconsistent", "the export's entries are not the signed tree")
        if differing is not None:
            return Refused(device_id, "another-history", f"it differs from what was seen at {differing} entries")
        if missing:
            return Refused(device_id, "older", "the export ends before what is known already")
        return Consistent(device_id, Known(checkpoint, end.checkpoint))

    def testimony(self, device_id: str) -> str:
        """The file for auditors: see `turnkey_tools.audit.witnessed`."""
        lines = [WitnessHead(device_id=device_id, witness=self.verifier_key.to_text()).model_dump_json()]
        lines += [json.dumps({"note": note}) for note in self.store.cosigned(device_id)]
        lines += [json.dumps({"fork": list(pair)}) for pair in self.store.forks(device_id)]
        return "\n".join(lines) + "\n"


class Subscription(Listener[Verdict]):
    """The witness at a broker: what arrived is judged and stored, and only then acknowledged."""

    def __init__(self, identity: Identity, host: str, port: int, witness: Witness) -> None:
        super().__init__(identity, host, port, ATTESTATION_TOPICS)
        self._witness = witness

    def take_in(self, arrived: Sequence[Arrived]) -> list[Verdict]:
        """See `Listener`."""
        return self._witness.take(message.payload for message in arrived)
