"""The audit itself: one pass over an export, offline, against public keys and what a witness saw.

In this order, for each entry: its bytes go into the tree; it is read; it is held to the rules; where it states how the
device stands, the timeline grows; where the witness held a tree of this very size, the roots are compared. At the end
the newest checkpoint's signature and its consistency with these entries are checked. What nobody signed is nowhere
believed, and what only the device signed is never PROVEN.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from turnkey.envelope import PublicKey
from turnkey.leads.records import Boot, Heartbeat, LedgerEntry, SwitchChanged
from turnkey.notary.note import NoteError, Verifier, log_verifier, read_checkpoint
from turnkey.notary.proofs import consistent
from turnkey_tools.audit.export_file import ExportFile
from turnkey_tools.audit.findings import Finding, Findings, Severity
from turnkey_tools.audit.intervals import Interval, Limits, Statement, Timeline, Verdict, window, worst
from turnkey_tools.audit.rules import Rules
from turnkey_tools.audit.witnessed import Seen, Testimony, read_testimony

FUTURE_TOLERANCE_S: Final = 120.0
"""How far the device's clock and the witness's may differ."""
_BEGINNINGS: Final = frozenset({"release-without-order", "started-by-itself", "state-jump", "state-contradicted"})
"""Findings that make everything a violation until recognition stops again."""
_TELL_EVERY: Final = 5000
_ENTRY: Final = TypeAdapter(LedgerEntry)

Observer = Callable[[LedgerEntry], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evidence:
    """What an auditor brings.

    Attributes:
        export: the file.
        key: the device's public key.
        witness: the witness's file and the key that is believed; None: there is no witness.
    """

    export: Path
    key: PublicKey
    witness: tuple[Path, Verifier] | None = None


@dataclass(frozen=True)
class Audit:
    """What came of it.

    Attributes:
        device_id, entries, root, software: whose history, how long, its hash, what the last boot or beat said it runs.
        intervals: in order, without holes, over the window asked for.
        verdict: the worst of them.
        witnessed: how many checkpoints the witness had and this history agrees with.
    """

    device_id: str
    first: int
    entries: int
    root: str
    software: str
    intervals: list[Interval]
    findings: Findings
    verdict: Verdict
    witnessed: int

    def seconds(self, verdict: Verdict) -> float:
        """How much time has a verdict."""
        return sum(one.end_s - one.start_s for one in self.intervals if one.verdict is verdict)


def audit(
    evidence: Evidence,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limits: Limits | None = None,
    observers: Iterable[Observer] = (),
    progress: Progress = lambda _done, _of: None,
) -> Audit:
    """Audit an export.

    Args:
        since, until: the window, UTC; None: where the export begins, or ends.
        observers: are given every entry that could be read.
        progress: told how many entries are done, and of how many.

    Raises:
        NotAnExport, WitnessFileError: a file is something else.
        OSError: a file cannot be read.
    """
    export = ExportFile(evidence.export)
    log = log_verifier(export.head.device_id, evidence.key)
    testimony = None
    if evidence.witness is not None:
        file, verifier = evidence.witness
        testimony = read_testimony(file, log, verifier, export.head.device_id)
    run = _Run(export, log, testimony, limits or Limits(), tuple(observers), progress)
    with _no_collecting():
        run.entries()
    whole = run.end()
    withheld_s = run.seen_beyond_s() if until is None else None
    intervals = window(whole, _seconds(since), withheld_s or _seconds(until))
    broken = run.findings.worst() is Severity.VIOLATION
    return Audit(
        device_id=export.head.device_id,
        first=export.head.first,
        entries=export.tree.size,
        root=export.tree.root().hex() if export.tree.size else "",
        software=run.software,
        intervals=intervals,
        findings=run.findings,
        verdict=Verdict.VIOLATION if broken else worst([one.verdict for one in intervals]),
        witnessed=run.witnessed,
    )


class _Run:
    """One pass; see the top of this file."""

    def __init__(
        self,
        export: ExportFile,
        log: Verifier,
        testimony: Testimony | None,
        limits: Limits,
        observers: tuple[Observer, ...],
        progress: Progress,
    ) -> None:
        self._export = export
        self._log = log
        self._seen: list[Seen] = testimony.seen if testimony is not None else []
        self._next = self._compare_at = 0
        self._rules = Rules(export.head.device_id, export.head.first)
        self._timeline = Timeline(limits)
        self._observers = observers
        self._progress = progress
        self._last: Statement | None = None
        self._last_at_s = 0.0
        self._fork_at = (
            min((min(one.size, two.size) for one, two in testimony.forks), default=None) if testimony else None
        )
        self.findings = Findings()
        self.software = ""
        self.witnessed = 0
        self._testify(testimony)
        while self._next < len(self._seen) and self._seen[self._next].size < export.head.first:
            self._next += 1
        self._compare()

    def _testify(self, testimony: Testimony | None) -> None:
        if testimony is None:
            self.findings.add(Finding("no-witness"))
            return
        if testimony.wrong:
            self.findings.add(Finding("witness-signature-wrong", detail=f"{testimony.wrong} line(s)"))
        for one, two in testimony.forks:
            detail = f"{one.size} entries: {one.root.hex()[:16]}, {two.size} entries: {two.root.hex()[:16]}"
            self.findings.add(Finding("witness-saw-fork", detail=detail))

    def entries(self) -> None:
        """Take every entry of the file."""
        tree, count = self._export.tree, self._export.head.size - self._export.head.first
        for line in self._export.entries():
            tree.append(line)
            try:
                entry = _ENTRY.validate_json(line)
            except ValidationError:
                self._break(Finding("entry-unreadable", tree.size - 1))
                self._rules.skip()
            else:
                self._take(entry, line)
            if self._compare_at <= tree.size:
                self._compare()
            if tree.size % _TELL_EVERY == 0:
                self._progress(tree.size - self._export.head.first, count)

    def _take(self, entry: LedgerEntry, line: bytes) -> None:
        at_s = self._last_at_s = entry.at.timestamp()
        # What an older version did not write yet is not set, so that its entries stay what they were.
        if _ENTRY.dump_json(entry, exclude_unset=True) != line:
            self._break(Finding("not-canonical", entry.index, entry.at.isoformat()))
        for finding in self._rules.take(entry, at_s):
            self._break(finding)
        cover = self._seen[self._next] if self._next < len(self._seen) else None
        if cover is not None and at_s > cover.time_s + FUTURE_TOLERANCE_S:
            detail = f"{at_s - cover.time_s:.0f} s after {_iso(cover.time_s)}"
            self._break(Finding("dated-after-witness", entry.index, entry.at.isoformat(), detail))
        if isinstance(entry.event, Heartbeat | SwitchChanged | Boot):
            if not isinstance(entry.event, SwitchChanged):
                self.software = entry.event.software
            self._last = Statement(
                at_s,
                entry.index,
                self._rules.state,
                cover.time_s if cover is not None else None,
                cover.size if cover is not None else 0,
            )
            self._timeline.state(self._last)
        for observe in self._observers:
            observe(entry)

    def _break(self, finding: Finding) -> None:
        self.findings.add(finding)
        if finding.code in _BEGINNINGS and finding.index is not None:
            self._timeline.unlawful(finding.code, finding.index)
        elif finding.severity is Severity.VIOLATION:
            self._timeline.breaks(finding.code)

    def _compare(self) -> None:
        """Compare roots where the witness held a tree of this size."""
        if self._fork_at is not None and self._export.tree.size >= self._fork_at:
            self._timeline.fork("witness-saw-fork")
            self._fork_at = None
        while self._next < len(self._seen) and self._seen[self._next].size <= self._export.tree.size:
            seen = self._seen[self._next]
            self._next += 1
            if self._export.tree.size and seen.root == self._export.tree.root():
                self.witnessed += 1
                self._timeline.agree(seen.size)
            else:
                detail = f"the witness held {seen.root.hex()[:16]} at {_iso(seen.time_s)}"
                self.findings.add(Finding("fork", seen.size - 1, _iso(seen.time_s), detail))
                self._timeline.fork("fork")
        due = [self._seen[self._next].size] if self._next < len(self._seen) else []
        self._compare_at = min([*due, *([self._fork_at] if self._fork_at is not None else [])], default=sys.maxsize)

    def end(self) -> list[Interval]:
        """Check the signature over all of it; the intervals."""
        for finding in self._rules.end():
            self._break(finding)
        unsigned = self._unsigned()
        if unsigned is not None:
            self.findings.add(unsigned)
            if unsigned.code == "signature-wrong":
                self._timeline.disown(unsigned.code)
        if self._last is not None and self._last_at_s > self._last.at_s:
            # Entries behind the last statement: what they broke must show.
            self._timeline.state(Statement(self._last_at_s, self._export.tree.size - 1, None, None, 0))
        if self._next < len(self._seen):
            newest = self._seen[-1]
            detail = f"{newest.size} entries at {_iso(newest.time_s)}, {self._export.tree.size} here"
            self.findings.add(Finding("export-ends-early", detail=detail))
        intervals = self._timeline.close(unsigned.code if unsigned is not None else None)
        for interval in intervals:
            if "gap" in interval.because:
                detail = f"{interval.end_s - interval.start_s:.0f} s"
                self.findings.add(Finding("gap", interval.first, _iso(interval.start_s), detail))
        return intervals

    def seen_beyond_s(self) -> float | None:
        """When the witness last held a larger tree than this one; None where it did not."""
        return float(self._seen[-1].time_s) if self._next < len(self._seen) else None

    def _unsigned(self) -> Finding | None:
        tree, end = self._export.tree, self._export.end
        if tree.size != self._export.head.size or end is None:
            return Finding("export-damaged", tree.size - 1, detail=f"{tree.size} of {self._export.head.size} entries")
        try:
            checkpoint = read_checkpoint(end.checkpoint, self._log)
        except NoteError as error:
            return Finding("signature-wrong", detail=str(error))
        proof = [bytes.fromhex(step) for step in end.consistency]
        if checkpoint.size == tree.size and checkpoint.root != tree.root():
            return Finding("root-differs", tree.size - 1, detail=f"signed {checkpoint.root.hex()[:16]}")
        if not consistent(tree.size, checkpoint.size, tree.root(), checkpoint.root, proof):
            return Finding("proof-wrong", tree.size - 1, detail=f"signed over {checkpoint.size} entries")
        return None


@contextmanager
def _no_collecting() -> Iterator[None]:
    """A million entries make no cycle among them; looking for one would be a tenth of the audit's time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _iso(posix_s: float) -> str:
    return datetime.fromtimestamp(posix_s, UTC).isoformat(timespec="seconds")
