"""Which models a device may load: those that its software was released with, and those that somebody answers for.

A model decides who becomes a lead. So nothing is loaded because it lies in a directory: the models that ship with the
software are known to it by digest (`SHIPPED`), and the software is covered by the signature of its release. Any others
need an acceptance beside their manifest (`acceptance.json`): a DSSE envelope that says which models were accepted on
which evidence, signed by a role of the device's authority that may sign `models`. `turnkeyctl models accept` makes it,
and only from evidence that meets a policy, overall and in every group.

Rules kept here, in the order in which they are enforced:
1. Models that ship with the software need nothing more.
2. An acceptance carries the signatures that its role needs under the authority in force, and that role may sign models.
3. It names these models by one digest over the whole manifest: detector, embedder, cohort mean, calibration, and the
   mesh, which decides what pictures are good enough and how they weigh in a fused probe. Evidence about other bytes, or
   about another way to use the same bytes, is no evidence.
4. Everything else is refused, with a reason.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from turnkey.envelope import EnvelopeError, peek
from turnkey.interlock.authority import Authority
from turnkey.vision.manifest import Manifest, ModelError

ACCEPTANCE_NAME = "acceptance.json"
ACCEPTANCE_TYPE = "application/vnd.turnkey.model-acceptance+json"

SHIPPED = frozenset({"79e4253b381ab80c466768566519bd02e995a5b81b0761e181b4e9637c4557f3"})
"""Digests (`models_digest`) of the models that this version was released with; `tests/vision/test_acceptance.py` prints
the one of models/ where it is not here."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Acceptance(BaseModel):
    """What the signers answer for.

    Attributes:
        models: digest of the models (`models_digest`).
        embedder_id: as policies and leads name it, for people.
        report, requirements: SHA-256 of the evaluation report and of the requirements it met.
        accepted_at: UTC, ISO 8601.
        role: of the authority, which signed it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    models: Digest
    embedder_id: str
    report: Digest
    requirements: Digest
    accepted_at: str
    role: str

    def payload(self) -> bytes:
        """The bytes to sign: JSON with sorted keys."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1).encode()


@dataclass(frozen=True)
class Accepted:
    """The models may be loaded: they were `shipped`, or this `acceptance` says so."""

    shipped: bool
    acceptance: Acceptance | None


def models_digest(manifest: Manifest) -> str:
    """One SHA-256 over all that a manifest says: every model file by its hash, how it is used, what its scores mean."""
    said = json.dumps(manifest.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()


def judge(manifest: Manifest, acceptance: bytes | None, authority: Authority) -> Accepted:
    """Decide whether a device may load these models.

    Args:
        acceptance: the envelope that lies beside the manifest; None where there is none.
        authority: in force.

    Raises:
        ModelError: `models-not-accepted` (nothing says so), `acceptance-not-signed`, `acceptance-malformed` or
            `acceptance-of-other-models`.
    """
    digest = models_digest(manifest)
    if digest in SHIPPED:
        return Accepted(shipped=True, acceptance=None)
    if acceptance is None:
        raise ModelError(
            "models-not-accepted",
            f"the models ({manifest.embedder.id}) are not those of this release, and nobody accepted them: "
            "see `turnkeyctl models accept`",
        )
    accepted = _read(acceptance, authority)
    if accepted.models != digest:
        raise ModelError(
            "acceptance-of-other-models",
            f"{ACCEPTANCE_NAME} accepts other models ({accepted.embedder_id}): evaluate and accept these",
        )
    return Accepted(shipped=False, acceptance=accepted)


def _read(data: bytes, authority: Authority) -> Acceptance:
    try:
        claimed = Acceptance.model_validate_json(peek(data).payload)
        verified = authority.verify(data, ACCEPTANCE_TYPE, claimed.role, "models")
    except EnvelopeError as error:
        raise ModelError("acceptance-not-signed", f"{ACCEPTANCE_NAME} is not signed as it must be: {error}") from error
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]["msg"]
        raise ModelError("acceptance-malformed", f"{ACCEPTANCE_NAME} is not an acceptance: {fault}") from error
    return Acceptance.model_validate_json(verified.payload)
