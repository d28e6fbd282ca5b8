"""The witness of an interlock in its own process: it tells the notary, and waits until the notary has it on the ledger.

One request and one answer per connection (SOCK_SEQPACKET), JSON:

    {"ask": "epoch"}                     -> {"epoch": 7}      the highest epoch on the ledger, 0 where there is none
    {"ask": "keep", "transition": {...}} -> {"kept": true}    only once the entry is on disk
    {"ask": "judged", "judged": {...}}   -> {"kept": true}    the same, of an order that was accepted or refused

Rules kept here:
1. No answer in time, or any other answer, is a transition that was not witnessed: the interlock stops.
2. Nothing is buffered. A ledger that missed something must not look complete.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from turnkey.interlock.lease import connect
from turnkey.interlock.orders import Judged
from turnkey.interlock.status import Transition

ANSWER_TIMEOUT_S = 2.0
"""An fsync on a worn card takes half a second; the permit is dead long before."""
MAX_ANSWER = 4096


class WitnessError(OSError):
    """The notary did not confirm."""


class SocketWitness:
    """Tells the notary at `path`."""

    def __init__(self, path: Path, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def __call__(self, transition: Transition) -> None:
        """Put a transition on the ledger.

        Raises:
            WitnessError: it is not known to be there.
        """
        told = asdict(transition) | {"utc": transition.utc.isoformat()}
        if self._ask({"ask": "keep", "transition": told}) != {"kept": True}:
            raise WitnessError("the notary did not keep the transition")

    def judged(self, judged: Judged) -> None:
        """Put on the ledger what became of an order, or of a successor of the authority.

        Raises:
            WitnessError: it is not known to be there.
        """
        if self._ask({"ask": "judged", "judged": judged.model_dump(mode="json")}) != {"kept": True}:
            raise WitnessError("the notary did not keep what became of an order")

    def ledger_epoch(self) -> int:
        """The highest epoch on the ledger.

        Raises:
            WitnessError: the notary does not say.
        """
        answer = self._ask({"ask": "epoch"})
        epoch = answer.get("epoch")
        if not isinstance(epoch, int) or epoch < 0:
            raise WitnessError("the notary does not say which epoch its ledger knows")
        return epoch

    def _ask(self, question: dict[str, object]) -> dict[str, object]:
        try:
            with connect(self._path) as connection:
                connection.settimeout(self._timeout_s)
                connection.send(json.dumps(question).encode())
                answer = json.loads(connection.recv(MAX_ANSWER))
        except (OSError, ValueError) as error:
            raise WitnessError(f"the notary does not answer: {error}") from error
        if not isinstance(answer, dict):
            raise WitnessError("the notary's answer is none")
        return answer
