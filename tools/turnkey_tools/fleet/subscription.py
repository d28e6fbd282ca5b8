"""IT's view at the broker: attestations are judged, stored, and only then acknowledged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from turnkey.envelope import PublicKey
from turnkey_tools.fleet.judge import Verdict, judge
from turnkey_tools.fleet.store import Store
from turnkey_tools.listener import Arrived, Listener
from turnkey_tools.provision import Identity

ATTESTATION_TOPICS: Final = "turnkey/v1/+/attestation"
STATE_TOPICS: Final = f"{ATTESTATION_TOPICS}/state"


class Subscription(Listener[Verdict]):
    """See `Listener`. `keys`: public key per device id."""

    def __init__(self, identity: Identity, host: str, port: int, keys: Mapping[str, PublicKey], store: Store) -> None:
        super().__init__(identity, host, port, ATTESTATION_TOPICS, STATE_TOPICS, retained=True)
        self._keys = keys
        self._store = store

    def take_in(self, arrived: Sequence[Arrived]) -> list[Verdict]:
        """See `Listener`."""
        verdicts: list[Verdict] = []
        with self._store.transaction():
            for message in arrived:
                verdicts.append(judge(message.topic, message.payload, self._keys, self._store))
                self._store.write(verdicts[-1])
        return verdicts
