"""`turnkeyctl bench uplink`: how fast a backlog drains, and what memory that takes. Real outbox, TLS, mosquitto, desk.

Leads one by one, and through losses of the broker, are measured in `uplink_live.py`.

The uplink runs as its own process, because its memory is one of the figures. The desk is away while the backlog drains
(its session at the broker takes the leads in); then it comes back, and what it verifies and stores per second is the
third figure. The last is the whole way over two brokers with a bridge between them.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from turnkey.database import Database
from turnkey.envelope import SigningKey, sign
from turnkey.leads.records import PAYLOAD_TYPE_LEAD, LeadCandidate, canonical
from turnkey.uplink.mqtt import Uplink, UplinkSettings
from turnkey.uplink.outbox import FORMAT, Outbox
from turnkey.uplink.topics import Kind, Topic
from turnkey_tools.bench.results import Bar, bench_report, deliver, figure
from turnkey_tools.bridge import add_bridge
from turnkey_tools.broker import Broker, BrokerError
from turnkey_tools.broker import Kind as BrokerKind
from turnkey_tools.leads.cli import device_keys
from turnkey_tools.leads.desk import Accepted
from turnkey_tools.leads.sample import WHEN, sample_lead
from turnkey_tools.leads.store import Store
from turnkey_tools.leads.subscription import Subscription
from turnkey_tools.provision import Site, provision_site

DEVICE = "bench-1"
TOPIC = str(Topic(DEVICE, Kind.LEAD))
DRAIN_BAR_PER_S, MEMORY_BAR_MB = 1_000.0, 150.0
PACKAGES = ("paho-mqtt", "cryptography", "securesystemslib")
_TIMED_PUTS = 1_000
_DESK_LEADS = 5_000
_CHILD = "import sys; from turnkey_tools.bench.uplink import drain; drain(*sys.argv[1:])"


@dataclass(frozen=True, slots=True)
class Backlog:
    """What was measured of a backlog.

    Attributes:
        put_per_s: durable puts, one transaction each, a second.
        drain_per_s: messages acknowledged by the broker and marked on disk, a second.
        drain_peak_mb: the uplink process's peak resident memory, 10^6 bytes.
        desk_per_s: leads verified and stored at the desk, a second.
        bridged_per_s: leads from a device over a station's broker and a central one to the desk, a second.
    """

    put_per_s: float
    drain_per_s: float
    drain_peak_mb: float
    desk_per_s: float
    bridged_per_s: float


def measure(folder: Path, messages: int) -> Backlog:
    """Fill an outbox, drain it, receive at the desk. Everything is kept in `folder`.

    Raises:
        RuntimeError: the backlog did not drain, or the desk did not get it.
    """
    site = provision_site(folder / "site", [DEVICE])
    with Broker(site, BrokerKind.MOSQUITTO) as broker, Store(folder / "leads.db") as store:
        keys = device_keys(site.desk_device_keys("lead-desk"))
        identity = site.desk("lead-desk")
        with Subscription(identity, broker.host, broker.port, keys, store) as desk:
            if not desk.listening(30.0):
                raise RuntimeError(f"the desk could not listen: {desk.trouble}")
        put_per_s = _fill(folder / "outbox.db", site, messages)
        command = [sys.executable, "-c", _CHILD, str(folder), str(broker.port), str(messages)]
        child = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)  # noqa: S603 - our own
        with Subscription(identity, broker.host, broker.port, keys, store) as desk:
            desk_per_s = _receive(desk, min(messages, _DESK_LEADS))
    bridged_per_s = _bridged(folder / "bridged", min(messages, _DESK_LEADS))
    return Backlog(put_per_s, messages / child["seconds"], child["peak_kib"] * 1.024e-3, desk_per_s, bridged_per_s)


def _bridged(folder: Path, messages: int) -> float:
    """The whole way at once: the uplink drains, the bridge hands on, the desk at the centre verifies and stores."""
    central = provision_site(folder / "central", [])
    station = provision_site(folder / "site", [DEVICE])
    identity = central.desk("lead-desk")
    with Broker(central, BrokerKind.MOSQUITTO) as far, Store(folder / "leads.db") as store:
        add_bridge(station, central, "station-1", far.host, far.port)
        far.reload()
        keys = device_keys(central.desk_device_keys("lead-desk"))
        with (
            Broker(station, BrokerKind.MOSQUITTO) as near,
            Subscription(identity, far.host, far.port, keys, store) as desk,
        ):
            if not desk.listening(30.0):
                raise RuntimeError(f"the desk could not listen: {desk.trouble}")
            _fill(folder / "outbox.db", station, messages)
            command = [sys.executable, "-c", _CHILD, str(folder), str(near.port), str(messages)]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL):  # noqa: S603 - our own
                return _receive(desk, messages)


def drain(folder: str, port: str, messages: str) -> None:
    """The child process: drain the outbox, print seconds and peak memory (KiB) as JSON."""
    mqtt = Site(Path(folder) / "site").device(DEVICE).mqtt
    settings = UplinkSettings("127.0.0.1", int(port), DEVICE, mqtt.ca, mqtt.certificate, mqtt.key)
    with Outbox(Path(folder) / "outbox.db") as outbox:
        begin_s = time.monotonic()
        uplink = Uplink(outbox, settings)
        if not uplink.flush(600.0):
            raise RuntimeError(f"{outbox.depth()} of {messages} did not drain: {uplink.status}")
        seconds = time.monotonic() - begin_s
    print(json.dumps({"seconds": seconds, "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def _fill(path: Path, site: Site, messages: int) -> float:
    """Put some one by one, timed; the rest in one transaction, since waiting for 50,000 fsyncs measures no drain."""
    key = SigningKey.from_pem(site.device(DEVICE).signing_key.read_bytes())
    timed, seconds = min(messages, _TIMED_PUTS), 0.0
    with Outbox(path) as outbox:
        for sequence in range(1, timed + 1):
            envelope = sealed(sequence, key)
            begin_s = time.monotonic()
            outbox.put(TOPIC, envelope, f"{sequence:032x}")
            seconds += time.monotonic() - begin_s
    rows = Database(path, FORMAT)
    with rows.transaction():
        for sequence in range(timed + 1, messages + 1):
            statement = "INSERT INTO message (message_id, topic, payload) VALUES (?, ?, ?)"
            rows.execute(statement, f"{sequence:032x}", TOPIC, sealed(sequence, key))
    rows.close()
    return timed / seconds


def _receive(desk: Subscription, leads: int) -> float:
    first = desk.next(10.0)
    begin_s, count = time.monotonic(), 0
    while count < leads - 1:
        if not isinstance(desk.next(10.0), Accepted) or not isinstance(first, Accepted):
            raise RuntimeError(f"the desk did not get lead {count + 2}")
        count += 1
    return count / (time.monotonic() - begin_s)


def sealed(sequence: int, key: SigningKey) -> bytes:
    """Lead number `sequence` of the bench's device, with three candidates, signed."""
    candidates = tuple(
        LeadCandidate(rank=rank, reference=f"2025-{rank:04d}", score=0.5, enrolled_at=WHEN) for rank in range(1, 4)
    )
    return sign(PAYLOAD_TYPE_LEAD, canonical(sample_lead(sequence, DEVICE, candidates=candidates)), key)


