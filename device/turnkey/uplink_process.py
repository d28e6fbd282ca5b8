"""The unit `turnkey-uplink`: what was signed goes to the broker. It reads no other room."""

from __future__ import annotations

from turnkey.settings import Settings
from turnkey.uplink.connection import UplinkSettings


def uplink_settings(settings: Settings) -> UplinkSettings:
    """The uplink's settings out of the device's."""
    broker = settings.broker
    return UplinkSettings(
        host=broker.host,
        port=broker.port,
        device_id=settings.device_id,
        ca_file=broker.ca,
        certificate_file=broker.certificate,
        key_file=broker.key,
        settle_s=broker.settle_s,
        state=settings.attestation.publish,
    )
