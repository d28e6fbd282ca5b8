"""The lead desk at the broker: each message of a lead topic is judged, stored, and only then acknowledged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from turnkey.envelope import PublicKey
from turnkey_tools.leads.desk import Verdict, judge
from turnkey_tools.leads.permitted import Policies
from turnkey_tools.leads.store import Store
from turnkey_tools.listener import Arrived, Listener
from turnkey_tools.provision import Identity

LEAD_TOPICS: Final = "turnkey/v1/+/lead"


class Subscription(Listener[Verdict]):
    """See `Listener`.

    Args:
        keys: public key per device id.
        store: where verdicts go.
        policies: the city's signed policies by digest, where this desk holds them.
    """

    def __init__(
        self,
        identity: Identity,
        host: str,
        port: int,
        keys: Mapping[str, PublicKey],
        store: Store,
        policies: Policies | None = None,
    ) -> None:
        super().__init__(identity, host, port, LEAD_TOPICS)
        self._keys = keys
        self._store = store
        self._policies = policies

    def take_in(self, arrived: Sequence[Arrived]) -> list[Verdict]:
        """See `Listener`. One transaction, in which each message sees those before it."""
        verdicts: list[Verdict] = []
        with self._store.transaction():
            for message in arrived:
                verdicts.append(judge(message.topic, message.payload, self._keys, self._store, self._policies))
                self._store.write(verdicts[-1])
        return verdicts
