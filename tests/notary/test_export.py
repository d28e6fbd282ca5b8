"""The export: what a signed checkpoint covers, whole or in part, and checkable by itself either way."""

from __future__ import annotations

import itertools
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from turnkey.cli import app
from turnkey.database import StorageError
from turnkey.envelope import SigningKey
from turnkey.leads.records import Boot, Heartbeat, Refused, SwitchChanged
from turnkey.notary.export import ExportHead, stretch, write_export
from turnkey.notary.journal import Journal
from turnkey.notary.notary import Clocks, Notary
from turnkey.notary.note import log_verifier, read_checkpoint
from turnkey_tools.audit.auditor import Audit, Evidence, audit
from turnkey_tools.pilot import Pilot

KEY = SigningKey.generate()
START = datetime(2026, 3, 1, tzinfo=UTC)
STOP = SwitchChanged(
    previous="BOOTING", state="MORATORIUM", reason="latch-missing", channel_a=False, channel_b=False, epoch=1
)
BEAT = Heartbeat(
    software="1.0", state="MORATORIUM", reason="latch-missing", epoch=1, channel_a=False, channel_b=False,
    relay_closed=False, policy="in-force", leads_waiting=0, uptime_s=60,
)  # fmt: skip


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Three boots an hour apart, each with twenty minutes of heartbeats, and an entry behind the last of them."""
    journal, ids = Journal(tmp_path / "ledger.db"), itertools.count(1)
    now = START
    clocks = Clocks(lambda: now, lambda: int(now.timestamp() * 1e9), lambda: f"{next(ids):032x}")
    for hour in range(3):
        now = START + timedelta(hours=hour)
        notary = Notary(journal, KEY, lambda *_: None, device_id="booth-1", clocks=clocks)
        notary.record(Boot(software="1.0", models={}))
        notary.record(STOP)
        for _ in range(20):
            now += timedelta(minutes=1)
            assert notary.beat(BEAT)
    notary.record(Refused(step="interlock", reason="key-open"))
    return journal


def exported(journal: Journal, out: Path, since: datetime | None = None, until: datetime | None = None) -> Audit:
    write_export(journal, "booth-1", stretch(journal, since, until), out)
    return audit(Evidence(out, KEY.public))


def test_all_that_is_signed_is_exported_and_what_is_not_yet_is_not(journal: Journal, tmp_path: Path) -> None:
    found = exported(journal, tmp_path / "export")
    assert (found.entries, journal.size) == (66, 67)
    assert set(found.findings.counts) == {"no-witness", "gap"}
    assert not list(tmp_path.glob("*.draft"))


def test_a_part_begins_with_a_boot_and_is_checkable_by_itself(journal: Journal, tmp_path: Path) -> None:
    out = tmp_path / "part"
    found = exported(journal, out, START + timedelta(minutes=70), START + timedelta(minutes=75))
    head = ExportHead.model_validate_json(out.read_bytes().splitlines()[0])
    assert (head.first, head.size) == (22, 22 + 2 + 15)
    assert found.findings.counts == {"no-witness": 1}
    assert [one.state for one in found.intervals] == ["MORATORIUM"]


def test_a_part_that_was_changed_is_found_out_by_the_same_checkpoint(journal: Journal, tmp_path: Path) -> None:
    out = tmp_path / "part"
    exported(journal, out, START + timedelta(minutes=70), START + timedelta(minutes=75))
    out.write_bytes(out.read_bytes().replace(b'"uptime_s":60', b'"uptime_s":61', 1))
    assert "proof-wrong" in audit(Evidence(out, KEY.public)).findings.counts


def test_nothing_signed_is_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no checkpoint"):
        stretch(Journal(tmp_path / "empty.db"), None, None)


def test_what_cannot_be_written_leaves_nothing_behind(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_export(journal, "booth-1", stretch(journal, None, None), tmp_path / "nowhere" / "export")


def test_the_command_says_where_there_is_no_ledger(pilot: Pilot, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--config", str(pilot.settings_file), "ledger", "export", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "there is no ledger here" in done.output
    assert not (pilot.settings().state / "ledger.db").exists()


@contextmanager
def interlock_apart() -> Iterator[Path]:
    """A socket where the interlock's own process would have one."""
    with tempfile.TemporaryDirectory(prefix="turnkey-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "interlock"
        listener.bind(str(path))
        yield path


def test_of_five_processes_it_is_the_notarys_ledger(
    pilot: Pilot, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNKEY_INTERLOCK__SOCKET__NOTARY_STATE", str(tmp_path))
    with interlock_apart() as path:
        monkeypatch.setenv("TURNKEY_INTERLOCK__SOCKET__PATH", str(path))
        config = ["--config", str(pilot.settings_file), "ledger"]
        done = CliRunner().invoke(app, [*config, "export", str(tmp_path / "out"), "--json"])
        assert done.exit_code == 0, done.output
        note = CliRunner().invoke(app, [*config, "checkpoint"]).stdout
    assert read_checkpoint(note, log_verifier("booth-1", KEY.public)).size == 66
    assert audit(Evidence(tmp_path / "out", KEY.public)).entries == 66
