"""The site that the tests' device belongs to: keys, authority, policy and broker here, an identity for the card.

Rules kept here:
1. Everything is throw-away and made anew; the guest gets what `turnkeyctl provision` makes for a device and no more.
2. The guest knows this machine's loopback as 10.0.2.2; the broker's certificate carries that address too.
3. The device has a fixed address, as in a booking room: it runs no DHCP client, and nothing listens but on loopback.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.appliance.desk import ReleaseDesk

from turnkey_tools.card import Wired, network_file
from turnkey_tools.certificates import Use
from turnkey_tools.pilot import Pilot, provision_pilot
from turnkey_tools.provision import issue_identity

REPOSITORY = Path(__file__).resolve().parents[2]
HOST = "10.0.2.2"
WIRED = Wired(address="10.0.2.15/24", gateway=None, resolver=None)
"""As QEMU's user network gives it; who is asked for what is on the same wire."""
CHIP = "/dev/gpiochip0"
"""The wires of tests/appliance/key_wires: the machine has no other chip."""
PERSON = "obama"
"""Whose case is open, and who is booked."""

SETTINGS = """\
device_id = "{device}"
authority = "authority.json"
policy = "/var/lib/turnkey-policy/policy.json"
# Each unit gets its own keys as credentials; a path that none of them is given leads nowhere.
signing_key = "/run/credentials/none"
gallery_key = "/run/credentials/none"

[gallery]
require_locked_memory = true

[camera]
adapter = "folder"
folder = "pictures"
repeat = true

[broker]
host = "{host}"
port = {port}
ca = "credstore/ca.pem"
certificate = "credstore/mqtt.pem"
key = "/run/credentials/none"
settle_s = 2.0

[update]
server = "https://{host}:{update_port}"
root = "update-root.json"
ca = "credstore/ca.pem"
board = "turnkey-qemu-arm64"
group = "station"
quiet_s = 0
most_bytes_per_s = 16777216

[interlock]
adapter = "gpio"
# The wires of an emulated machine are slow; a real key bounces less long than this one answers.
pulse_width_ms = 20
relay_settle_ms = 2000
disagreement_ms = 2000
pulse_every_ms = 5000
poll_ms = 100
lease_validity_ms = 5000
lease_renewal_ms = 500

[interlock.lines]
chip = "{chip}"
channel_a = "key-a"
channel_b = "key-b"
relay_feedback = "relay"
pulse_a = "feed-a"
pulse_b = "feed-b"
lamp = "lamp"
"""


def make_site(folder: Path, port: int) -> Pilot:
    """A pilot site whose broker listens on `port` of the loopback."""
    pilot = provision_pilot(folder / "pilot", REPOSITORY / "models", device_id="booth-1", port=port)
    broker = pilot.site.broker
    broker.certificate.unlink()
    broker.key.unlink()
    issue_identity(pilot.site, broker, Use.SERVER, ["localhost", "127.0.0.1", HOST])
    return pilot


def make_identity(pilot: Pilot, desk: ReleaseDesk, folder: Path, ports: tuple[int, int]) -> Path:
    """The folder that `image-build/card --identity` takes.

    Args:
        pilot: the site.
        desk: whose updates the device believes.
        folder: must not exist.
        ports: of the broker and of the update server, on loopback.
    """
    device = pilot.site.device(pilot.device_id)
    for name in ("secrets", "credstore", "pictures"):
        (folder / name).mkdir(parents=True)
    text = SETTINGS.format(device=pilot.device_id, host=HOST, port=ports[0], update_port=ports[1], chip=CHIP)
    (folder / "device.toml").write_text(text)
    shutil.copyfile(desk.first_root, folder / "update-root.json")
    shutil.copyfile(pilot.authority_file, folder / "authority.json")
    shutil.copyfile(pilot.policy_file, folder / "policy.json")
    shutil.copyfile(device.signing_key, folder / "secrets/signing.key")
    shutil.copyfile(device.encryption_key, folder / "secrets/encryption.key")
    shutil.copyfile(device.mqtt.key, folder / "secrets/mqtt.key")
    shutil.copyfile(device.mqtt.certificate, folder / "credstore/mqtt.pem")
    shutil.copyfile(device.mqtt.ca, folder / "credstore/ca.pem")
    (folder / "uplink-addresses").write_text(f"{HOST}\n")
    (folder / "update-addresses").write_text(f"{HOST}\n")
    (folder / "wired.network").write_text(network_file(WIRED))
    (folder / "gpio-chip").write_text(f"{CHIP}\n")
    for number, picture in enumerate(sorted((REPOSITORY / "tests/faces" / PERSON).glob("*.jpg"))):
        shutil.copyfile(picture, folder / "pictures" / f"{number}.jpg")
    return folder
