"""A real notary behind its socket, for a device in a moratorium: this user has the updater's rights, and
root's, who runs the examination."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from turnkey.envelope import SigningKey
from turnkey.interlock.peers import listen
from turnkey.interlock.permit import Permit, Stopped
from turnkey.notary.daemon import OPERATOR_RIGHTS, UPDATE_RIGHTS, NotaryDaemon
from turnkey.notary.journal import Journal
from turnkey.notary.notary import Clocks, Notary
from turnkey.recording import standing_of


class NoLease:
    """The gate of a device that is stopped."""

    def permit(self) -> Permit:
        raise Stopped("key-opened")


@dataclass
class ServedNotary:
    """A notary, its ledger, and the daemon that serves it."""

    notary: Notary
    journal: Journal
    daemon: NotaryDaemon

    def close(self) -> None:
        self.daemon.close()
        self.journal.close()


def served_notary(folder: Path) -> ServedNotary:
    """Ledger at `folder`/ledger.db, socket at `folder`/notary."""
    journal = Journal(folder / "ledger.db")
    clocks = Clocks(lambda: datetime.now(UTC), time.monotonic_ns, lambda: os.urandom(16).hex())
    notary = Notary(journal, SigningKey.generate(), lambda *_: None, device_id="booth-1", clocks=clocks)
    daemon = NotaryDaemon(
        notary,
        journal,
        NoLease(),
        listen(folder / "notary"),
        rights={os.getuid(): UPDATE_RIGHTS | OPERATOR_RIGHTS},
        failed=lambda _reason: None,
        standing=lambda: standing_of(None, journal, 0, "model-0"),
    )
    daemon.start()
    return ServedNotary(notary, journal, daemon)
