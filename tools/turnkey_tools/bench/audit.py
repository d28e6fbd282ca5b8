"""`turnkeyctl bench audit`: how long a year's audit takes, and how much memory.

A scripted ledger of so many days is written first (that is not measured): a heartbeat each minute, bookings spread over
them, a moratorium of a week each quarter, and a witness that cosigns each quarter of an hour. The audit then runs in a
process of its own, as `turnkeyctl audit`, and the kernel says what that process used (getrusage, RUSAGE_CHILDREN).
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer
from rich.console import Console
from rich.progress import Progress

from turnkey.notary.export import ExportEnd, ExportHead
from turnkey_tools.bench.ledger_script import DEVICE, LedgerScript, WitnessScript
from turnkey_tools.bench.results import Bar, BenchReport, bench_report, deliver, figure

MINUTES_A_DAY: Final = 1440
WITNESS_EVERY: Final = 15
MOST_A_MINUTE: Final = 5
YEAR_DAYS: Final = 365
YEAR_BOOKINGS: Final = 20_000
YEAR_BAR_S, MEMORY_BAR_MB = 60.0, 500.0


@dataclass(frozen=True)
class Measured:
    """What one audit took. `verdict` and `exit_code` are the audit's own."""

    days: float
    entries: int
    heartbeats: int
    bookings: int
    cosignatures: int
    export_mb: float
    seconds: float
    cpu_seconds: float
    memory_mb: float
    verdict: str
    exit_code: int


def write_history(folder: Path, minutes: int, bookings: int, tell: Progress | None = None) -> tuple[int, int]:
    """Write `export`, `witness`, `booth-1.pub` and `witness.key` into a folder. Returns entries and cosignatures."""
    body = folder / "entries"
    witness = WitnessScript(folder / "witness")
    with body.open("wb") as file:
        script = LedgerScript(lambda data: _line(file, data))
        script.boot()
        script.wait(1)
        script.switch("MORATORIUM", "latch-missing")
        task = tell.add_task("writing the history", total=minutes) if tell is not None else None
        booked = 0
        quarter = max(minutes // 4, 2)
        for minute in range(minutes):
            script.wait(60)
            script.beat()
            within = minute % quarter
            if within == quarter // 13:
                script.release()
            elif within == quarter - 1:
                script.switch("MORATORIUM", "key-opened")
            if script.state == "RUNNING":
                due = min(bookings, bookings * (minute + 1) // minutes)
                for _ in range(min(MOST_A_MINUTE, due - booked)):
                    booked += 1
                    script.wait(0.5)
                    script.book(f"B-{booked}", lead=booked % 50 == 0)
            if minute % WITNESS_EVERY == WITNESS_EVERY - 1 or minute == minutes - 1:
                witness.see(script.checkpoint(), script.now + timedelta(seconds=1))
            if tell is not None and task is not None and minute % 1000 == 0:
                tell.update(task, completed=minute)
    witness.write()
    (folder / "witness.key").write_text(witness.verifier_key.to_text() + "\n")
    (folder / f"{DEVICE}.pub").write_bytes(script.key.public.to_pem())
    with (folder / "export").open("wb") as out, body.open("rb") as entries:
        out.write(ExportHead(device_id=DEVICE, first=0, roots=(), size=script.tree.size).model_dump_json().encode())
        out.write(b"\n")
        while chunk := entries.read(1 << 20):
            out.write(chunk)
        out.write(ExportEnd(checkpoint=script.checkpoint(), consistency=()).model_dump_json().encode() + b"\n")
    body.unlink()
    return script.tree.size, len(witness.lines) - 1


def measure(folder: Path, days: float, bookings: int, entries: int, cosignatures: int) -> Measured:
    """Audit what `write_history` wrote, in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began_s = time.monotonic()
    program = Path(sys.executable).with_name("turnkeyctl")
    command = [str(program), "audit", str(folder / "export"), "--keys", str(folder)]
    command += ["--witness", str(folder / "witness"), "--witness-key", str(folder / "witness.key"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this program itself
    seconds = time.monotonic() - began_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    verdict = json.loads(done.stdout)["verdict"] if done.stdout else done.stderr.strip()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(
        days=days,
        entries=entries,
        heartbeats=round(days * MINUTES_A_DAY),
        bookings=bookings,
        cosignatures=cosignatures,
        export_mb=round((folder / "export").stat().st_size / 1e6, 1),
        seconds=round(seconds, 1),
        cpu_seconds=round(cpu, 1),
        memory_mb=round(after.ru_maxrss * 1024 / 1e6, 1),
        verdict=verdict,
        exit_code=done.returncode,
    )


def audit(
    year: Annotated[bool, typer.Option("--year", help="525,600 heartbeats and 20,000 bookings.")] = False,
    days: Annotated[float, typer.Option(min=0.1, help="Or so many days, with bookings in proportion.")] = 7.0,
    folder: Annotated[Path | None, typer.Option(help="Write the history here and keep it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Audit a scripted history and print time, processor time and memory. Exit code 1 where a bar is missed."""
    days = YEAR_DAYS if year else days
    bookings = round(YEAR_BOOKINGS * days / YEAR_DAYS)
    with tempfile.TemporaryDirectory(prefix="turnkey-bench-") as scratch:
        place = folder or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        with Progress(console=Console(stderr=True), transient=True) as tell:
            entries, cosignatures = write_history(place, round(days * MINUTES_A_DAY), bookings, tell)
        measured = measure(place, days, bookings, entries, cosignatures)
    deliver(audit_report(measured), as_json=as_json)


def audit_report(measured: Measured) -> BenchReport:
    """The bench's report. The two bars of time and memory are a year's, whatever was audited."""
    settings: dict[str, str | float | bool] = {
        "days": measured.days,
        "entries": measured.entries,
        "heartbeats": measured.heartbeats,
        "bookings": measured.bookings,
        "cosignatures": measured.cosignatures,
        "verdict": measured.verdict,
        "exit code": measured.exit_code,
    }
    proven = float(measured.verdict == "PROVEN")
    figures = [
        figure("verdicts PROVEN of one history without a fault", "count", [proven]),
        figure("the audit", "s", [measured.seconds]),
        figure("the audit, CPU", "s", [measured.cpu_seconds]),
        figure("peak memory", "MB", [measured.memory_mb]),
        figure("the export", "MB", [measured.export_mb]),
        figure("entries", "1/s", [measured.entries / max(measured.seconds, 1e-3)]),
    ]
    bars = (
        Bar("verdicts PROVEN of one history without a fault", proven, "at least", 1),
        Bar("the audit, s", measured.seconds, "at most", YEAR_BAR_S),
        Bar("peak memory, MB", measured.memory_mb, "at most", MEMORY_BAR_MB),
    )
    return bench_report("audit", settings, figures, packages=("cryptography", "pydantic"), bars=bars)


def _line(file: BinaryIO, data: bytes) -> None:
    file.write(data + b"\n")
