"""`tools/demo`: one device from commissioning to stop. Every part is real but the camera's lens and the key's metal.

It provisions a throw-away site, starts a broker on loopback, boots a device, enrols two open cases, books several
people from tests/faces, shows what the booking desk and the lead desk see, and then opens the key in the middle of a
run. It exits 0 only where all of that was seen.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console

from turnkey.uplink.mqtt import Uplink
from turnkey.uplink.outbox import Outbox
from turnkey.uplink_process import uplink_settings
from turnkey_tools.broker import Broker
from turnkey_tools.demo.keep import BADGE, open_device, processes
from turnkey_tools.demo.show import BOOKINGS, DESK, Demo
from turnkey_tools.leads import view
from turnkey_tools.leads.cli import device_keys
from turnkey_tools.leads.permitted import signed_policies
from turnkey_tools.leads.store import Store
from turnkey_tools.leads.subscription import Subscription
from turnkey_tools.pilot import Pilot, provision_pilot


def demonstrate(repository: Path, keep: bool, console: Console) -> int:
    """Run the demonstration; with `keep` leave the site and the broker running until interrupted.

    Returns:
        The exit code: 0 only where everything that had to be seen was.
    """
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="turnkey-demo-") as directory:
        root = Path(directory)
        pilot = provision_pilot(root, repository / "models")
        with Broker(pilot.site) as broker:
            pilot.use_port(broker.port)
            console.print(f"broker: {broker.kind} on {broker.host}:{broker.port}")
            for shortcoming in broker.shortcomings:
                console.print(f"  [yellow]note:[/] {shortcoming} (install mosquitto for the real thing)")
            failed = Demo(pilot, broker, repository / "tests" / "faces", console).run()
            console.print()
            verdict = "everything was seen" if not failed else f"{failed} thing(s) were NOT seen"
            console.print(f"[bold]{verdict}[/], {time.monotonic() - began_s:.1f} s")
            if keep and not failed:
                _keep(pilot, broker, repository / "tests" / "faces", console)
    return 0 if not failed else 1


def _keep(pilot: Pilot, broker: Broker, faces: Path, console: Console) -> None:
    """Leave the device's processes, broker, uplink and lead desk running, and say how to go on."""
    config = f"--config {pilot.settings_file}"
    keys = pilot.write_keys("release")
    pin = open_device(pilot, [faces / picture for _, picture, _ in BOOKINGS])
    # Told to end in any of the usual ways, also where a shell started this in the background: the broker ends with it.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    try:
        with processes(pilot) as address:
            console.print(
                f"""
[bold]Running until Ctrl-C.[/] The officers' console, for any browser on this machine:

  {address}      badge [bold]{BADGE}[/], PIN [bold]{pin}[/], booking numbers like B-4001

The device is stopped, and the key is yours. In another terminal, for example:

  .venv/bin/turnkey {config} status
  .venv/bin/turnkey {config} key closed
  .venv/bin/turnkey {config} order request > request.json
  .venv/bin/turnkeyctl order release --request request.json --role release --key {keys[0]} --out one.json
  .venv/bin/turnkeyctl order cosign one.json --key {keys[1]} --out release.json
  .venv/bin/turnkey {config} order apply release.json
  .venv/bin/turnkey {config} book B-4001
  .venv/bin/turnkey {config} key open

Leads appear here.""",
                soft_wrap=True,
            )
            _show_leads(pilot, broker, console)
    except KeyboardInterrupt:
        console.print("ended; everything that was provisioned is removed")


def _show_leads(pilot: Pilot, broker: Broker, console: Console) -> None:
    """Send what waits, and print what the lead desk receives, until interrupted."""
    site, stop, settings = pilot.site, threading.Event(), pilot.settings()
    with (
        Outbox(settings.state / "outbox.db") as outbox,
        Store(pilot.root / "desk.db") as store,
        Subscription(
            site.desk(DESK),
            broker.host,
            broker.port,
            device_keys(site.desk_device_keys(DESK)),
            store,
            signed_policies(pilot.authority_file, [pilot.policy_file]),
        ) as desk,
    ):
        uplink = threading.Thread(target=Uplink(outbox, uplink_settings(settings)).run, args=(stop,))
        uplink.start()
        try:
            while True:
                verdict = desk.next(1.0)
                if verdict is not None:
                    console.print(view.panel(verdict))
        finally:
            stop.set()
            uplink.join()


def main() -> None:
    """Entry point of `tools/demo`."""
    arguments = argparse.ArgumentParser(prog="tools/demo", description=__doc__)
    arguments.add_argument("--keep", action="store_true", help="leave device, console and lead desk running")
    keep = arguments.parse_args().keep
    sys.exit(demonstrate(Path(__file__).resolve().parents[3], keep, Console(highlight=False)))


if __name__ == "__main__":
    main()
