"""The demonstration's last act: somebody who trusts neither device nor station proves the stop, offline.

A witness listens at the broker from the start, as it would from another building. At the end an auditor gets three
things: the device's export, its public key, and what the witness saw.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Self

from rich.console import Console

from turnkey.device import Device
from turnkey.envelope import SigningKey
from turnkey.notary.export import stretch, write_export
from turnkey.notary.note import Verifier
from turnkey_tools.audit import view
from turnkey_tools.audit.auditor import Audit, Evidence, audit
from turnkey_tools.audit.intervals import Verdict
from turnkey_tools.broker import Broker
from turnkey_tools.leads.keys import device_keys
from turnkey_tools.pilot import Pilot
from turnkey_tools.provision import enlist_witness
from turnkey_tools.witness.store import Store
from turnkey_tools.witness.witness import Subscription, Witness

SEEN_TIMEOUT_S = 30.0


class Watcher:
    """A witness that listens in a thread of its own. Use with `with`."""

    def __init__(self, pilot: Pilot, broker: Broker) -> None:
        keys = device_keys(pilot.site.fleet_device_keys)
        self._store = Store(pilot.root / "witness.db")
        self.witness = Witness(
            "witness.example/demo", SigningKey.generate(), keys, self._store, lambda: int(time.time()), every_s=1
        )
        identity = enlist_witness(pilot.site)
        broker.reload()
        self._subscription = Subscription(identity, broker.host, broker.port, self.witness)
        self._over, self._listening = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._listen, name="witness", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait(SEEN_TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._subscription.close()
        self._store.__exit__()

    @property
    def listening(self) -> bool:
        """Whether the broker let it."""
        return self._listening.is_set()

    def saw(self, device_id: str, size: int) -> bool:
        """Wait until a tree of at least this size is known, and cosign it. False where it does not come."""
        until_s = time.monotonic() + SEEN_TIMEOUT_S
        while time.monotonic() < until_s:
            newest = self._store.newest(device_id)
            if newest is not None and newest.checkpoint.size >= size:
                self.witness.cosign_newest()
                return True
            time.sleep(0.1)
        return False

    def _listen(self) -> None:
        if self._subscription.listening(SEEN_TIMEOUT_S):
            self._listening.set()
        while not self._over.is_set():
            self._subscription.next(0.2)


def prove(device: Device, pilot: Pilot, watcher: Watcher, console: Console) -> tuple[Audit, Audit] | None:
    """Export, audit, and audit again with one character changed. None where the witness saw nothing.

    Returns:
        The audit of what the device handed out, and of what somebody made of it.
    """
    device.heart.beat()
    what = stretch(device.journal, None, None)
    if not watcher.saw(device.settings.device_id, what.size):
        return None
    export, seen = pilot.root / "export", pilot.root / "seen"
    write_export(device.journal, device.settings.device_id, what, export)
    seen.write_text(watcher.witness.testimony(device.settings.device_id))
    key = device_keys(pilot.site.fleet_device_keys)[device.settings.device_id]
    witness = (seen, Verifier(watcher.witness.verifier_key))
    found = audit(Evidence(export, key, witness))
    view.show(found, console)
    page = Path(tempfile.gettempdir()) / "turnkey-demo-audit.html"
    view.write_page(found, page)
    console.print(f"  the same as a page, with a timeline: {page}", markup=False)
    changed = pilot.root / "changed"
    changed.write_bytes(export.read_bytes().replace(b'"kind":"search"', b'"kind":"Search"', 1))
    return found, audit(Evidence(changed, key, witness))


def is_proven_stop(found: Audit) -> bool:
    """Whether the history ends with a moratorium that is PROVEN, and nothing in it is a violation."""
    last = found.intervals[-1] if found.intervals else None
    return (
        last is not None
        and (last.state, last.verdict) == ("MORATORIUM", Verdict.PROVEN)
        and found.verdict is not Verdict.VIOLATION
    )
