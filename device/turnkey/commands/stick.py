"""`turnkey stick`: what is signed and lies on a stick is offered to the device, as if somebody had typed the commands.

An image has no login. The unit `turnkey-stick` runs this where a stick with the right name is put in.

    authority/*           turnkey authority follow
    orders/*              turnkey order apply
    cases/*.tkcase        turnkey case apply
    update/ or update.zip turnkey update apply       (policy and models come that way too)
    ledger/               where this folder is there, the ledger is written into it
    <device>.request.json what the signers of a release order need; written anew
    <device>.report.jsonl what became of each file; a line is added for each

Rules kept here:
1. A stick is a carrier and nothing else: each file goes through the same checks as from anywhere, in a process of its
   own, and none is read here.
2. Stops before anything else could be late: what changes who may sign and what is ordered comes first, updates last.
3. Nothing is written but what a person at the device may have: no lead, no template, no picture.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from turnkey.commands.settled import JsonOption, chosen_config, chosen_settings, fail

MOST_FILES: Final = 64
MOST_SAID: Final = 2000
LIMIT_S: Final = 3600.0
"""For each file: an update from a slow stick takes longest. The unit gives all of them together twice as long."""

_FOLDERS: Final = (
    ("authority", "*", ("authority", "follow")),
    ("orders", "*", ("order", "apply")),
    ("cases", "*.tkcase", ("case", "apply")),
)


@dataclass(frozen=True)
class Errand:
    """One command for one file of the stick."""

    words: tuple[str, ...]
    file: Path


@dataclass(frozen=True)
class Done:
    """What a command said, and its exit status."""

    status: int
    said: str


@dataclass(frozen=True)
class Outcome:
    """A line of the report: when, which file, the command's exit status (0: done), what it said."""

    at: str
    file: str
    exit: int
    said: str


Run = Callable[[Sequence[str]], Done]


def errands(stick: Path) -> tuple[Errand, ...]:
    """What lies on a stick for this device, in the order in which it is offered; of each kind `MOST_FILES` at most."""
    found = []
    for folder, pattern, words in _FOLDERS:
        files = sorted(file for file in (stick / folder).glob(pattern) if file.is_file() and not file.is_symlink())
        found += [Errand(words, file) for file in files if not file.name.startswith(".")][:MOST_FILES]
    updates = (stick / "update", stick / "update.zip")
    return (*found, *(Errand(("update", "apply"), place) for place in updates if place.exists()))


def take(stick: Path, device_id: str, run: Run, now: Callable[[], datetime]) -> Iterator[Outcome]:
    """Offer everything on the stick, and write there what became of it. Yields: each outcome. Raises: OSError."""
    wanted = list(errands(stick))
    if (stick / "ledger").is_dir():
        wanted.append(Errand(("ledger", "export"), stick / "ledger" / device_id))
    for errand in wanted:
        done = run((*errand.words, str(errand.file)))
        at = now().isoformat(timespec="seconds")
        outcome = Outcome(at, str(errand.file.relative_to(stick)), done.status, done.said[-MOST_SAID:])
        _write(stick / f"{device_id}.report.jsonl", json.dumps(asdict(outcome)), "a")
        yield outcome
    # Last: what an order has changed is in it.
    asked = run(("order", "request"))
    if asked.status == 0:
        _write(stick / f"{device_id}.request.json", asked.said, "w")


def _write(file: Path, line: str, mode: Literal["a", "w"]) -> None:
    with file.open(mode, encoding="utf-8") as opened:
        opened.write(line + "\n")
        opened.flush()
        os.fsync(opened.fileno())


def _run(words: Sequence[str]) -> Done:
    config = chosen_config()
    chosen = () if config is None else ("--config", str(config))
    program = (sys.executable, "-I", "-c", "from turnkey.start import main; main()", *chosen, *words)
    try:
        ended = subprocess.run(program, capture_output=True, text=True, timeout=LIMIT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return Done(1, f"ended after {LIMIT_S:.0f} s")
    return Done(ended.returncode, ended.stdout.strip() or ended.stderr.strip())


def stick(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The mounted stick.")],
    as_json: JsonOption = False,
) -> None:
    """Offer everything that lies on a stick to this device: orders, case packets, updates.

    Folders on it: authority, orders, cases (*.tkcase), update (or update.zip); the ledger is written into a folder
    ledger, where there is one. What became of each file is added to <device>.report.jsonl on the stick, and
    <device>.request.json has what the signers of a release order need. Exit code 1 where any file was refused.
    """
    refused = False
    try:
        for outcome in take(folder, chosen_settings().device_id, _run, lambda: datetime.now(UTC)):
            refused |= outcome.exit != 0
            typer.echo(json.dumps(asdict(outcome)) if as_json else f"{outcome.file}: {outcome.said}")
    except OSError as error:
        fail(f"{error.filename or folder}: {error.strerror or error}")
    if refused:
        raise typer.Exit(1)
