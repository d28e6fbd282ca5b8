"""A ledger that never was on a device: its entries by a script, its clock by arithmetic, its signatures real.

For the audit's bench (a year takes a minute to write and no year) and for its adversaries, who have to rewrite history.
What a real device writes is held against the same audit in tests/audit.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from turnkey.envelope import SigningKey
from turnkey.leads.records import (
    Boot,
    Captured,
    Enrolled,
    Event,
    Heartbeat,
    LeadSigned,
    LedgerEntry,
    OrderSeen,
    Refused,
    Searched,
    SwitchChanged,
    canonical,
    reference_digest,
)
from turnkey.notary.export import ExportEnd, ExportHead
from turnkey.notary.note import Checkpoint, KeyType, NoteKey, cosign, origin_of, sign_checkpoint
from turnkey_tools.audit.export_file import GrowingTree
from turnkey_tools.audit.witnessed import WitnessHead

DEVICE = "booth-1"
WITNESS = "witness.example/one"
START = datetime(2026, 1, 1, tzinfo=UTC)
MODELS = {"sface": "ab" * 32, "yunet": "cd" * 32}
_MODEL_ID = "sface-abababababab"
_POLICY = "ef" * 32


@dataclass
class LedgerScript:
    """Writes entries one after another into `keep`.

    Attributes:
        key: signs checkpoints.
        keep: takes each entry's bytes.
        now, monotonic_ns: the clocks; a script moves them.
    """

    keep: Callable[[bytes], None]
    key: SigningKey = field(default_factory=SigningKey.generate)
    device_id: str = DEVICE
    now: datetime = START
    monotonic_ns: int = 10**9
    seed: int = 7

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - a script that is the same each time
        self.tree = GrowingTree()
        self.boot_id = ""
        self.state, self.epoch = "BOOTING", 0
        self._beats = self._captures = self._searches = self._leads = self._lead_number = self._row = 0

    def id(self) -> str:
        """128 bits, the same in each run of a script."""
        return f"{self._random.getrandbits(128):032x}"

    def wait(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.now += timedelta(seconds=seconds)
        self.monotonic_ns += int(seconds * 1e9)

    def record(self, event: Event) -> LedgerEntry:
        """Append an entry as it is given."""
        entry = LedgerEntry(
            device_id=self.device_id,
            index=self.tree.size,
            boot_id=self.boot_id,
            at=self.now,
            monotonic_ns=self.monotonic_ns,
            event=event,
        )
        data = canonical(entry)
        self.tree.append(data)
        self.keep(data)
        return entry

    def boot(self) -> None:
        """The notary starts."""
        self.boot_id = self.id()
        self._beats = self._captures = self._searches = self._leads = 0
        self.record(Boot(software="1.0", models=MODELS))

    def switch(self, state: str, reason: str, order_id: str | None = None) -> None:
        """The interlock changes its state."""
        previous, self.state = self.state, state
        self.epoch += state in ("MORATORIUM", "FAULT")
        closed = state == "RUNNING"
        changed = {"previous": previous, "state": state, "reason": reason, "epoch": self.epoch, "order_id": order_id}
        self.record(SwitchChanged.model_validate(changed | {"channel_a": closed, "channel_b": closed}))

    def release(self) -> None:
        """A release order is accepted, and recognition begins."""
        order_id = self.id()
        self.switch("RUNNING", "released", order_id)
        self.wait(0.02)
        digest = f"{self._random.getrandbits(256):064x}"
        self.record(OrderSeen(accepted=True, reason="accepted", order_digest=digest, act="release", order_id=order_id))

    def beat(self) -> None:
        """A heartbeat that tells the truth."""
        self._beats += 1
        running = self.state == "RUNNING"
        statement = {"state": self.state, "reason": "released" if running else "key-opened", "epoch": self.epoch}
        lines = {"channel_a": running, "channel_b": running, "relay_closed": running}
        counts = {"captures": self._captures, "searches": self._searches, "leads": self._leads}
        self.record(
            Heartbeat.model_validate(
                statement
                | lines
                | counts
                | {"software": "1.0", "policy": "in-force", "leads_waiting": 0, "sequence": self._beats}
                | {"uptime_s": self.monotonic_ns // 10**9, "models": MODELS}
            )
        )

    def beats(self, count: int) -> None:
        """So many minutes, a heartbeat at the end of each."""
        for _ in range(count):
            self.wait(60)
            self.beat()

    def book(self, number: str, *, lead: bool = False, outcome: str = "recorded") -> None:
        """A booking: photographed, searched, perhaps a lead, enrolled; or refused for the outcome's reason."""
        attempt = self.id()
        digest = reference_digest(attempt, number)
        self._captures += 1
        self.record(Captured(attempt_id=attempt, frames=5, purpose="booking", reference_digest=digest))
        self.wait(0.05)
        if outcome != "recorded":
            self.record(Refused(attempt_id=attempt, step="vision", reason=outcome))
            return
        self._searches += 1
        self.record(
            Searched(
                attempt_id=attempt,
                partition="cases",
                gallery_size=4000,
                threshold=0.41,
                max_fpir=0.01,
                search="exhaustive",
                model_id=_MODEL_ID,
                policy_digest=_POLICY,
                candidates=int(lead),
                probe_quality=self._random.randint(40, 90),
            )
        )
        if lead:
            self._leads += 1
            self._lead_number += 1
            candidates = (reference_digest(attempt, "C-2026-0001"),)
            self.record(
                LeadSigned(
                    attempt_id=attempt,
                    lead_id=self.id(),
                    sequence=self._lead_number,
                    envelope_digest=f"{self._random.getrandbits(256):064x}",
                    candidates=candidates,
                )
            )
        self._row += 1
        self.record(Enrolled(attempt_id=attempt, partition="bookings", row=self._row))

    def checkpoint(self) -> str:
        """The tree as it is, signed."""
        origin = origin_of(self.device_id)
        return sign_checkpoint(Checkpoint(origin, self.tree.size, self.tree.root()), self.key)


def write_export_file(out: Path, lines: Iterator[bytes], size: int, checkpoint: str, device_id: str = DEVICE) -> None:
    """An export of all entries under a checkpoint over exactly these."""
    with out.open("wb") as file:
        file.write(ExportHead(device_id=device_id, first=0, roots=(), size=size).model_dump_json().encode() + b"\n")
        for line in lines:
            file.write(line + b"\n")
        file.write(ExportEnd(checkpoint=checkpoint, consistency=()).model_dump_json().encode() + b"\n")


class WitnessScript:
    """A witness that is told of checkpoints and cosigns them, into a file."""

    def __init__(self, out: Path, device_id: str = DEVICE) -> None:
        self.key = SigningKey.generate()
        self.verifier_key = NoteKey(WITNESS, KeyType.WITNESS, self.key.public)
        self.lines = [WitnessHead(device_id=device_id, witness=self.verifier_key.to_text()).model_dump_json()]
        self.out = out

    def see(self, checkpoint: str, at: datetime) -> None:
        """Cosign a checkpoint at a time."""
        self.lines.append(json.dumps({"note": cosign(checkpoint, WITNESS, self.key, int(at.timestamp()))}))

    def write(self) -> None:
        """Put the file there."""
        self.out.write_text("\n".join(self.lines) + "\n")
