"""What the demonstration shows, act by act, and what has to be seen in each.

Everything is looked at from outside: the desk's store, the ledger, the outcomes that the booth returned.
"""

from __future__ import annotations

import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from turnkey.booth import Recorded, Refusal
from turnkey.capture.folder import FolderCamera
from turnkey.casework import PacketApplied
from turnkey.device import Device
from turnkey.interlock.machine import State
from turnkey.interlock.orders import OrderAccepted
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.leads.records import Captured, Enrolled, Lead, LeadSigned, LedgerEntry, Searched, SwitchChanged
from turnkey_tools.audit.intervals import Verdict
from turnkey_tools.broker import Broker
from turnkey_tools.demo.packets import case_packet
from turnkey_tools.demo.proof import Watcher, is_proven_stop, prove
from turnkey_tools.leads import view
from turnkey_tools.leads.cli import device_keys
from turnkey_tools.leads.desk import Accepted
from turnkey_tools.leads.permitted import signed_policies
from turnkey_tools.leads.store import Store
from turnkey_tools.leads.subscription import Subscription
from turnkey_tools.pilot import Pilot

CASES = (("C-2026-0417", "ardern/ardern-2018.jpg"), ("C-2026-0981", "macron/macron-2014.jpg"))
BOOKINGS = (
    ("B-1001", "obama/obama-2012.jpg", None),
    ("B-1002", "ardern/ardern-2022.jpg", "C-2026-0417"),
    ("B-1003", "collins/collins-nasa.png", None),
    ("B-1004", "macron/macron-2025.jpg", "C-2026-0981"),
    ("B-1005", "sunak/sunak-2017.jpg", None),
)
LATE_CASE = ("C-2026-1204", "obama/obama-senate.jpg", "B-1001")
DESK = "lead-desk"
LEAD_TIMEOUT_S = 10.0
STOP_AFTER_S = 1.2
BOOKED_BEFORE_THE_STOP = 2
PATIENCE_S = 60.0
"""How long the slowest machine may take for what is waited for."""


@dataclass
class Checks:
    """What had to be seen, and whether it was."""

    console: Console
    failed: int = 0

    def see(self, what: str, seen: bool) -> None:
        """Note one thing that had to be seen."""
        self.failed += not seen
        self.console.print(f"  [green]seen[/]     {what}" if seen else f"  [bold red]NOT SEEN[/] {what}")


