"""The notary and what it says, wired once for both forms of a device: one process (`device`) and five (`processes`).

Rules kept here:
1. Opening the notary puts the boot on the ledger, before anything else can be.
2. Leads go to the outbox whatever waits there; attestations only while there is room left for leads.
"""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime

from turnkey import __version__
from turnkey.envelope import SigningKey
from turnkey.interlock.status import InterlockStatus
from turnkey.leads.policy import PolicyRefusal, SignedPolicy
from turnkey.leads.records import Boot, Heartbeat, PolicyAdopted
from turnkey.notary.journal import Journal
from turnkey.notary.notary import Clocks, Notary
from turnkey.notary.note import log_verifier
from turnkey.notary.published import PublishedCheckpoint
from turnkey.notary.wire import Standing
from turnkey.settings import Settings
from turnkey.uplink.outbox import Outbox
from turnkey.uplink.topics import Kind, Topic
from turnkey.vision.manifest import Manifest


def system_clocks() -> Clocks:
    """The machine's clocks and randomness."""
    return Clocks(lambda: datetime.now(UTC), time.monotonic_ns, lambda: secrets.token_hex(16))


def open_notary(settings: Settings, manifest: Manifest, journal: Journal, outbox: Outbox, clocks: Clocks) -> Notary:
    """The notary of this device; its boot is on the ledger when this returns.

    Args:
        manifest: of the models in use, which the boot names.
        journal, outbox: closed by whoever opened them.

    Raises:
        StorageError: the ledger cannot be written, or is not the one that was signed last.
        KeyFileError, OSError: the signing key cannot be used.
    """
    leads, attestations = (str(Topic(settings.device_id, kind)) for kind in (Kind.LEAD, Kind.ATTESTATION))

    def put_lead(message_id: str, envelope: bytes) -> None:
        outbox.put(leads, envelope, message_id)

    def put_attestation(message_id: str, envelope: bytes) -> None:
        if outbox.depth() < settings.attestation.most_waiting:
            outbox.put(attestations, envelope, message_id)

    key = SigningKey.from_pem(settings.signing_key.read_bytes())
    published = published_checkpoint(settings, key)
    published.hold(journal)
    notary = Notary(
        journal,
        key,
        put_lead,
        device_id=settings.device_id,
        clocks=clocks,
        attestations=put_attestation if settings.attestation.publish else None,
        published=published,
    )
    models = {entry.id: entry.sha256 for entry in (manifest.detector, manifest.embedder, manifest.mesh)}
    notary.record(Boot(software=__version__, models=models))
    return notary


def published_checkpoint(settings: Settings, key: SigningKey) -> PublishedCheckpoint:
    """The last checkpoint that was signed, kept where the outbox is and not where the ledger is."""
    path = settings.outbox_file.with_name("checkpoint")
    return PublishedCheckpoint(path, log_verifier(settings.device_id, key.public))


def policy_adopted(signed: SignedPolicy) -> PolicyAdopted:
    """A policy that comes into force, as the ledger keeps it."""
    return PolicyAdopted(version=signed.policy.version, digest=signed.digest)


def leads_waiting(settings: Settings, journal: Journal, outbox: Outbox) -> int:
    """Signed leads that the broker has not taken yet."""
    return outbox.depth(str(Topic(settings.device_id, Kind.LEAD))) + len(journal.waiting())


def heartbeat(status: InterlockStatus, policy: SignedPolicy | PolicyRefusal, waiting: int, up_ns: int) -> Heartbeat:
    """How the device stands.

    Args:
        waiting: signed leads that the broker has not taken.
        up_ns: since the notary's start.
    """
    return Heartbeat(
        software=__version__,
        state=status.state.value,
        reason=status.reason,
        epoch=status.epoch,
        channel_a=status.channel_a,
        channel_b=status.channel_b,
        relay_closed=status.relay_closed,
        policy=policy.reason if isinstance(policy, PolicyRefusal) else "in-force",
        leads_waiting=waiting,
        uptime_s=up_ns // 10**9,
    )


def standing_of(policy: SignedPolicy | PolicyRefusal | None, journal: Journal, waiting: int, model: str) -> Standing:
    """How ledger and policy stand, for `turnkey status`. `policy` is None where the interlock does not say whose."""
    refusal = policy if isinstance(policy, PolicyRefusal) else None
    unknown = "" if policy else "the interlock does not answer, so it is not known whose policies hold"
    return Standing(
        policy=refusal.reason if refusal else "in force" if policy else "unknown",
        policy_message=refusal.message if refusal else unknown,
        ledger_entries=journal.size,
        ledger_root=journal.root().hex(),
        leads_waiting=waiting,
        model=model,
    )
