"""Template packs between two whole devices: the round trip, and what each end keeps of it."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from booking_room import events
from exchange import Pair, change_policy, exported, fill, imported, order, provision_pair, refused, room, running, units

from turnkey.device import Device
from turnkey.leads.records import PackAccepted, PackEnrolled, PackExported, PackImported, PackPresented
from turnkey.pack_export import export_pack


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TURNKEY_INTERLOCK__CLOSING_STABLE_MS", "100")
        patch.setenv("TURNKEY_INTERLOCK__LEASE_VALIDITY_MS", "5000")
        patch.setenv("TURNKEY_ATTESTATION__PUBLISH", "false")
        yield provision_pair(tmp_path)


def test_templates_go_from_one_device_to_the_other_and_are_found_there(pair: Pair, tmp_path: Path) -> None:
    templates = units(1500)
    ended = datetime.now(UTC) + timedelta(days=30)
    with running(pair.sender) as here, (tmp_path / "x.tkpack").open("w+b") as file:
        fill(here, templates, delete_after=ended)
        made = exported(here, order(pair), file)
        assert (made.rows, made.left) == (1500, {})
        told = [event for event in events(here) if isinstance(event, PackExported)]
        assert [(event.rows, event.to_device, event.pack_digest) for event in told] == [(1500, "booth-2", made.digest)]
        with running(pair.receiver) as there:
            outcome = imported(there, file)
            assert (outcome.rows, outcome.enrolled, outcome.refused) == (1500, 1500, {})
            assert outcome.digest == made.digest
            kinds = [type(event) for event in events(there) if event.kind.startswith("template-pack")]
            assert kinds[:2] == [PackPresented, PackAccepted]
            assert kinds[-1] is PackImported
            assert sum(event.rows for event in events(there) if isinstance(event, PackEnrolled)) == 1500
            found = there.gallery.search("bookings", templates[1400], 1, there.interlock.permit())
            assert found.gallery_size == 1500
            assert (found.candidates[0].reference, round(found.candidates[0].score, 5)) == ("B-1401", 1.0)
            with there.gallery.rows() as store:
                row = store.get(found.candidates[0].row)
            assert row is not None
            assert (row.quality, row.delete_after) == (50, ended)
    with running(pair.receiver) as there:
        assert there.gallery.counters().rows["bookings"] == 1500, "gallery and ledger agree at the next boot"
        assert not [event for event in events(there) if event.kind == "tamper"]


def test_what_came_in_a_pack_does_not_go_out_in_one_and_what_retention_ended_stays(pair: Pair, tmp_path: Path) -> None:
    with running(pair.sender) as here, running(pair.receiver) as there, (tmp_path / "x").open("w+b") as file:
        fill(here, units(3), "bookings")
        exported(here, order(pair), file)
        imported(there, file)
        fill(there, units(2, seed=2))
        fill(there, units(1, seed=3), delete_after=datetime.now(UTC) - timedelta(days=1))
        back = Pair(pair.receiver, pair.sender)
        with (tmp_path / "back").open("w+b") as second:
            made = exported(there, order(back), second)
            assert (made.rows, made.left) == (2, {"came-from-another-device": 3, "retention-ended": 1})
            assert imported(here, second).enrolled == 2


def test_a_row_comes_in_once_and_not_again_after_it_was_expunged(pair: Pair, tmp_path: Path) -> None:
    with running(pair.sender) as here, running(pair.receiver) as there:
        fill(here, units(3))
        for number, expected in enumerate(({}, {"imported-before": 3})):
            with (tmp_path / str(number)).open("w+b") as file:
                exported(here, order(pair), file)
                outcome = imported(there, file)
                assert (outcome.enrolled, outcome.refused) == (0 if expected else 3, expected)
                there.gallery.expunge("bookings", "B-2")
        assert there.gallery.counters().rows["bookings"] == 2


def test_each_row_is_held_to_the_receiving_policy_and_counted_by_its_reason(pair: Pair, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with running(pair.sender) as here, running(pair.receiver) as there, (tmp_path / "x").open("w+b") as file:
        fill(here, units(2))
        fill(here, units(3, seed=2), enrolled_at=now - timedelta(days=400))
        fill(here, units(1, seed=3), enrolled_at=now + timedelta(days=1))
        with here.gallery.rows() as store, store.database.transaction():
            store.database.execute("UPDATE template SET quality = 3 WHERE row = 1")
        change_policy(pair.receiver, min_quality=20)
        exported(here, order(pair), file)
        outcome = imported(there, file)
        assert outcome.enrolled == 1
        assert outcome.refused == {"retention-ended": 3, "quality-below-floor": 1, "enrolled-in-the-future": 1}
        (told,) = [event for event in events(there) if isinstance(event, PackImported)]
        assert (told.enrolled, told.refused) == (1, outcome.refused)
        with there.gallery.rows() as store:
            row = store.get(1)
        assert row is not None
        assert row.delete_after == row.enrolled_at + timedelta(days=365), "from the first enrolment, not from today"


def moratorium(device: Device) -> None:
    device.interlock.halt("for-the-test")


def test_a_stop_in_the_middle_of_an_export_leaves_no_pack_and_the_order_is_still_good(
    pair: Pair, tmp_path: Path
) -> None:
    envelope = order(pair)
    with running(pair.sender) as here, (tmp_path / "x").open("w+b") as file:
        fill(here, units(2100))

        def stop(done: int, _of: int) -> None:
            if done == 2048:
                moratorium(here)

        outcome = export_pack(room(here), envelope, file, progress=stop)
        assert getattr(outcome, "step", "") == "interlock", outcome
        file.seek(0)
        assert not any(file.read(1000)), "no head: nobody can ever open it"
        assert not [event for event in events(here) if isinstance(event, PackExported)]
        again = export_pack(room(here), envelope, file)
        assert getattr(again, "step", "") == "interlock", "impossible in a moratorium"
    with running(pair.sender) as here, (tmp_path / "y").open("w+b") as file:
        assert exported(here, envelope, file).rows == 2100
        np.testing.assert_equal(here.gallery.counters().rows["bookings"], 2100)


class FullDisk(io.BytesIO):
    """A file on a disk that is full."""

    def write(self, _data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_damaged_row_and_a_full_disk_make_no_pack_and_are_named(pair: Pair, tmp_path: Path) -> None:
    envelope = order(pair)
    with running(pair.sender) as here, (tmp_path / "x").open("w+b") as file:
        fill(here, units(5))
        outcome = export_pack(room(here), envelope, FullDisk())
        assert (getattr(outcome, "step", ""), refused(outcome)) == ("template-pack", "disk")
        with here.gallery.rows() as store, store.database.transaction():
            ((sealed,),) = store.database.rows("SELECT sealed FROM template WHERE row = 3")
            changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
            store.database.execute("UPDATE template SET sealed = ? WHERE row = 3", changed)
        outcome = export_pack(room(here), envelope, file)
        assert (getattr(outcome, "step", ""), refused(outcome)) == ("gallery", "row-damaged")
        assert not [event for event in events(here) if isinstance(event, PackExported)]
        file.seek(0)
        assert not any(file.read(1000)), "no head"
        with here.gallery.rows() as store, store.database.transaction():
            store.database.execute("UPDATE template SET sealed = ? WHERE row = 3", sealed)
        assert exported(here, envelope, file).rows == 5, "neither cost the order"
