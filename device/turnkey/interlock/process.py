"""The unit `turnkey-interlock`: the interlock on the device's own switch, latch and authority, with the notary as
witness.

Rules kept here:
1. Until the notary says which epoch its ledger knows there is no interlock, and so no lease: the process ends, and
   systemd starts it again.
2. The gallery key comes as a systemd credential and stays in this process.
3. Latch and ledger are held against each other at the start and each `compare_s`. A notary that does not answer is
   asked again soon: while it is away nothing is captured, and no change of state comes through without it.
4. A ledger that misses stops which the latch has counted was set back: that is a fault.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from turnkey.interlock.adapters import open_switch
from turnkey.interlock.authority_folder import AuthorityFolder
from turnkey.interlock.daemon import Daemon, rights_of
from turnkey.interlock.interlock import Interlock
from turnkey.interlock.latch import Latch
from turnkey.interlock.witness import SocketWitness, WitnessError
from turnkey.settings import Settings

ASK_AGAIN_S = 60.0


class Comparison(threading.Thread):
    """Holds the latch to the ledger until `stop`.

    Args:
        ledger_epoch: the highest epoch the ledger knows; raises WitnessError where nobody says.
        every_s, again_s: seconds between two comparisons; after one that was not answered.
    """

    def __init__(
        self,
        interlock: Interlock,
        ledger_epoch: Callable[[], int],
        stop: threading.Event,
        *,
        every_s: float,
        again_s: float = ASK_AGAIN_S,
    ) -> None:
        super().__init__(name="comparison", daemon=True)
        self._interlock = interlock
        self._ledger_epoch = ledger_epoch
        self._stopping = stop
        self._every_s = every_s
        self._again_s = again_s

    def run(self) -> None:
        """Compare, again and again."""
        wait_s = self._every_s
        while not self._stopping.wait(wait_s):
            try:
                self._interlock.hold_to(self._ledger_epoch())
                wait_s = self._every_s
            except WitnessError:
                wait_s = min(self._again_s, self._every_s)
            except Exception:
                # A fault of the program itself, in a thread that would end unseen.
                self._interlock.halt("interlock-failed")
                raise


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
    known = witness.ledger_epoch()
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
        ledger_epoch=known,
    )
    if known and interlock.status().epoch > known + 1:
        interlock.halt("ledger-older-than-latch")
    Comparison(interlock, witness.ledger_epoch, stop, every_s=limits.compare_s).start()
    Daemon(interlock, limits, rights=rights_of(limits.socket), orders=witness.judged).run(stop)
