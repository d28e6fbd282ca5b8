"""`turnkey policy follow`: a newer policy takes the place of the old one, and nothing else does."""

from __future__ import annotations

import json

from typer.testing import CliRunner, Result

from turnkey.cli import app
from turnkey.envelope import peek
from turnkey.leads.policy import Policy
from turnkey.leads.records import PAYLOAD_TYPE_POLICY, canonical
from turnkey_tools.authority import throwaway_authority
from turnkey_tools.pilot import Pilot


def follow(pilot: Pilot, envelope: bytes) -> Result:
    file = pilot.root / "offered.json"
    file.write_bytes(envelope)
    return CliRunner().invoke(app, ["--config", str(pilot.settings_file), "policy", "follow", str(file), "--json"])


def test_a_policy_is_replaced_by_its_successor_alone_and_refusals_leave_it_as_it_was(pilot: Pilot) -> None:
    first = pilot.policy_file.read_bytes()
    policy = Policy.model_validate_json(peek(first).payload)

    def signed(**change: object) -> bytes:
        payload = canonical(policy.model_copy(update=change))
        return pilot.authority.sign(PAYLOAD_TYPE_POLICY, payload, "policy")

    for envelope, reason in (
        (throwaway_authority().sign(PAYLOAD_TYPE_POLICY, canonical(policy), "policy"), "policy-not-signed"),
        (signed(version=2, devices=("booth-2",)), "policy-for-another-device"),
        (signed(version=1, candidate_limit=1), "policy-version-reused"),
        (b"{}", "policy-not-signed"),
    ):
        refused = follow(pilot, envelope)
        assert refused.exit_code == 1
        assert json.loads(refused.stdout)["reason"] == reason
        assert pilot.policy_file.read_bytes() == first
    second = signed(version=2, candidate_limit=1)
    followed = follow(pilot, second)
    assert (followed.exit_code, json.loads(followed.stdout)["version"]) == (0, 2)
    assert pilot.policy_file.read_bytes() == second
    back = follow(pilot, first)
    assert json.loads(back.stdout)["reason"] == "policy-older-than-the-last"
    assert pilot.policy_file.read_bytes() == second
