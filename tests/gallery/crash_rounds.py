"""Kill a gallery at random moments, and look at what is left.

    python tests/gallery/crash_rounds.py --rounds 500 --seed 1 --folder DIR

Each round forks a writer that enrols, expunges, snapshots and rotates keys as fast as it can, says through a pipe what
it begins and what was acknowledged, and is killed (SIGKILL) after a random time. Then the gallery is opened again:

* every acknowledged enrolment that nobody asked to expunge is there, and its template is found;
* nothing whose expungement was acknowledged is there;
* the index equals the rows, from the snapshot and from the rows alone, and every row opens;
* exactly one of the old and the new key opens it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from gallery.galleries import MODEL, enrol, live, unit

from turnkey.gallery import partition, rotation
from turnkey.gallery.gallery import Gallery
from turnkey.gallery.store import TemplateStore, WrongKey

LONGEST_MS = 120.0


@dataclass
class Expected:
    """What must hold. `doubtful`: begun, not acknowledged, either way is right."""

    present: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    doubtful: set[int] = field(default_factory=set)
    next_number: int = 1
    key: int = 1
    key_doubtful: bool = False


class Violation(AssertionError):
    """A promise was broken."""


def key_of(number: int) -> bytes:
    return number.to_bytes(32, "little")


def write_forever(path: Path, seed: int, expected: Expected, pipe: int) -> None:
    """The writer: runs until it is killed."""
    chance = random.Random(seed)  # noqa: S311
    gallery = Gallery(path, MODEL)
    gallery.unlock(key_of(expected.key))
    key = expected.key
    present = sorted(expected.present)

    def say(word: str, number: int = 0) -> None:
        os.write(pipe, f"{word} {number}\n".encode())

    say("ready")
    if gallery.rotation_pending:
        gallery.continue_rotation(live())
    number = expected.next_number
    while True:
        what = chance.random()
        if what < 0.55 or len(present) < 30:
            say("enrolling", number)
            enrol(gallery, f"E-{number}", number)
            say("enrolled", number)
            present.append(number)
            number += 1
        elif what < 0.85:
            victim = present.pop(chance.randrange(len(present)))
            say("expunging", victim)
            if gallery.expunge("cases", f"E-{victim}"):
                say("expunged", victim)
        elif what < 0.95:
            gallery._indexes["cases"].snapshot(gallery._store)
        else:
            say("rotating", key + 1)
            gallery.rotate(key_of(key), key_of(key + 1), live())
            say("rotated", key + 1)
            key += 1
            gallery.continue_rotation(live())


def note(expected: Expected, lines: list[str]) -> None:
    """Bring the expectation up to what the writer said."""
    for line in lines:
        word, number = line.split()[0], int(line.split()[1])
        if word == "enrolling":
            expected.doubtful.add(number)
            expected.next_number = number + 1
        elif word == "enrolled":
            expected.doubtful.discard(number)
            expected.present.add(number)
        elif word == "expunging":
            expected.present.discard(number)
            expected.doubtful.add(number)
        elif word == "expunged":
            expected.doubtful.discard(number)
            expected.gone.add(number)
        elif word == "rotating":
            expected.key_doubtful = True
        elif word == "rotated":
            expected.key, expected.key_doubtful = number, False


def opened(path: Path, expected: Expected) -> Gallery:
    """The gallery with the one key that opens it."""
    good = []
    for number in range(expected.key, expected.key + 1 + expected.key_doubtful):
        gallery = Gallery(path, MODEL)
        try:
            gallery.unlock(key_of(number))
        except WrongKey:
            continue
        good.append((number, gallery))
    if len(good) != 1:
        raise Violation(f"{len(good)} keys open the gallery")
    expected.key, expected.key_doubtful = good[0][0], False
    return good[0][1]


def look(path: Path, expected: Expected) -> None:
    """Hold the gallery to its promises; afterwards nothing is doubtful any more."""
    gallery = opened(path, expected)
    store = TemplateStore(path, None)
    references = {int(reference[2:]) for (reference,) in store.database.rows("SELECT reference FROM template")}
    if lost := expected.present - references:
        raise Violation(f"acknowledged enrolments lost: {sorted(lost)}")
    if back := expected.gone & references:
        raise Violation(f"expunged templates are back: {sorted(back)}")
    if strange := references - expected.present - expected.doubtful:
        raise Violation(f"never enrolled: {sorted(strange)}")
    numbers = store.numbers("cases")
    for source in ("snapshot", "rows"):
        if not np.array_equal(gallery._indexes["cases"].matrix.numbers(), numbers):
            raise Violation(f"the index from the {source} is not the rows")
        for number in sorted(references)[:: max(1, len(references) // 10)]:
            first = gallery.search("cases", unit(number), 1, live()).candidates[0]
            if first.reference != f"E-{number}" or first.score < 0.999:
                raise Violation(f"E-{number} is not found: {first}")
        gallery.lock()
        if source == "snapshot":
            for file in path.parent.glob(f"{path.name}.*.scan"):
                file.unlink()
            gallery.unlock(key_of(expected.key))
    store.close()
    expected.present, expected.doubtful = references, set()


def one_round(path: Path, seed: int, expected: Expected) -> int:
    """Write, kill, look. Returns how many things the writer said."""
    chance = random.Random(seed)  # noqa: S311
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        try:
            write_forever(path, seed, expected, write_end)
        except BaseException as error:
            os.write(2, f"writer: {error!r}\n".encode())
        os._exit(3)
    os.close(write_end)
    said = os.read(read_end, 1 << 16)
    time.sleep(chance.uniform(0, LONGEST_MS) / 1e3)
    os.kill(child, signal.SIGKILL)
    while more := os.read(read_end, 1 << 16):
        said += more
    os.close(read_end)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise Violation("the writer failed by itself")
    lines = said.decode().splitlines()
    note(expected, lines)
    look(path, expected)
    return len(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, required=True)
    told = parser.parse_args()
    partition.SNAPSHOT_ROWS = 10
    rotation.BATCH_ROWS = 8
    expected, said = Expected(), 0
    path = told.folder / "gallery.db"
    for number in range(told.rounds):
        try:
            said += one_round(path, told.seed * 1_000_003 + number, expected)
        except Violation as violation:
            sys.stdout.write(f"round {number} of seed {told.seed}: {violation}\n")
            return 1
    sys.stdout.write(
        f"{told.rounds} kills, {said} steps begun or acknowledged, {len(expected.present)} templates there, "
        f"{len(expected.gone)} expunged, {expected.key - 1} rotations: every promise kept\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
