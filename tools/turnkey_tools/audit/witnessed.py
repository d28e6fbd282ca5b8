"""A witness's file: the checkpoints that it cosigned, and the contradictions that it caught, one JSON value a line.

    {"format": "turnkey-witness/1", "device_id": ..., "witness": <verifier key>}
    {"note": "..."}                     a checkpoint with the log's signature and the witness's cosignature
    {"fork": ["...", "..."]}            two checkpoints of one size with two roots, both signed by the log

The key in the file is for people; the auditor brings the key that he believes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from turnkey.leads.records import DeviceId, Record
from turnkey.notary.note import Checkpoint, NoteError, Verifier, parse_note, read_checkpoint

FORMAT: Final = "turnkey-witness/1"


class WitnessHead(Record):
    """The first line."""

    format: Literal["turnkey-witness/1"] = "turnkey-witness/1"
    device_id: DeviceId
    witness: Annotated[str, Field(max_length=256)]


class WitnessFileError(ValueError):
    """Not a witness's file for this device."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The witness held a tree of `size` entries with this root at `time_s` (POSIX seconds)."""

    size: int
    root: bytes
    time_s: int


@dataclass
class Testimony:
    """What a witness says, each signature checked.

    Attributes:
        seen: by rising size; the earliest time for each size.
        wrong: how many lines bear a signature that is wrong, or none.
        forks: pairs of checkpoints, both signed by the device, that contradict each other.
    """

    seen: list[Seen] = field(default_factory=list)
    wrong: int = 0
    forks: list[tuple[Checkpoint, Checkpoint]] = field(default_factory=list)


def read_testimony(path: Path, log: Verifier, witness: Verifier, device_id: str) -> Testimony:
    """Read a witness's file.

    Args:
        log: the device's key on checkpoints.
        witness: the key that the auditor believes.

    Raises:
        WitnessFileError: it is another file, or about another device.
        OSError: it cannot be read.
    """
    testimony = Testimony()
    first: dict[int, Seen] = {}
    with path.open("rb") as file:
        try:
            head = WitnessHead.model_validate_json(file.readline(4096))
        except ValidationError as error:
            raise WitnessFileError(f"{path}: not a witness's file") from error
        if head.device_id != device_id:
            raise WitnessFileError(f"{path}: about {head.device_id}, not about {device_id}")
        for line in file:
            try:
                _take(testimony, first, json.loads(line), log, witness)
            except (NoteError, ValueError, KeyError, TypeError):
                testimony.wrong += 1
    for seen in first.values():
        testimony.seen.append(seen)
    testimony.seen.sort(key=lambda one: one.size)
    return testimony


def _take(testimony: Testimony, first: dict[int, Seen], said: dict[str, object], log: Verifier, by: Verifier) -> None:
    if "fork" in said:
        one, two = (read_checkpoint(str(note), log) for note in _list(said["fork"]))
        if one.size != two.size or one.root == two.root:
            raise ValueError("no contradiction")
        testimony.forks.append((one, two))
        return
    note = parse_note(str(said["note"]))
    time_s = by.cosigned_at(note)
    if time_s is None or not log.signed(note):
        raise NoteError("not-signed", "not cosigned")
    checkpoint = Checkpoint.from_text(note.text)
    if checkpoint.origin != log.key.name:
        raise NoteError("other-log", "about another log")
    known = first.get(checkpoint.size)
    if known is not None and known.root != checkpoint.root:
        testimony.forks.append((Checkpoint(checkpoint.origin, known.size, known.root), checkpoint))
    if known is None or time_s < known.time_s:
        first[checkpoint.size] = Seen(checkpoint.size, checkpoint.root, time_s)


def _list(value: object) -> list[object]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("a fork is two notes")
    return value
