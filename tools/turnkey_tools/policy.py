"""`turnkeyctl policy …`: what the city permits, written, signed by k of n, compared. Everything works offline.

    example   a specification to start from, with every attribute and what it means
    new       specification to policy, with the first signature; --replaces makes it the next version
    sign      another signer's signature, on a copy of their own; merge unites copies
    diff      what changes from one policy to another, attribute by attribute: what a council reads before it signs
    check     what a device would say to it

Rules kept here:
1. What is signed is shown first, whole.
2. No file that exists is overwritten.
3. A changed policy has a higher version: devices refuse an older one, and a second one of the same version.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from turnkey.envelope import EnvelopeError, cosign, merge, peek, sign
from turnkey.interlock.authority import read_authority
from turnkey.leads.policy import Policy, PolicyRefusal, SignedPolicy
from turnkey.leads.records import PAYLOAD_TYPE_POLICY, canonical
from turnkey.policy_file import judge_policy
from turnkey_tools.authority import (
    FileArgument,
    KeyOption,
    OutOption,
    claimed_signers,
    fail,
    read_key,
    refusing,
    write_new,
)

app = typer.Typer(help="The signed policy: what a device is permitted to do.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")]

EXAMPLE = """\
# A policy's specification. What a policy does not say is refused. `turnkeyctl policy new` makes a policy of this file.
devices = ["*"]                              # device ids, or "*" for every device of the site
valid_from = 2026-01-01T00:00:00Z            # outside of these two nothing is captured
valid_until = 2026-07-01T00:00:00Z

offence_categories = ["homicide", "robbery"] # for which a case may be worked on; codes of the city's own
search_on_booking = ["cases"]                # partitions that a booking is searched in; "bookings" needs alias_leads
alias_leads = false                          # whether a booking may give a lead on an earlier booking
candidate_limit = 5                          # the longest candidate list, 20 at most
max_fpir = 0.01                              # of 100 searches of people not enrolled, one may raise a candidate
min_quality = 40                             # 0 to 100: a probe below it is refused
enrol_bookings = true                        # whether a booking's template is kept

cases_without_packets = false                # whether a case's probe may come from the booking camera, or an import
officer_training_days = 365                  # how long an officer's training counts
case_number_format = 'C-\\d{4}-\\d{1,6}'       # regular expressions that a whole number must fit
booking_number_format = 'B-\\d{1,8}'
models = ["sface-0123456789ab"]              # embedders; `turnkey status` names the one in use

[retention_days]                             # from the enrolment; there is no "for ever"
bookings = 365
cases = 1826

[case_packets]                               # leave it out, and no case packet is accepted
legal_bases = ["warrant", "court-order"]     # codes of the bases that are accepted
longest_days = 30                            # the longest time a packet may be good for
retro_search = true                          # whether its probe is searched among the bookings, once
[case_packets.signed_by]                     # roles of the authority; their thresholds are k of n
proposer_role = "analyst"
approver_role = "supervisor"

# [quality]                                  # limits of single components, where the device's own are not to hold
# max_yaw_degrees = 15                       # this one and the next: a mugshot's pose
# max_pitch_degrees = 15
# max_mouth_open = 0.06                      # gap between the lips, over the distance from eyes to chin
# min_eyes_open = 0.05                       # gap between the lids, over the same
# min_light_evenness = 0.3                   # 1 where both cheeks are lit alike
# max_background_unrest = 6                  # grey levels between neighbours; 0 is a painted wall
# min_inter_eye_px = 90                      # every name and its unit: device/turnkey/vision/limits.py

# [template_packs]                           # leave it out, and no template goes to another Turnkey, or comes from one
# proposer_role = "analyst"                    # both sign an order for each pack: `turnkeyctl pack new`
# approver_role = "supervisor"
# longest_days = 30                            # the longest time such an order may be good for
# [[template_packs.devices]]                   # each Turnkey that templates may go to, and come from; none: nobody
# device_id = "booth-2"
# signing_key = "…"                            # both in hexadecimal: `turnkeyctl pack keys` prints this table
# sealing_key = "…"
"""


@app.command()
def example() -> None:
    """Print a specification to start from."""
    typer.echo(EXAMPLE, nl=False)


@app.command()
def new(
    specification: FileArgument,
    key: KeyOption,
    out: OutOption,
    replaces: Annotated[Path | None, typer.Option(help="The policy that this one follows.", exists=True)] = None,
) -> None:
    """Write a policy from a specification (TOML), show it, and put the first signature on it."""
    with refusing():
        version = read_policy_file(replaces).version + 1 if replaces else 1
        policy = Policy.model_validate({"version": version, **tomllib.loads(specification.read_text())})
        typer.echo(describe(policy))
        write_new(out, sign(PAYLOAD_TYPE_POLICY, canonical(policy), read_key(key)))


@app.command("sign")
def sign_command(file: FileArgument, key: KeyOption, out: OutOption) -> None:
    """Show a policy, and add your signature to it."""
    with refusing():
        typer.echo(describe(read_policy_file(file)))
        write_new(out, cosign(file.read_bytes(), read_key(key)))


@app.command("merge")
def merge_command(first: FileArgument, second: FileArgument, out: OutOption) -> None:
    """Unite the signatures of two copies of one policy."""
    with refusing():
        write_new(out, merge(first.read_bytes(), second.read_bytes()))


@app.command()
def show(
    file: FileArgument,
    authority: Annotated[Path | None, typer.Option(help="Names the signers.", exists=True)] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a policy says. Says nothing about whether it holds: that is `check`."""
    with refusing():
        policy = read_policy_file(file)
        signers = claimed_signers(file.read_bytes(), read_authority(authority.read_bytes()) if authority else None)
        if as_json:
            typer.echo(json.dumps({"policy": policy.model_dump(mode="json"), "claimed_signers": signers}))
            return
        typer.echo(describe(policy))
        typer.echo(f"claims to be signed by {', '.join(signers) or 'nobody'}")


