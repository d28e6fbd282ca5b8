"""A lead on its way: how long until the broker has it and until the desk has it, and what a broker's loss costs.

The uplink and the desk run as threads of this process, the broker is a mosquitto of its own. All times are of one
monotonic clock. A lost broker is killed (SIGKILL): what it did not save is gone, and the uplink sends that again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from turnkey.envelope import SigningKey
from turnkey.uplink.delivery import State
from turnkey.uplink.mqtt import Uplink, UplinkSettings
from turnkey.uplink.outbox import Outbox
from turnkey_tools.bench.uplink import DEVICE, TOPIC, sealed
from turnkey_tools.broker import Broker, Kind
from turnkey_tools.leads.cli import device_keys
from turnkey_tools.leads.desk import Accepted
from turnkey_tools.leads.store import Store
from turnkey_tools.leads.subscription import Subscription
from turnkey_tools.provision import Site, provision_site

LOST_BAR: Final = 0
_WAITING: Final = 20
"""Leads that are put while the broker is away."""
_LIMIT_S: Final = 180.0
_LOOK_S: Final = 0.0005


@dataclass(frozen=True, slots=True)
class Live:
    """What was measured.

    Attributes:
        acknowledged_ms, at_desk_ms: of each lead that was sent alone.
        back_s: after each loss, from the broker's first handshake until nothing waits for it any more.
        lost: leads that were put and never reached the desk.
    """

    acknowledged_ms: list[float]
    at_desk_ms: list[float]
    back_s: list[float]
    lost: int


def measure_live(folder: Path, singles: int, losses: int, tell: Callable[[str], None] = lambda _text: None) -> Live:
    """Send leads one by one, then through losses of the broker. Everything is kept in `folder`.

    Raises:
        BrokerError: there is no mosquitto.
        RuntimeError: something did not come through in three minutes.
    """
    site = provision_site(folder, [DEVICE])
    key = SigningKey.from_pem(site.device(DEVICE).signing_key.read_bytes())
    over = threading.Event()
    with Broker(site, Kind.MOSQUITTO) as broker, Outbox(folder / "outbox.db") as outbox:
        desk = _Desk(site, broker, over)
        uplink = Uplink(Outbox(folder / "outbox.db"), _settings(site, broker))
        publishing = threading.Thread(target=uplink.run, args=(over,))
        try:
            desk.start()
            _until(desk.ready.is_set, "the desk could not listen")
            publishing.start()
            _until(lambda: uplink.status.state is State.CONNECTED, "the uplink did not connect")
            acknowledged_ms, at_desk_ms = _one_by_one(outbox, desk, key, singles)
            back_s = []
            for loss in range(losses):
                tell(f"loss of the broker {loss + 1} of {losses}")
                back_s.append(_lose(broker, uplink, outbox, key, singles + loss * _WAITING))
            total = singles + losses * _WAITING
            tell("what is still on its way to the desk")
            _until(lambda: len(desk.arrived_s) >= total, "", must=False)
        finally:
            over.set()
            for thread in (desk, publishing):
                if thread.ident is not None:
                    thread.join()
    return Live(acknowledged_ms, at_desk_ms, back_s, total - len(desk.arrived_s))


class _Desk(threading.Thread):
    """The lead desk: notes when each lead was verified and stored, by sequence."""

    def __init__(self, site: Site, broker: Broker, over: threading.Event) -> None:
        super().__init__()
        self._site, self._broker, self._over = site, broker, over
        self.ready = threading.Event()
        self.arrived_s: dict[int, float] = {}

    def run(self) -> None:
        """Listen until `over`."""
        keys = device_keys(self._site.desk_device_keys("lead-desk"))
        with (
            Store(self._site.root / "leads.db") as store,
            Subscription(self._site.desk("lead-desk"), self._broker.host, self._broker.port, keys, store) as desk,
        ):
            if desk.listening(_LIMIT_S):
                self.ready.set()
            while not self._over.is_set():
                verdict = desk.next(0.2)
                if isinstance(verdict, Accepted):
                    self.arrived_s[verdict.lead.sequence] = time.monotonic()


def _settings(site: Site, broker: Broker) -> UplinkSettings:
    mqtt = site.device(DEVICE).mqtt
    return UplinkSettings(broker.host, broker.port, DEVICE, mqtt.ca, mqtt.certificate, mqtt.key)


def _one_by_one(outbox: Outbox, desk: _Desk, key: SigningKey, singles: int) -> tuple[list[float], list[float]]:
    """Each lead is put once the desk has the one before."""
    acknowledged_ms, put_s = [], {}
    for sequence in range(1, singles + 1):
        envelope = sealed(sequence, key)
        put_s[sequence] = time.monotonic()
        outbox.put(TOPIC, envelope, f"{sequence:032x}")
        _until(lambda: not outbox.depth(), "the broker did not acknowledge a lead")
        acknowledged_ms.append(1e3 * (time.monotonic() - put_s[sequence]))
        _until(lambda: len(desk.arrived_s) == len(put_s), "the desk did not get a lead")
    return acknowledged_ms, [1e3 * (desk.arrived_s[one] - put_s[one]) for one in put_s]


def _lose(broker: Broker, uplink: Uplink, outbox: Outbox, key: SigningKey, sent: int) -> float:
    """Kill the broker, put leads meanwhile, start it again; seconds until nothing waits."""
    broker.kill()
    for sequence in range(sent + 1, sent + _WAITING + 1):
        outbox.put(TOPIC, sealed(sequence, key), f"{sequence:032x}")
    _until(lambda: uplink.status.state is not State.CONNECTED, "the uplink did not notice that the broker is gone")
    broker.start()
    back_s = time.monotonic()
    _until(lambda: not outbox.depth(), "what waited did not leave after the broker's return")
    return time.monotonic() - back_s


def _until(condition: Callable[[], bool], trouble: str, *, must: bool = True) -> None:
    deadline_s = time.monotonic() + _LIMIT_S
    while not condition():
        if time.monotonic() > deadline_s:
            if must:
                raise RuntimeError(trouble)
            return
        time.sleep(_LOOK_S)