def uplink(
    messages: Annotated[int, typer.Option(min=2, help="Leads in the backlog.")] = 50_000,
    singles: Annotated[int, typer.Option(min=2, help="Leads that are sent one by one.")] = 500,
    losses: Annotated[int, typer.Option(min=0, help="How often the broker is killed, as by a power cut.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Measure the way of a signed lead to a real mosquitto over TLS 1.3 on loopback, and on to the lead desk.

    One by one: from the outbox to the broker's acknowledgement and to the desk; through broker losses: how long until
    everything is through, and that nothing is lost; and how a backlog drains. Exit code 1 where a bar is missed.
    """
    from rich.console import Console

    from turnkey_tools.bench.uplink_live import LOST_BAR, measure_live

    errors = Console(stderr=True)
    try:
        with tempfile.TemporaryDirectory() as folder, errors.status("leads one by one") as status:
            live = measure_live(Path(folder) / "live", singles, losses, tell=status.update)
            status.update(f"a backlog of {messages:,}")
            backlog = measure(Path(folder), messages)
    except (BrokerError, RuntimeError) as error:
        errors.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    figures = [
        figure("a lead put into the outbox to acknowledged by the broker", "ms", live.acknowledged_ms),
        figure("a lead put into the outbox to verified and stored at the desk", "ms", live.at_desk_ms),
        figure("leads put one by one, each on disk before the next", "1/s", [backlog.put_per_s]),
        figure("backlog drained", "1/s", [backlog.drain_per_s]),
        figure("backlog drained: peak memory of the uplink", "MB", [backlog.drain_peak_mb]),
        figure("backlog verified and stored at the desk", "1/s", [backlog.desk_per_s]),
        figure("backlog over two brokers to the desk", "1/s", [backlog.bridged_per_s]),
    ]
    if live.back_s:
        figures.append(figure("broker back to all that waited acknowledged", "s", live.back_s))
    figures.append(figure("leads lost", "count", [live.lost]))
    bars = (
        Bar("leads lost", live.lost, "at most", LOST_BAR),
        Bar("backlog drained, leads a second", backlog.drain_per_s, "at least", DRAIN_BAR_PER_S),
        Bar("peak memory of the uplink, MB", backlog.drain_peak_mb, "at most", MEMORY_BAR_MB),
    )
    settings: dict[str, str | float | bool] = {"messages": messages, "singles": singles, "losses": losses}
    deliver(bench_report("uplink", settings, figures, packages=PACKAGES, bars=bars), as_json=as_json)
