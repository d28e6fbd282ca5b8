"""A small honest history with a witness, and what an adversary who owns the device (and its key) makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from turnkey.envelope import PublicKey, SigningKey
from turnkey.leads.records import Event, LedgerEntry, canonical
from turnkey.notary.note import Checkpoint, Verifier, origin_of, sign_checkpoint
from turnkey_tools.audit.auditor import Audit, Evidence, audit
from turnkey_tools.audit.export_file import GrowingTree
from turnkey_tools.audit.intervals import Interval, Verdict
from turnkey_tools.bench.ledger_script import DEVICE, LedgerScript, WitnessScript, write_export_file

WITNESS_MINUTES = 10


@dataclass
class World:
    """A device, its ledger as the adversary shows it, and a witness that saw what the device published.

    Attributes:
        lines: the entries that will be exported.
        attacked: the time in which nothing may be PROVEN, set by the attack.
    """

    folder: Path
    lines: list[bytes] = field(default_factory=list)
    attacked: tuple[datetime, datetime] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.device = LedgerScript(self.lines.append)
        self.witness = WitnessScript(self.folder / "witness")
        self.export = self.folder / "export"
        self.checkpoint: str | None = None
        self.key: PublicKey = self.device.key.public
        self.published: list[tuple[str, datetime]] = []
        self.clock_behind = timedelta()

    def minutes(self, count: int, *, beat: bool = True, seen: bool = True) -> None:
        """Minutes pass; the device beats, and the witness cosigns now and then."""
        for _ in range(count):
            self.device.wait(60)
            if beat:
                self.device.beat()
            if seen and self.device.tree.size and len(self.lines) and self._due():
                self.publish()

    def _due(self) -> bool:
        last = self.published[-1][1] if self.published else datetime.min.replace(tzinfo=UTC)
        return self.device.now + self.clock_behind - last >= timedelta(minutes=WITNESS_MINUTES)

    def publish(self) -> None:
        """The device publishes a checkpoint, and the witness cosigns it two seconds later."""
        note, at = self.device.checkpoint(), self.device.now + self.clock_behind + timedelta(seconds=2)
        self.published.append((note, at))
        self.witness.see(note, at)

    def history(self) -> None:
        """Half an hour stopped, released, two hours of bookings, and two hours of moratorium."""
        device = self.device
        device.boot()
        device.wait(1)
        device.switch("MORATORIUM", "latch-missing")
        self.minutes(30)
        device.release()
        for number in range(12):
            self.minutes(10)
            device.book(f"B-{number}", lead=number % 4 == 1)
        device.switch("MORATORIUM", "key-opened")
        self.minutes(120)
        self.publish()

    def index_of(self, kind: str, number: int = 0) -> int:
        """Index of an entry of a kind."""
        marks = f'"event":{{"kind":"{kind}"'.encode()
        return [index for index, line in enumerate(self.lines) if marks in line][number]

    def entry(self, index: int) -> LedgerEntry:
        return LedgerEntry.model_validate_json(self.lines[index])

    def change(self, place: int, **values: object) -> None:
        """Rewrite an entry, or its event where the name is one of its event's."""
        entry = self.entry(place)
        own = {name: value for name, value in values.items() if name in LedgerEntry.model_fields}
        events = {name: value for name, value in values.items() if name not in own}
        event: Event = entry.event.model_copy(update=events)
        self.lines[place] = canonical(entry.model_copy(update={"event": event, **own}))

    def renumber(self) -> None:
        """Give every entry the index of its place."""
        for index in range(len(self.lines)):
            self.change(index, index=index)

    def sign(self, key: SigningKey | None = None, lines: list[bytes] | None = None) -> str:
        """Sign the tree over the entries as they are now."""
        tree = GrowingTree()
        for line in self.lines if lines is None else lines:
            tree.append(line)
        return sign_checkpoint(Checkpoint(origin_of(DEVICE), tree.size, tree.root()), key or self.device.key)

    def touch(self, start: datetime, end: datetime | None = None) -> None:
        """This is the time that was tampered with."""
        self.attacked = (start, end or start + timedelta(seconds=1))

    def audited(self, *, with_witness: bool, until: datetime | None = None) -> Audit:
        """Export what the adversary shows, and audit it."""
        write_export_file(self.export, iter(self.lines), len(self.lines), self.checkpoint or self.sign())
        self.witness.write()
        witness = (self.witness.out, Verifier(self.witness.verifier_key)) if with_witness else None
        return audit(Evidence(self.export, self.key, witness), until=until)

    def proven_inside(self, found: Audit) -> list[Interval]:
        """Intervals called PROVEN that overlap the time that was tampered with."""
        assert self.attacked is not None
        start_s, end_s = (moment.timestamp() for moment in self.attacked)
        return [
            one
            for one in found.intervals
            if one.verdict is Verdict.PROVEN and one.start_s < end_s and one.end_s > start_s
        ]


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        name: what the adversary does.
        make: does it in a world.
        finding: the code under which an audit with the witness finds it.
        alone: whether an audit without a witness finds it too.
    """

    name: str
    make: Callable[[World], None]
    finding: str
    alone: bool = True