@app.command()
def diff(old: FileArgument, new: FileArgument, as_json: JsonOption = False) -> None:
    """What changes from one policy to another. Exit code 1 where a device would not take the second after the first."""
    with refusing():
        before, after = read_policy_file(old), read_policy_file(new)
    changes = differences(before, after)
    follows = after.version > before.version
    if as_json:
        listed = [{"attribute": name, "old": was, "new": now} for name, was, now in changes]
        typer.echo(json.dumps({"follows": follows, "changes": listed}))
    else:
        table = Table("Attribute", f"Version {before.version}", f"Version {after.version}")
        for name, was, now in changes:
            table.add_row(name, _text(was), _text(now))
        Console().print(table if changes else "Nothing changes.")
    if not follows:
        fail(f"version {after.version} does not follow version {before.version}: a device refuses it")


@app.command()
def check(
    file: FileArgument,
    authority: Annotated[Path, typer.Option(help="The authority that the devices follow.", exists=True)],
    device: Annotated[str | None, typer.Option(help="For this device; left out: for the first that it names.")] = None,
    last: Annotated[Path | None, typer.Option(help="The policy that is in force there now.", exists=True)] = None,
    at: Annotated[datetime | None, typer.Option(help="Judged as at this time (UTC); left out: now.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge a policy as a device would."""
    with refusing():
        data = file.read_bytes()
        named = next((each for each in read_policy_file(file).devices if each != "*"), "any-device")
        present = None
        if last is not None:
            present = SignedPolicy(read_policy_file(last), _digest(last)).mark
        now = at.replace(tzinfo=UTC) if at else datetime.now(UTC)
        verdict = judge_policy(data, read_authority(authority.read_bytes()), device or named, now, present)
        if isinstance(verdict, PolicyRefusal):
            if as_json:
                typer.echo(json.dumps({"verdict": "refused", "reason": verdict.reason, "message": verdict.message}))
                raise typer.Exit(1)
            fail(f"refused ({verdict.reason}): {verdict.message}")
        facts = {"verdict": "good", "version": verdict.policy.version, "digest": verdict.digest}
        typer.echo(json.dumps(facts) if as_json else f"good: version {verdict.policy.version}, digest {verdict.digest}")


def read_policy_file(path: Path) -> Policy:
    """Read a policy WITHOUT trusting it.

    Raises:
        EnvelopeError: not a policy.
        OSError: it cannot be read.
    """
    claim = peek(path.read_bytes())
    if claim.payload_type != PAYLOAD_TYPE_POLICY:
        raise EnvelopeError("wrong-type", f"{path} is no policy but {claim.payload_type[:80]!r}")
    try:
        return Policy.model_validate_json(claim.payload)
    except ValidationError as error:
        raise EnvelopeError("malformed", f"{path} is no policy: {error.errors()[0]['msg']}") from error


def describe(policy: Policy) -> str:
    """The policy for a person: every attribute, one to a line."""
    facts = _flat(policy.model_dump(mode="json"))
    width = max(len(name) for name in facts)
    return "\n".join([f"{name:<{width}}  {_text(value)}" for name, value in facts.items()])


def differences(old: Policy, new: Policy) -> list[tuple[str, Any, Any]]:
    """Attributes that differ, with their values, version left out."""
    before, after = (_flat(policy.model_dump(mode="json")) for policy in (old, new))
    names = [name for name in {**before, **after} if name != "version"]
    return [(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _text(value: Any) -> str:
    match value:
        case None:
            return "not stated"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(str(each) for each in value) or "none"
        case _:
            return str(value)


def _digest(path: Path) -> str:
    return hashlib.sha256(peek(path.read_bytes()).payload).hexdigest()