class Demo:
    """One demonstration on a provisioned pilot."""

    def __init__(self, pilot: Pilot, broker: Broker, faces: Path, console: Console) -> None:
        self._pilot = pilot
        self._broker = broker
        self._faces = faces
        self._console = console
        self._checks = Checks(console)
        self._switch = SimulatedSwitch()

    def run(self) -> int:
        """Run all acts. Returns how many things that had to be seen were not."""
        self._lay_out_pictures()
        with self._desk() as desk, Watcher(self._pilot, self._broker) as watcher:
            self._checks.see("a witness is listening too, for attestations only", watcher.listening)
            camera = FolderCamera(self._pilot.pictures)
            with Device(self._pilot.settings(), camera=camera, switch=self._switch) as device:
                device.start_uplink()
                self._commission(device)
                self._open_cases(device)
                leads = self._book(device) + self._late_case(device)
                self._receive(desk, leads)
            with Device(self._pilot.settings(), camera=self._queue(), switch=self._switch) as device:
                device.start_uplink()
                self._stop(device, desk)
                self._prove(device, watcher)
        return self._checks.failed

    def _title(self, text: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{text}", align="left")

    def _lay_out_pictures(self) -> None:
        """Put the pictures into the camera's folder in the order in which the demo takes them."""
        names = [picture for _, picture, _ in BOOKINGS]
        for place, name in enumerate(names):
            source = self._faces / name
            shutil.copyfile(source, self._pilot.pictures / f"{place:02}-{source.name}")
        two = Image.new("RGB", (1400, 900), (128, 128, 128))
        for place, name in enumerate(("obama/obama-2012.jpg", "ardern/ardern-2022.jpg")):
            with Image.open(self._faces / name) as face:
                two.paste(face.convert("RGB").resize((700, 900)), (700 * place, 0))
        two.save(self._pilot.pictures / f"{len(names):02}-two-people.png")
        (self._pilot.pictures / f"{len(names) + 1:02}-notes.jpg").write_text("a text file by mistake")

    def _queue(self) -> FolderCamera:
        """A camera in front of which people keep coming."""
        queue = self._pilot.root / "queue"
        queue.mkdir()
        for _, name, _ in BOOKINGS:
            shutil.copyfile(self._faces / name, queue / Path(name).name)
        return FolderCamera(queue, repeat=True)

    @contextmanager
    def _desk(self) -> Iterator[Subscription]:
        site = self._pilot.site
        keys = device_keys(site.desk_device_keys(DESK))
        policies = signed_policies(self._pilot.authority_file, [self._pilot.policy_file])
        with (
            Store(self._pilot.root / "desk.db") as store,
            Subscription(site.desk(DESK), self._broker.host, self._broker.port, keys, store, policies) as desk,
        ):
            self._checks.see("the lead desk is listening at the broker, over TLS", desk.listening(LEAD_TIMEOUT_S))
            yield desk

    def _commission(self, device: Device) -> None:
        self._title("A device fresh from the image is stopped, and stays so until it is released")
        outcome = device.booth.book("B-1000")
        self._console.print(f"  booking B-1000: {_said(outcome)}")
        self._checks.see(
            "no booking before commissioning", isinstance(outcome, Refusal) and outcome.step == "interlock"
        )
        self._switch.close_key()
        early = device.apply_order(self._pilot.release(device.interlock.release_request()))
        self._checks.see(
            f"a release order is refused until the key has been closed for a second ({_code(early)})",
            not isinstance(early, OrderAccepted),
        )
        device.key_settled()
        order = device.apply_order(self._pilot.release(device.interlock.release_request()))
        self._checks.see(
            "key closed, and a release order signed by 2 of 3: RUNNING",
            isinstance(order, OrderAccepted) and device.interlock.state is State.RUNNING,
        )

    def _open_cases(self, device: Device) -> None:
        self._title("Two open cases come as case packets, each signed by an analyst and by a supervisor")
        for number, picture in CASES:
            file = self._faces / picture
            alone = device.casework.apply(case_packet(self._pilot, number, file, approved=False))
            self._checks.see(f"{number}, signed by one: refused ({_code(alone)})", _code(alone) == "one-signer")
            packet = case_packet(self._pilot, number, file)
            outcome = device.casework.apply(packet)
            self._checks.see(
                f"{number}, signed by two: {picture} is enrolled, and searched once among the bookings",
                isinstance(outcome, PacketApplied) and outcome.search == "done" and outcome.lead is None,
            )
            again = device.casework.apply(packet)
            self._checks.see(f"{number} once more: refused ({_code(again)})", _code(again) == "packet-used-before")

    def _late_case(self, device: Device) -> list[Lead]:
        number, picture, booking = LATE_CASE
        self._title("A case that is opened later is searched among the bookings, once")
        outcome = device.casework.apply(case_packet(self._pilot, number, self._faces / picture))
        lead = outcome.lead if isinstance(outcome, PacketApplied) else None
        self._checks.see(
            f"{number}: one lead, whose origin is the case, to booking {booking}",
            lead is not None and lead.case_number == number and lead.candidates[0].reference == booking,
        )
        return [lead] if lead is not None else []

    def _book(self, device: Device) -> list[Lead]:
        self._title("Bookings: the officer sees 'recorded', and nothing else")
        table = Table("Booking", "Officer sees", "Leads", "Milliseconds per stage", box=None)
        leads: list[Lead] = []
        totals = []
        outcomes: list[tuple[str, str | None, Recorded | Refusal]] = []
        for number, _, case in BOOKINGS:
            outcome = device.booth.book(number)
            outcomes.append((number, case, outcome))
            if isinstance(outcome, Recorded):
                leads += outcome.leads
                totals.append(sum(outcome.stages_ms.values()))
                stages = " ".join(f"{name} {spent:.1f}" for name, spent in outcome.stages_ms.items())
                table.add_row(number, "recorded", str(len(outcome.leads)), stages)
            else:
                table.add_row(number, _said(outcome), "", "")
        two, text = device.booth.book("B-1006"), device.booth.book("B-1007")
        table.add_row("B-1006", _said(two), "", "")
        table.add_row("B-1007", _said(text), "", "")
        self._console.print(table)
        if totals:
            self._console.print(f"  median of {len(totals)} bookings: {statistics.median(totals):.0f} ms in all stages")
        for number, case, outcome in outcomes:
            found = [lead.candidates[0].reference for lead in outcome.leads] if isinstance(outcome, Recorded) else None
            expected = [] if case is None else [case]
            self._checks.see(f"{number}: recorded, {f'a lead to {case}' if case else 'no lead'}", found == expected)
        self._checks.see(f"two people in one picture: refused ({_code(two)})", _code(two) == "several-faces")
        self._checks.see(f"a text file named .jpg: refused ({_code(text)})", _code(text) == "not-a-picture")
        return leads

    def _receive(self, desk: Subscription, leads: list[Lead]) -> None:
        self._title("The lead desk receives and verifies")
        received = []
        for _ in leads:
            verdict = desk.next(LEAD_TIMEOUT_S)
            if verdict is not None:
                self._console.print(view.panel(verdict))
            if isinstance(verdict, Accepted):
                received.append(verdict.lead)
        self._checks.see(f"all {len(leads)} leads arrived, verified, each once, in order", received == leads)

    def _stop(self, device: Device, desk: Subscription) -> None:
        self._title("The key is opened in the middle of a run")
        device.settled()
        outcomes: list[tuple[int, Recorded | Refusal]] = []
        done = threading.Event()

        def keep_booking() -> None:
            number = 2000
            while not done.is_set():
                number += 1
                outcome = device.booth.book(f"B-{number}")
                outcomes.append((time.monotonic_ns(), outcome))
                if isinstance(outcome, Refusal):
                    done.wait(0.02)

        officer = threading.Thread(target=keep_booking, name="officer")
        officer.start()
        _wait(lambda: len(outcomes) >= BOOKED_BEFORE_THE_STOP)
        time.sleep(STOP_AFTER_S)
        opened_ns = time.monotonic_ns()
        self._switch.open_key()
        dead_ms = (time.monotonic_ns() - opened_ns) / 1e6
        _wait(lambda: isinstance(outcomes[-1][1], Refusal))
        time.sleep(STOP_AFTER_S)
        done.set()
        officer.join()
        # Until the desk has been silent for a while: what was signed before the stop may still be on its way.
        received = []
        while (verdict := desk.next(1.0)) is not None:
            if isinstance(verdict, Accepted):
                received.append(verdict.lead)
        before = [outcome for at_ns, outcome in outcomes if isinstance(outcome, Recorded)]
        after = [outcome for at_ns, outcome in outcomes if isinstance(outcome, Refusal) and at_ns > opened_ns]
        entries = _ledger(device)
        stop = max(place for place, entry in enumerate(entries) if _is_stop(entry))
        behind = [entry.event for entry in entries[stop:]]
        work = [event for event in behind if isinstance(event, Captured | Searched | Enrolled | LeadSigned)]
        signed = sum(isinstance(entry.event, LeadSigned) for entry in entries[:stop])
        self._console.print(
            f"  {len(before)} bookings recorded, then the key; {len(after)} attempts refused after it; the stop took"
            f" {dead_ms:.1f} ms to be on disk and on the ledger"
        )
        self._checks.see("bookings were being recorded when the key was opened", bool(before))
        self._checks.see(
            "every attempt after it was refused by the interlock", bool(after) and all(map(_by_key, after))
        )
        self._checks.see("the device is in MORATORIUM", device.interlock.state is State.MORATORIUM)
        self._checks.see(
            f"behind the stop the ledger holds no capture, search, enrolment or lead ({len(behind)} entries)", not work
        )
        leads_before = signed - len([1 for case in BOOKINGS if case[2]]) - 1  # the late case's
        self._checks.see(
            f"the desk has the {leads_before} leads signed before the stop, and none after",
            len(received) == leads_before == sum(len(outcome.leads) for outcome in before),
        )
        self._switch.close_key()
        time.sleep(1.5)
        still = device.booth.book("B-3000")
        self._checks.see("turning the key back alone starts nothing", _by_key(still))

    def _prove(self, device: Device, watcher: Watcher) -> None:
        self._title("An auditor proves the moratorium, offline, and trusts only public keys")
        audits = prove(device, self._pilot, watcher, self._console)
        self._checks.see("the witness holds the device's newest checkpoint", audits is not None)
        if audits is None:
            return
        found, changed = audits
        self._checks.see("the moratorium is PROVEN", is_proven_stop(found))
        self._checks.see(
            f"one letter changed in the export: {changed.verdict} ({', '.join(changed.findings.counts)})",
            changed.verdict is Verdict.VIOLATION and not is_proven_stop(changed),
        )


def _is_stop(entry: LedgerEntry) -> bool:
    return isinstance(entry.event, SwitchChanged) and entry.event.state == "MORATORIUM"


def _wait(until: Callable[[], bool]) -> None:
    """Return when it is so, or when patience has run out: what comes after says what was not seen."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not until() and time.monotonic() < deadline_s:
        time.sleep(0.02)


def _ledger(device: Device) -> list[LedgerEntry]:
    entries = device.journal.entries(limit=device.journal.size)
    return [LedgerEntry.model_validate_json(data) for data in entries]


def _by_key(outcome: object) -> bool:
    return isinstance(outcome, Refusal) and outcome.step == "interlock"


def _code(outcome: object) -> str:
    return str(getattr(outcome, "reason", "accepted"))


def _said(outcome: Recorded | Refusal) -> str:
    return f"refused ({outcome.reason}): {outcome.message}" if isinstance(outcome, Refusal) else "recorded"
