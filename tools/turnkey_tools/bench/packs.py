"""`turnkeyctl bench packs`: how fast templates go from one device into a pack, and out of it into another, and what
memory that takes. Two pilot devices, whole, with stores on disk; a full pack, every rule kept.

The rows are put into the exporting gallery and on its ledger beforehand. Memory is what the process has more than
before, at most, while the work goes on: an export must not hold the pack, an import's gallery grows by its templates.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console
from rich.progress import Progress

from turnkey.attempt import Refusal
from turnkey.device import Device
from turnkey.envelope import PublicKey, peek
from turnkey.gallery_room import room_of
from turnkey.interlock.machine import State
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.leads.policy import PackDevice, Policy, TemplatePackRule
from turnkey.leads.records import canonical
from turnkey.leads.template_pack import PAYLOAD_TYPE_PACK_ORDER, PackOrder
from turnkey.pack_export import PackMade, export_pack
from turnkey.pack_import import PackTaken, import_pack
from turnkey.packs import pack_room
from turnkey.sealed import SealingKey
from turnkey_tools.authority import sign_with
from turnkey_tools.bench.booking_scene import fill_cases, put_on_ledger
from turnkey_tools.bench.gallery_worker import resident_mb
from turnkey_tools.bench.results import bench_report, deliver, figure
from turnkey_tools.pilot import Pilot, provision_pilot

PACKAGES = ("cryptography", "numpy", "pydantic")
LEASE_MS = 5000
"""The longest that the settings allow: a machine that stands still for a second would end the run."""

Tick = Callable[[str, int, int], None]


class BenchFailed(Exception):
    """An end of the exchange refused; the message says why."""


@dataclass
class Watch:
    """One piece of work: how long it took, also of the processor, and `more_mb`: resident beyond its start, at most."""

    what: str
    tick: Tick
    seconds: float = 0.0
    cpu_s: float = 0.0
    more_mb: float = 0.0

    @contextmanager
    def watching(self) -> Iterator[Callable[[int, int], None]]:
        """Gives what is to be told of progress."""
        start_mb, began, began_cpu = resident_mb()["VmRSS"], time.perf_counter(), time.process_time()

        def told(done: int, of: int) -> None:
            self.more_mb = max(self.more_mb, resident_mb()["VmRSS"] - start_mb)
            self.tick(self.what, done, of)

        yield told
        self.seconds, self.cpu_s = time.perf_counter() - began, time.process_time() - began_cpu


@dataclass(frozen=True)
class Exchange:
    """What was measured."""

    export: Watch
    taking: Watch
    pack_bytes: int
    rows: int


def measure(folder: Path, models: Path, templates: int, tick: Tick) -> Exchange:
    """Export and import so many templates between two devices in `folder`. Raises: BenchFailed."""
    one, other = (provision_pilot(folder / name, models, device_id=name) for name in ("station-1", "station-2"))
    for pilot, named in ((one, other), (other, one)):
        _name(pilot, named)
    order = _order(one, other, templates)
    fill_cases(one, templates, 1, lambda done, of: tick("rows of the exporting gallery", done, of))
    export, taking = Watch("export", tick), Watch("verify, and import", tick)
    pack = folder / "station.tkpack"
    with pack.open("w+b") as file:
        with _running(one, templates) as device, export.watching() as told:
            outcome = export_pack(pack_room(room_of(device)), order, file, progress=told)
            if not isinstance(outcome, PackMade):
                raise BenchFailed(_said(outcome))
        with _running(other, 0) as device, taking.watching() as told:
            _take(device, file, templates, told)
    return Exchange(export, taking, pack.stat().st_size, templates)


def _take(device: Device, file: BinaryIO, templates: int, told: Callable[[int, int], None]) -> None:
    outcome = import_pack(pack_room(room_of(device)), file, progress=told)
    if not isinstance(outcome, PackTaken):
        raise BenchFailed(_said(outcome))
    if outcome.enrolled != templates or device.gallery.size("cases") != templates:
        raise BenchFailed(f"{outcome.enrolled} of {templates} arrived: {outcome.refused}")


@contextmanager
def _running(pilot: Pilot, rows: int) -> Iterator[Device]:
    switch = SimulatedSwitch()
    switch.close_key()
    settings = pilot.settings()
    patient = settings.interlock.model_copy(update={"lease_validity_ms": LEASE_MS})
    settings = settings.model_copy(update={"interlock": patient})
    if rows:  # the ledger knows them before the gallery is held to it
        with Device(settings, switch=switch) as device:
            put_on_ledger(device, rows)
    with Device(settings, switch=switch) as device:
        device.settled(60)
        device.key_settled(60)
        device.apply_order(pilot.release(device.interlock.release_request()))
        if device.settled(60).state is not State.RUNNING:
            raise BenchFailed(f"{pilot.device_id} does not run: {device.interlock.status().reason}")
        device.gallery.unlock(device.interlock.permit().gallery_key())
        yield device


def _name(pilot: Pilot, other: Pilot) -> None:
    files = other.site.device(other.device_id)
    named = PackDevice(
        device_id=other.device_id,
        signing_key=PublicKey.from_pem(files.public_key.read_bytes()).to_hex(),
        sealing_key=SealingKey.from_pem(files.sealing_key.read_bytes()).to_hex(),
    )
    rule = TemplatePackRule(proposer_role="analyst", approver_role="supervisor", devices=(named,))
    policy = Policy.model_validate_json(peek(pilot.policy_file.read_bytes()).payload)
    pilot.adopt(policy.model_copy(update={"template_packs": rule, "case_number_format": r"C-2026-\d{1,7}"}))


def _order(one: Pilot, other: Pilot, templates: int) -> bytes:
    now = datetime.now(UTC)
    order = PackOrder(
        pack_id=secrets.token_hex(16),
        from_device=one.device_id,
        to_device=other.device_id,
        partition="cases",
        most_rows=templates,
        not_before=now - timedelta(minutes=5),
        not_after=now + timedelta(days=1),
        grounds="bench",
    )
    signers = [pilot.authority.bodies[role].keys[0] for pilot in (one, other) for role in ("analyst", "supervisor")]
    return sign_with(PAYLOAD_TYPE_PACK_ORDER, canonical(order), signers)


def _said(outcome: PackMade | PackTaken | Refusal) -> str:
    return f"{outcome.reason}: {outcome.message}" if isinstance(outcome, Refusal) else str(outcome)


def packs(
    n: Annotated[int, typer.Option("--n", min=100, help="Templates in the pack.")] = 100_000,
    models: Annotated[Path, typer.Option(help="The models directory.")] = Path("models"),
    folder: Annotated[
        Path | None, typer.Option(help="Where the two devices are made; left out: a temporary one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Time a pack from one device to another: rows a second out and in, memory, size. Synthetic templates."""
    with Progress(console=Console(stderr=True)) as progress, tempfile.TemporaryDirectory(dir=folder) as place:
        tasks = {}

        def tick(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=of)
            progress.update(tasks[what], completed=done)

        try:
            found = measure(Path(place), models, n, tick)
        except BenchFailed as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error
    figures = [
        figure("export", "s", [found.export.seconds]),
        figure("export, processor time", "s", [found.export.cpu_s]),
        figure("export, rows", "1/s", [found.rows / found.export.seconds]),
        figure("export, memory beyond the gallery's", "MB", [found.export.more_mb]),
        figure("verify and import", "s", [found.taking.seconds]),
        figure("verify and import, processor time", "s", [found.taking.cpu_s]),
        figure("verify and import, rows", "1/s", [found.rows / found.taking.seconds]),
        figure("import, memory with the gallery that grows", "MB", [found.taking.more_mb]),
        figure("pack", "MB", [found.pack_bytes / 1e6]),
        figure("pack, bytes a row", "count", [found.pack_bytes / found.rows]),
    ]
    deliver(bench_report("packs", {"n": n, "lease_validity_ms": LEASE_MS}, figures, packages=PACKAGES), as_json=as_json)
