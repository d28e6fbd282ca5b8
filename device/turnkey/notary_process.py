"""The unit `turnkey-notary`: the ledger, the signature, the outbox.

A newer authority is asked of the interlock and verified here; until that is done no policy is in force.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from pathlib import Path

from turnkey.database import StorageError
from turnkey.following import followed, interlock_status, policy_apart
from turnkey.interlock.lease import LeaseClient
from turnkey.interlock.peers import listen, passed_socket
from turnkey.leads.records import Heartbeat
from turnkey.notary.daemon import NotaryDaemon, rights_of
from turnkey.notary.heartbeat import Heart
from turnkey.notary.journal import Journal
from turnkey.notary.wire import Standing
from turnkey.policy_file import PolicyFile
from turnkey.processes import End
from turnkey.reconciliation import Rounds
from turnkey.recording import heartbeat, leads_waiting, open_notary, policy_adopted, standing_of, system_clocks
from turnkey.settings import Settings
from turnkey.uplink.outbox import Outbox
from turnkey.vision.manifest import model_id, read_manifest


def run_notary(settings: Settings, stop: threading.Event) -> None:
    """Keep the ledger and sign, until `stop`.

    Raises:
        ProcessFailed: the ledger cannot be written any more.
        StorageError, KeyFileError, ModelError, AuthorityError, OSError: it cannot start.
    """
    clocks, end = system_clocks(), End(stop)
    began_ns = clocks.monotonic_ns()
    sockets = settings.interlock.socket
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as parts:
        outbox = _shared_outbox(settings.outbox_file)
        parts.callback(outbox.close)
        journal = Journal(settings.state / "ledger.db")
        parts.callback(journal.close)
        manifest = read_manifest(settings.models)
        following = followed(settings)
        notary = open_notary(settings, manifest, journal, outbox, clocks)
        policies = PolicyFile(
            settings.policy,
            settings.state / "policy-in-force.json",
            settings.device_id,
            adopted=lambda policy: notary.record(policy_adopted(policy)),
        )

        def statement() -> Heartbeat | None:
            status = interlock_status(sockets.path)
            if status is None:
                return None
            policy = policy_apart(policies, following, status)
            waiting = leads_waiting(settings, journal, outbox)
            return heartbeat(status, policy, waiting, clocks.monotonic_ns() - began_ns)

        def standing() -> Standing:
            status = interlock_status(sockets.path)
            policy = policy_apart(policies, following, status) if status else None
            return standing_of(policy, journal, leads_waiting(settings, journal, outbox), model_id(manifest.embedder))

        gate = LeaseClient(sockets.path, silence_s=settings.interlock.lease_validity_ms / 1e3).start()
        parts.callback(gate.close)
        listener = passed_socket() or listen(sockets.notary)
        daemon = NotaryDaemon(
            notary, journal, gate, listener, rights=rights_of(sockets), failed=end.fail, standing=standing
        )
        parts.callback(daemon.close)
        heart = Heart(notary, statement, end.fail, settings.attestation.heartbeat_s)
        parts.callback(heart.close)
        rounds = Rounds(notary.hold, end.fail)
        parts.callback(rounds.close)
        daemon.start()
        heart.start()
        rounds.start()
        end.wait(daemon.is_alive)


def _shared_outbox(path: Path) -> Outbox:
    """The outbox, readable and writable by its group too: the uplink is another user."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660))
    except OSError as error:
        raise StorageError("unwritable", f"{path}: {error.strerror}") from error
    return Outbox(path)
