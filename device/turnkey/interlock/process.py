"""The unit `turnkey-interlock`: the interlock on the device's own switch, latch and authority, with the notary as
witness.

Rules kept here:
1. Until the notary says which epoch its ledger knows there is no interlock, and so no lease: the process ends, and
   systemd starts it again.
2. The gallery key comes as a systemd credential and stays in this process.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

from turnkey.interlock.adapters import open_switch
from turnkey.interlock.authority_folder import AuthorityFolder
from turnkey.interlock.daemon import Daemon, rights_of
from turnkey.interlock.interlock import Interlock
from turnkey.interlock.latch import Latch
from turnkey.interlock.witness import SocketWitness
from turnkey.settings import Settings


def run_interlock(settings: Settings, stop: threading.Event) -> None:
    """Serve leases until `stop`.

    Raises:
        WitnessError: the notary does not answer.
        AuthorityError: the authority that the device was provisioned with does not hold.
        OSError: the socket, the latch's directory or a key cannot be used.
    """
    limits = settings.interlock
    witness = SocketWitness(limits.socket.notary)
    successors = settings.state / "authorities"
    successors.mkdir(mode=0o700, exist_ok=True)
    interlock = Interlock(
        open_switch(limits, settings.state / "simulated-switch.json"),
        Latch(settings.state / "latch"),
        device_id=settings.device_id,
        authority=AuthorityFolder(settings.authority.read_bytes(), successors),
        settings=limits,
        monotonic_ns=time.monotonic_ns,
        utc_now=lambda: datetime.now(UTC),
        witness=witness,
        gallery_key=settings.gallery_key.read_bytes(),
        ledger_epoch=witness.ledger_epoch(),
    )
    Daemon(interlock, limits, rights=rights_of(limits.socket), orders=witness.judged).run(stop)
