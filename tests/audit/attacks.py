"""Attacks on a ledger by somebody who owns the device and holds its signing key, unless the attack says otherwise."""

from __future__ import annotations

import json
from datetime import timedelta

from audit.world import Attack, World

from turnkey.envelope import SigningKey
from turnkey.leads.records import Heartbeat, canonical
from turnkey.notary.note import cosign
from turnkey_tools.bench.ledger_script import WITNESS, LedgerScript


def delete_a_capture(world: World) -> None:
    world.history()
    place = world.index_of("capture", 5)
    world.touch(world.entry(place).at)
    del world.lines[place]


def delete_a_booking_and_renumber(world: World) -> None:
    world.history()
    place = world.index_of("capture", 4)
    world.touch(world.entry(place).at)
    del world.lines[place : place + 3]
    world.renumber()


def delete_a_booking_and_mend_the_counters(world: World) -> None:
    world.history()
    place = world.index_of("capture", 4)
    world.touch(world.entry(place).at)
    del world.lines[place : place + 3]
    for index in range(place, len(world.lines)):
        event = world.entry(index).event
        if isinstance(event, Heartbeat):
            world.change(index, captures=event.captures - 1, searches=event.searches - 1)
    world.renumber()


def reorder_two_entries(world: World) -> None:
    world.history()
    place = world.index_of("heartbeat", 100)
    world.touch(world.entry(place).at)
    world.lines[place], world.lines[place + 1] = world.lines[place + 1], world.lines[place]


def edit_an_entry(world: World) -> None:
    world.history()
    place = world.index_of("search", 6)
    world.touch(world.entry(place).at)
    world.change(place, gallery_size=1)


def edit_an_entry_and_leave_the_signature(world: World) -> None:
    world.history()
    world.checkpoint = world.sign()
    edit_place = world.index_of("search", 6)
    world.touch(world.entry(edit_place).at)
    world.change(edit_place, gallery_size=1)


def write_an_entry_another_way(world: World) -> None:
    world.history()
    place = world.index_of("refusal") if b'"kind":"refusal"' in b"".join(world.lines) else world.index_of("order")
    world.touch(world.entry(place).at)
    world.lines[place] = world.lines[place].replace(b'"event":', b'"event": ')


def truncate(world: World) -> None:
    world.history()
    kept = world.index_of("switch", 2)
    world.touch(world.entry(kept).at, world.device.now)
    del world.lines[kept:]


def cut_the_file(world: World) -> None:
    world.history()
    world.checkpoint = world.sign()
    world.touch(world.entry(len(world.lines) - 30).at, world.device.now)
    del world.lines[-30:]


def fork(world: World) -> None:
    """Two histories from one point on: one for the witness, one for the auditor, each signed."""
    world.history()
    shown, seen = list(world.lines), world.index_of("heartbeat", 80)
    world.touch(world.entry(seen).at, world.device.now)
    world.change(seen, leads_waiting=7)
    other = list(world.lines)
    world.lines[:] = shown
    for size in range(seen + 1, len(other), 20):
        world.witness.see(world.sign(lines=other[:size]), world.entry(size - 1).at + timedelta(seconds=3))


def sign_with_another_key(world: World) -> None:
    world.history()
    world.touch(world.entry(0).at, world.device.now)
    world.checkpoint = world.sign(SigningKey.generate())


def insert_a_backdated_order(world: World) -> None:
    world.history()
    place = world.index_of("capture", 2)
    order = world.entry(world.index_of("order"))
    world.touch(world.entry(place).at)
    world.lines.insert(place, canonical(order))
    world.renumber()


def append_a_backdated_entry(world: World) -> None:
    world.history()
    device = world.device
    now, world.device.now = device.now, device.now - timedelta(hours=3)
    device.record(world.entry(world.index_of("order")).event)
    device.now = now
    world.touch(now + timedelta(seconds=1), now + timedelta(minutes=1))
    device.wait(60)
    device.beat()
    world.publish()


def drop_heartbeats_from_the_file(world: World) -> None:
    world.history()
    first = world.index_of("heartbeat", 170)
    world.touch(world.entry(first).at, world.entry(first + 9).at)
    del world.lines[first : first + 10]
    world.renumber()


def stop_beating_for_a_while(world: World) -> None:
    world.history()
    start = world.device.now
    world.minutes(20, beat=False, seen=False)
    world.touch(start + timedelta(seconds=1), world.device.now)
    world.minutes(20)


def set_the_clock_back(world: World) -> None:
    world.history()
    device = world.device
    world.touch(device.now + timedelta(seconds=1), device.now + timedelta(hours=6))
    device.now -= timedelta(hours=5)
    world.clock_behind = timedelta(hours=5)
    world.minutes(340)


def set_the_clock_forward(world: World) -> None:
    world.history()
    device, real = world.device, world.device.now
    device.now += timedelta(hours=6)
    world.touch(real + timedelta(minutes=1), device.now)
    world.minutes(5, seen=False)
    world.witness.see(device.checkpoint(), real + timedelta(minutes=5))


def replay_an_old_checkpoint(world: World) -> None:
    world.history()
    world.checkpoint = world.published[4][0]
    world.touch(world.entry(len(world.lines) - 5).at - timedelta(minutes=1), world.device.now)
    del world.lines[-3:]


