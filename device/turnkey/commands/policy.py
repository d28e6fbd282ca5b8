"""`turnkey policy …`: replacing the policy on the device, so that a wrong file never stands in a good one's place.

Rules kept here:
1. A file replaces the policy only where the device would take it: its signers, its device, its version, its dates.
2. It is replaced whole; from then on each process reads the new one, and none goes back.
"""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import typer

from turnkey.commands.chosen import JsonOption, SignedFile, chosen_device, chosen_settings, fail, interlock_socket
from turnkey.database import StorageError
from turnkey.following import FollowedAuthority, interlock_status
from turnkey.leads.policy import PolicyReason, PolicyRefusal, SignedPolicy
from turnkey.policy_file import PolicyFile

policy_app = typer.Typer(no_args_is_help=True, help="What the city permits this device to do.")


@policy_app.callback()
def _policy() -> None:
    """What the city permits this device to do."""


@policy_app.command("follow")
def follow_command(file: SignedFile, as_json: JsonOption = False) -> None:
    """Replace the policy by one that follows it: signed as the authority says, for this device, newer, valid now.

    Where it is not, nothing changes, and the reason is said (and is on the ledger, where this device is one process).
    """
    try:
        outcome = _followed(file.read_bytes())
    except (OSError, StorageError) as error:
        fail(f"the policy cannot be replaced: {error}", 2)
    if isinstance(outcome, PolicyRefusal):
        if as_json:
            typer.echo(json.dumps({"outcome": "refused", "reason": outcome.reason, "message": outcome.message}))
            raise typer.Exit(1)
        fail(f"refused ({outcome.reason}): {outcome.message}")
    facts = {"outcome": "followed", "version": outcome.policy.version, "digest": outcome.digest}
    until = outcome.policy.valid_until
    typer.echo(json.dumps(facts) if as_json else f"version {facts['version']} is in force until {until:%Y-%m-%d}")


def _followed(envelope: bytes) -> SignedPolicy | PolicyRefusal:
    socket = interlock_socket()
    if socket is None:
        with chosen_device() as device:
            return device.follow_policy(envelope)
    settings, status = chosen_settings(), interlock_status(socket)
    with tempfile.TemporaryDirectory(prefix="turnkey-policy-") as folder:
        authority = (
            FollowedAuthority(settings.authority.read_bytes(), Path(folder), socket).at(status.authority_version)
            if status
            else None
        )
        if authority is None:
            return PolicyRefusal(PolicyReason.NOT_SIGNED, "the interlock does not say whose policies hold")
        # Notary and booth hold the new one to memories of their own; this one knows the present file.
        policies = PolicyFile(settings.policy, Path(folder) / "memory", settings.device_id)
        return policies.follow(envelope, authority, datetime.now(UTC))
