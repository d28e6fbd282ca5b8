"""From the shutter to the lead desk over a real broker, and what an outage in between does: nothing."""

from __future__ import annotations

from booking_room import RunningDevice, lay
from patience import PATIENCE_S, wait_for

from turnkey.booth import Recorded
from turnkey.uplink.delivery import State
from turnkey_tools.broker import Broker, Kind
from turnkey_tools.leads.cli import device_keys
from turnkey_tools.leads.desk import Accepted
from turnkey_tools.leads.store import Store
from turnkey_tools.leads.subscription import Subscription
from turnkey_tools.pilot import Pilot

DESK = "lead-desk"
CASE = "ardern/ardern-2018.jpg"
MATE = "ardern/ardern-2022.jpg"


def test_leads_signed_while_the_broker_is_down_arrive_after_it_returns_each_once_in_order(
    pilot: Pilot, running: RunningDevice
) -> None:
    lay(pilot, CASE, *[MATE] * 6)
    site = pilot.site
    with Broker(site, Kind.MOSQUITTO) as broker, Store(pilot.root / "desk.db") as store:
        pilot.use_port(broker.port)
        keys = device_keys(site.desk_device_keys(DESK))
        desk = Subscription(site.desk(DESK), broker.host, broker.port, keys, store)
        with desk, running() as device:
            assert desk.listening(10)
            device.start_uplink()
            device.booth.enrol_case("C-2026-1")

            def book(number: int) -> str:
                outcome = device.booth.book(f"B-{number}")
                assert isinstance(outcome, Recorded)
                return outcome.leads[0].lead_id

            sent = [book(1)]
            first = desk.next(PATIENCE_S)
            assert isinstance(first, Accepted)
            broker.stop()
            sent += [book(2), book(3)]
            assert device.outbox.depth() >= 2
            wait_for(lambda: device.uplink.status.state is not State.CONNECTED)
            assert device.uplink.status.reason
            sent.append(book(4))
            broker.start()
            sent.append(book(5))
            received = [first.lead]
            while len(received) < len(sent) and (verdict := desk.next(PATIENCE_S)) is not None:
                if isinstance(verdict, Accepted):
                    received.append(verdict.lead)
            assert [lead.lead_id for lead in received] == sent
            assert [lead.sequence for lead in received] == [1, 2, 3, 4, 5]
            assert desk.next(1.0) is None or store.leads() == 5
