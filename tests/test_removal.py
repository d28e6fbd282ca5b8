"""What leaves the gallery: expunged with a receipt that others can check, or ended by retention, stopped or not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from booking_room import RunningDevice, events, lay
from typer.testing import CliRunner

from turnkey.cli import app
from turnkey.envelope import SigningKey
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.leads.records import Expunged
from turnkey.notary.ledger import leaf_hash
from turnkey.removal import Remover
from turnkey_tools.cli import app as workstation
from turnkey_tools.pilot import Pilot
from turnkey_tools.receipt import ReceiptError, read_receipt

CASE = "ardern/ardern-2018.jpg"
MATE = "ardern/ardern-2022.jpg"


def test_an_expungement_in_a_moratorium_is_recorded_and_certified(
    pilot: Pilot, running: RunningDevice, switch: SimulatedSwitch
) -> None:
    lay(pilot, CASE, MATE)
    with running() as device:
        device.booth.enrol_case("C-2026-1")
        device.booth.enrol_case("C-2026-1")
        switch.open_key()
        remover = Remover(device.gallery, device.notary)
        removed = remover.expunge("cases", "C-2026-1", "court-order")
        assert removed.templates == {"cases": 2}
        assert remover.expunge("cases", "C-2026-1", "court-order").receipts == ()
        key = SigningKey.from_pem(device.settings.signing_key.read_bytes()).public
        (envelope,) = removed.receipts
        receipt = read_receipt(envelope, key)
        assert (receipt.device_id, receipt.removed.reference) == (pilot.device_id, "C-2026-1")
        assert receipt.ledger_root == device.journal.root_at(receipt.ledger_size).hex()
        entries = device.journal.entries(receipt.first_entry, len(receipt.removed.rows))
        assert all(b'"expungement"' in data and leaf_hash(data) for data in entries)
        assert [event.row for event in events(device) if isinstance(event, Expunged)] == list(receipt.removed.rows)
        with pytest.raises(ReceiptError, match="not-signed"):
            read_receipt(envelope, SigningKey.generate().public)
        with pytest.raises(ReceiptError, match="not-signed"):
            read_receipt(envelope.replace(b'"sig":"', b'"sig":"AAAA', 1), key)


def test_what_retention_ends_is_removed_and_on_the_ledger(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, CASE, MATE)
    with running() as device:
        device.booth.enrol_case("C-2026-1")
        device.booth.book("B-1")
        remover = Remover(device.gallery, device.notary)
        now = datetime.now(UTC)
        assert remover.retain(now).templates == {"bookings": 0, "cases": 0}
        assert remover.retain(now + timedelta(days=366)).templates == {"bookings": 1, "cases": 0}
        assert remover.retain(now + timedelta(days=1827)).templates == {"bookings": 0, "cases": 1}
        gone = [event for event in events(device) if isinstance(event, Expunged)]
        assert [(event.partition, event.reason) for event in gone] == [
            ("bookings", "retention-ended"),
            ("cases", "retention-ended"),
        ]
        assert device.gallery.size("bookings") == device.gallery.size("cases") == 0


def test_the_operator_gets_a_receipt_that_a_workstation_verifies(
    pilot: Pilot, running: RunningDevice, tmp_path: Path
) -> None:
    lay(pilot, CASE)
    with running() as device:
        device.booth.enrol_case("C-2026-1")
        public = tmp_path / "device.pem"
        public.write_bytes(SigningKey.from_pem(device.settings.signing_key.read_bytes()).public.to_pem())

    def expunge(*words: str) -> tuple[int, str]:
        command = ["--config", str(pilot.settings_file), "expunge", *words, "--receipt", str(tmp_path / "receipt")]
        done = CliRunner().invoke(app, command)
        return done.exit_code, done.output

    assert expunge("cases", "C-2026-1", "--reason", "No Code")[0] == 2
    assert expunge("nowhere", "C-2026-1", "--reason", "court-order")[0] == 2
    code, said = expunge("cases", "C-2026-1", "--reason", "court-order")
    assert code == 0, said
    assert "1 template(s)" in said
    assert expunge("cases", "C-2026-1", "--reason", "court-order")[0] == 2, "a receipt is never written over"
    read = CliRunner().invoke(workstation, ["receipt", str(tmp_path / "receipt"), "--device-key", str(public)])
    assert read.exit_code == 0, read.output
    assert "1 template(s) of C-2026-1 left" in read.stdout
    (tmp_path / "receipt").write_text("{}")
    refused = CliRunner().invoke(workstation, ["receipt", str(tmp_path / "receipt"), "--device-key", str(public)])
    assert refused.exit_code == 1
