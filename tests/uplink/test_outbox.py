"""The outbox: what was put stays until it is done, whatever happens in between."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from turnkey.database import StorageDamaged, StorageFull, StorageNewer
from turnkey.uplink.outbox import MessageConflict, Outbox, OutboxFull, OutboxLimits, PayloadRefused

TOPIC = "turnkey/v1/booking-1/lead"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def test_rows_come_back_in_the_order_they_were_put_after_a_reopening(path: Path) -> None:
    with Outbox(path) as outbox:
        put = [outbox.put(TOPIC, f"{n}".encode()) for n in range(5)]
    with Outbox(path) as outbox:
        head = outbox.head(10)
        assert [message.payload for message in head] == [b"0", b"1", b"2", b"3", b"4"]
        assert [message.sequence for message in head] == put == sorted(put)
        assert [message.sequence for message in outbox.head(2, after=put[1])] == put[2:4]


def test_done_removes_that_row_only(path: Path) -> None:
    with Outbox(path) as outbox:
        first, second = outbox.put(TOPIC, b"a"), outbox.put(TOPIC, b"b")
        outbox.done(first)
        outbox.done(first)
        assert [message.sequence for message in outbox.head(10)] == [second]


def test_second_put_under_one_message_id_adds_nothing_even_after_delivery(path: Path) -> None:
    with Outbox(path) as outbox:
        first = outbox.put(TOPIC, b"a", "lead-1")
        assert outbox.put(TOPIC, b"a", "lead-1") == first
        assert outbox.depth() == 1
        outbox.done(first)
        assert outbox.put(TOPIC, b"a", "lead-1") == first
        assert outbox.depth() == 0


def test_other_content_under_a_known_message_id_is_a_conflict(path: Path) -> None:
    with Outbox(path) as outbox:
        first = outbox.put(TOPIC, b"a", "lead-1")
        with pytest.raises(MessageConflict):
            outbox.put(TOPIC, b"b", "lead-1")
        outbox.done(first)
        with pytest.raises(MessageConflict):
            outbox.put(TOPIC, b"b", "lead-1")


def test_sequence_is_never_used_again_after_the_outbox_ran_empty(path: Path) -> None:
    with Outbox(path) as outbox:
        first = outbox.put(TOPIC, b"a")
        outbox.done(first)
    with Outbox(path) as outbox:
        assert outbox.put(TOPIC, b"b") > first


def test_acknowledged_rows_wait_again_after_restore(path: Path) -> None:
    with Outbox(path) as outbox:
        rows = [outbox.put(TOPIC, f"{n}".encode()) for n in range(4)]
        outbox.acknowledge(rows[:3])
        outbox.done(rows[0])
        assert outbox.depth() == 1
        assert outbox.restore() == 2
        assert [message.sequence for message in outbox.head(10)] == rows[1:]


@pytest.mark.parametrize(
    ("limits", "reason"), [(OutboxLimits(max_messages=2), "messages"), (OutboxLimits(max_bytes=20), "bytes")]
)
def test_full_outbox_refuses_by_name_and_keeps_what_it_has(path: Path, limits: OutboxLimits, reason: str) -> None:
    with Outbox(path, limits) as outbox:
        rows = [outbox.put(TOPIC, b"0123456789", "a"), outbox.put(TOPIC, b"0123456789", "b")]
        with pytest.raises(OutboxFull) as caught:
            outbox.put(TOPIC, b"0123456789", "c")
        assert caught.value.reason == reason
        assert outbox.depth() == 2
        assert outbox.put(TOPIC, b"0123456789", "a") == rows[0]  # a known one is not a new one
        outbox.done(rows[0])
        outbox.put(TOPIC, b"0123456789", "c")


def test_acknowledged_rows_still_count_towards_the_limit(path: Path) -> None:
    with Outbox(path, OutboxLimits(max_messages=1)) as outbox:
        row = outbox.put(TOPIC, b"a")
        outbox.acknowledge([row])
        with pytest.raises(OutboxFull):
            outbox.put(TOPIC, b"b")


@pytest.mark.parametrize(("payload", "reason"), [(b"", "empty"), (b"x" * 65537, "too-large")])
def test_payload_that_can_never_be_sent_is_refused(path: Path, payload: bytes, reason: str) -> None:
    with Outbox(path) as outbox:
        with pytest.raises(PayloadRefused) as caught:
            outbox.put(TOPIC, payload)
        assert caught.value.reason == reason


def test_full_disk_is_named_and_nothing_is_lost(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.put(TOPIC, b"a")
        pages = outbox._db.rows("PRAGMA page_count")[0][0]
        outbox._db.rows(f"PRAGMA max_page_count={pages}")  # SQLite answers SQLITE_FULL as it does on a full disk
        with pytest.raises(StorageFull) as caught:
            for n in range(100):
                outbox.put(TOPIC, b"x" * 4000 + f"{n}".encode())
        assert caught.value.reason == "disk"
        assert outbox.head(1)[0].payload == b"a"


def test_file_is_readable_by_its_owner_only(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.put(TOPIC, b"a")
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_file_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.put(TOPIC, b"a")
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    before = path.read_bytes()
    with pytest.raises(StorageNewer):
        Outbox(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to look at" * 40, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_rubbish_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StorageDamaged):
        Outbox(path)
    assert path.read_bytes() == content


def test_foreign_database_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE other (x)")
    with pytest.raises(StorageDamaged):
        Outbox(path)


_CHILD = """
import sys
from pathlib import Path
from turnkey.uplink.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]))
n = int(sys.argv[2])
while True:
    print("put", outbox.put("turnkey/v1/booking-1/lead", b"%d" % n, f"lead-{n}"), n, flush=True)
    if n % 3 == 0:
        first = outbox.head(1)[0]
        print("start", first.sequence, first.payload.decode(), flush=True)
        outbox.done(first.sequence)
    n += 1
