"""A pilot device, complete: a site's identities, an authority and a policy with throw-away keys, and the settings file.

For the demo, the tests and the bench. A real device gets its authority and its policy from the people who answer for
them (`turnkeyctl authority`, `turnkeyctl policy`), never from a machine that holds all the keys.

    ROOT/site/          see `provision`
    ROOT/device.toml    the settings of the device
    ROOT/state/         gallery, ledger, outbox, latch
    ROOT/pictures/      what the folder camera plays
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from turnkey.envelope import peek
from turnkey.gallery.store import KEY_BYTES
from turnkey.interlock.orders import RELEASE_TYPE, ReleaseRequest, make_release_order
from turnkey.leads.policy import CasePacketRule, Policy, Retention
from turnkey.leads.records import PAYLOAD_TYPE_POLICY, canonical
from turnkey.leads.two_people import TwoPeople
from turnkey.settings import Settings, read_settings
from turnkey.vision.manifest import model_id, read_manifest
from turnkey_tools.authority import ThrowawayAuthority, throwaway_authority, write_new
from turnkey_tools.provision import Site, provision_site

POLICY_DAYS = 90


@dataclass(frozen=True)
class Pilot:
    """A pilot device's files and the keys of everybody who may order it about."""

    root: Path
    site: Site
    device_id: str
    authority: ThrowawayAuthority

    @property
    def settings_file(self) -> Path:
        return self.root / "device.toml"

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    def settings(self) -> Settings:
        """The device's settings, read from its file."""
        return read_settings(self.settings_file)

    def release(self, request: ReleaseRequest) -> bytes:
        """A release order for the device as it stands, signed by two of the three who may."""
        payload = make_release_order(request, "release", now=datetime.now(UTC), grounds="demonstration")
        return self.authority.sign(RELEASE_TYPE, payload, "release")

    def use_port(self, port: int) -> None:
        """Point the device at the broker's port."""
        text = self.settings_file.read_text()
        self.settings_file.write_text(re.sub(r"(?m)^port = \d+$", f"port = {port}", text))

    def write_keys(self, role: str) -> list[Path]:
        """Put a role's private keys into files, so that a person can play its members. Returns the files."""
        files = []
        for number, key in enumerate(self.authority.bodies[role].keys, start=1):
            file = self.root / f"{role}-{number}.key"
            write_new(file, key.to_pem(), private=True)
            files.append(file)
        return files

    @property
    def authority_file(self) -> Path:
        return self.root / "authority.json"

    @property
    def policy_file(self) -> Path:
        return self.root / "policy.json"

    def adopt(self, policy: Policy) -> None:
        """Sign a policy, as the one that follows the present one, and put it where the device reads it."""
        if self.policy_file.exists():
            present = Policy.model_validate_json(peek(self.policy_file.read_bytes()).payload)
            policy = policy.model_copy(update={"version": present.version + 1})
        envelope = self.authority.sign(PAYLOAD_TYPE_POLICY, canonical(policy), "policy")
        self.policy_file.write_bytes(envelope)


def provision_pilot(root: Path, models: Path, *, device_id: str = "booth-1", port: int = 8883) -> Pilot:
    """Make a pilot device.

    Args:
        root: must not exist, or be empty.
        models: the model files and their manifest.
        device_id: its name.
        port: of the broker on loopback.

    Raises:
        SiteError: the directory is not empty.
        ModelError: there are no models.
    """
    embedder = read_manifest(models).embedder
    site = provision_site(root / "site", [device_id], port=port)
    pilot = Pilot(root, site, device_id, throwaway_authority())
    pilot.pictures.mkdir()
    pilot.authority_file.write_bytes(pilot.authority.envelope)
    write_new(root / "gallery.key", os.urandom(KEY_BYTES), private=True)
    now = datetime.now(UTC).replace(microsecond=0)
    pilot.adopt(
        Policy(
            version=1,
            devices=(device_id,),
            valid_from=now - timedelta(minutes=5),
            valid_until=now + timedelta(days=POLICY_DAYS),
            offence_categories=("homicide", "robbery", "burglary"),
            search_on_booking=("cases",),
            candidate_limit=5,
            max_fpir=0.01,
            min_quality=0,
            enrol_bookings=True,
            retention_days=Retention(bookings=365, cases=1826),
            officer_training_days=365,
            case_packets=CasePacketRule(
                signed_by=TwoPeople(proposer_role="analyst", approver_role="supervisor"),
                legal_bases=("warrant", "court-order"),
                retro_search=True,
            ),
            cases_without_packets=True,
            case_number_format=r"C-\d{4}-\d{1,6}",
            booking_number_format=r"B-\d{1,8}",
            models=(model_id(embedder),),
        )
    )
    device = site.device(device_id)
    pilot.settings_file.write_text(
        f"""\
# A pilot device made by `tools/demo`. Paths are relative to this file.
device_id = "{device_id}"
state = "state"
models = "{models.resolve()}"
authority = "authority.json"
policy = "policy.json"
signing_key = "{device.signing_key.relative_to(root)}"
gallery_key = "gallery.key"
encryption_key = "{device.encryption_key.relative_to(root)}"

[gallery]
require_locked_memory = false  # a workstation may swap; a device may not

[camera]
adapter = "folder"
folder = "pictures"

[broker]
host = "127.0.0.1"
port = {port}
ca = "{device.mqtt.ca.relative_to(root)}"
certificate = "{device.mqtt.certificate.relative_to(root)}"
key = "{device.mqtt.key.relative_to(root)}"
settle_s = 2.0

[console]
officers = "officers.json"

[interlock]
adapter = "simulated"
"""
    )
    return pilot