def roll_the_disk_back_to_last_week(world: World) -> None:
    """The device is restored from an image and goes on; what happened since is gone from its own disk."""
    world.history()
    image, at = list(world.lines), world.device.now
    world.minutes(7 * 24 * 60)
    later = LedgerScript(world.lines.append, key=world.device.key, seed=99)
    later.now, later.monotonic_ns = world.device.now + timedelta(minutes=2), 10**9
    world.lines[:] = []
    for line in image:
        later.tree.append(line)
        world.lines.append(line)
    later.state, later.epoch = "MORATORIUM", world.device.epoch
    world.device = later
    later.boot()
    world.touch(at + timedelta(minutes=1), later.now + timedelta(minutes=20))
    world.minutes(30)


def work_in_a_moratorium(world: World) -> None:
    world.history()
    world.device.wait(20)
    world.device.book("B-9999")
    world.touch(world.device.now)
    world.minutes(20)


def begin_without_an_order(world: World) -> None:
    world.history()
    world.device.wait(20)
    world.device.switch("RUNNING", "released")
    world.touch(world.device.now, world.device.now + timedelta(minutes=20))
    world.minutes(20)


def begin_by_an_order_nobody_recorded(world: World) -> None:
    world.history()
    world.device.wait(20)
    world.device.switch("RUNNING", "released", world.device.id())
    world.touch(world.device.now, world.device.now + timedelta(minutes=20))
    world.minutes(20)


def begin_by_a_reboot(world: World) -> None:
    world.history()
    device = world.device
    device.boot()
    device.state = "BOOTING"
    device.wait(2)
    device.switch("RUNNING", "conditions-hold")
    world.touch(device.now, device.now + timedelta(minutes=20))
    world.minutes(20)


def set_the_latch_back(world: World) -> None:
    world.history()
    world.device.wait(20)
    world.device.epoch = 0
    world.device.switch("MORATORIUM", "key-opened")
    world.touch(world.device.now - timedelta(seconds=10))
    world.minutes(20)


def keep_a_lead_off_the_ledger(world: World) -> None:
    world.history()
    device = world.device
    device.release()
    device.wait(20)
    device._lead_number += 1
    device.book("B-7777", lead=True)
    world.touch(device.now)
    world.minutes(20)


def make_up_history_afterwards(world: World) -> None:
    """Nobody saw any of it while it is said to have happened."""
    device = world.device
    device.boot()
    device.wait(1)
    device.switch("MORATORIUM", "latch-missing")
    world.touch(device.now, device.now + timedelta(hours=10))
    world.minutes(600, seen=False)
    world.witness.see(device.checkpoint(), device.now + timedelta(days=3))


def forge_the_witness(world: World) -> None:
    world.history()
    forger, true = SigningKey.generate(), world.witness
    true.lines[1:] = []
    for note, at in world.published:
        true.lines.append(json.dumps({"note": cosign(note, WITNESS, forger, int(at.timestamp()))}))
    world.touch(world.entry(0).at, world.device.now)


ATTACKS = (
    Attack("delete a capture", delete_a_capture, "fork"),
    Attack("delete a booking, renumber", delete_a_booking_and_renumber, "fork"),
    Attack("delete a booking, renumber, mend every counter", delete_a_booking_and_mend_the_counters, "fork", False),
    Attack("reorder two entries", reorder_two_entries, "index-wrong"),
    Attack("edit an entry and sign anew", edit_an_entry, "fork", False),
    Attack("edit an entry, leave the signature", edit_an_entry_and_leave_the_signature, "root-differs"),
    Attack("write an entry another way", write_an_entry_another_way, "not-canonical"),
    Attack("truncate and sign anew", truncate, "export-ends-early", False),
    Attack("cut the file, leave the signature", cut_the_file, "proof-wrong"),
    Attack("fork: one history for the witness, one to show", fork, "witness-saw-fork", False),
    Attack("sign with another key", sign_with_another_key, "signature-wrong"),
    Attack("insert a back-dated order, renumber", insert_a_backdated_order, "monotonic-back"),
    Attack("append a back-dated order", append_a_backdated_entry, "clock-set-back"),
    Attack("drop heartbeats from the file, renumber", drop_heartbeats_from_the_file, "heartbeat-missing"),
    Attack("stop beating for twenty minutes", stop_beating_for_a_while, "gap"),
    Attack("set the clock back five hours", set_the_clock_back, "clock-set-back"),
    Attack("set the clock forward six hours", set_the_clock_forward, "dated-after-witness"),
    Attack("replay an old checkpoint", replay_an_old_checkpoint, "proof-wrong"),
    Attack("roll the disk back to last week", roll_the_disk_back_to_last_week, "fork"),
    Attack("work in a moratorium", work_in_a_moratorium, "work-while-stopped"),
    Attack("begin without an order", begin_without_an_order, "release-without-order"),
    Attack("begin by an order that is not recorded", begin_by_an_order_nobody_recorded, "release-without-order"),
    Attack("begin by a reboot", begin_by_a_reboot, "started-by-itself"),
    Attack("set the latch back", set_the_latch_back, "epoch-fell"),
    Attack("keep a lead off the ledger", keep_a_lead_off_the_ledger, "lead-missing"),
    Attack("make up ten hours afterwards", make_up_history_afterwards, "", False),
    Attack("forge the witness's cosignatures", forge_the_witness, "witness-signature-wrong"),
)