"""


def test_process_killed_between_operations_loses_no_row_it_was_told_about(path: Path) -> None:
    """Eight SIGKILLs at random moments: every confirmed put is there or was on its way out; order holds."""
    chance = random.Random(4)  # noqa: S311 - moments, not secrets
    put: dict[int, int] = {}
    leaving: set[int] = set()
    number = 0
    for _ in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(path), str(number)], stdout=subprocess.PIPE, env=os.environ
        )
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.08))
        child.send_signal(signal.SIGKILL)
        lines = [first, *child.stdout.read().splitlines(keepends=True)]
        child.wait()
        for words in (line.split() for line in lines if line.endswith(b"\n")):
            if words[0] == b"put":
                put[int(words[2])] = int(words[1])
            else:
                leaving.add(int(words[2]))
        with Outbox(path) as outbox:
            here = [int(message.payload) for message in outbox.head(100_000)]
        assert here == sorted(here)
        assert set(put) - set(here) <= leaving
        number = max([*put, *here, *leaving]) + 1
    assert len(put) > 20


class OutboxAgainstAList(RuleBasedStateMachine):
    """Any order of operations gives what a plain list would."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.outbox = Outbox(Path(self.folder.name) / "outbox.db")
        self.rows: list[tuple[int, bytes]] = []
        self.acknowledged: set[int] = set()
        self.count = 0

    @rule()
    def put(self) -> None:
        self.count += 1
        payload = f"{self.count}".encode()
        self.rows.append((self.outbox.put(TOPIC, payload), payload))

    @rule(pick=st.integers(0, 50))
    def done(self, pick: int) -> None:
        if self.rows:
            sequence, _ = self.rows.pop(pick % len(self.rows))
            self.acknowledged.discard(sequence)
            self.outbox.done(sequence)

    @rule(pick=st.integers(0, 50))
    def acknowledge(self, pick: int) -> None:
        if self.rows:
            sequence = self.rows[pick % len(self.rows)][0]
            self.acknowledged.add(sequence)
            self.outbox.acknowledge([sequence])

    @rule()
    def restore(self) -> None:
        assert self.outbox.restore() == len(self.acknowledged)
        self.acknowledged.clear()

    @invariant()
    def same(self) -> None:
        waiting = [row for row in self.rows if row[0] not in self.acknowledged]
        assert [(m.sequence, m.payload) for m in self.outbox.head(100)] == waiting
        assert self.outbox.depth() == len(waiting)

    def teardown(self) -> None:
        self.outbox.close()
        self.folder.cleanup()


TestOutboxAgainstAList = OutboxAgainstAList.TestCase
TestOutboxAgainstAList.settings = settings(max_examples=6, stateful_step_count=20, deadline=None)
