"""`turnkeyctl case …`: case packets, made by an analyst, approved by a second person, sealed to one device. Offline.

    pack    the analyst: picture and document become a draft, with the first signature
    sign    the approver: looks at both (`show --picture`), and adds a second signature
    check   what the device would say to the draft, as far as that can be known here
    seal    the draft becomes a packet that only that device opens: put it on a stick, `turnkey case apply` it there

Rules kept here:
1. A draft holds the picture in clear: it is written with mode 0600, and stays in the office.
2. The picture must have the SHA-256 that whoever captured it states; an edited one is refused before anybody signs.
3. No file that exists is overwritten. What is signed is shown first.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from turnkey.envelope import SigningKey, cosign, peek, sign
from turnkey.interlock.authority import read_authority
from turnkey.leads.packet import (
    MAX_PICTURE_BYTES,
    PAYLOAD_TYPE_CASE_PACKET,
    SEALED_FOR,
    CasePacket,
    PacketContents,
    PacketHolds,
    PacketReason,
    PictureKind,
    judge,
)
from turnkey.leads.policy import Policy
from turnkey.leads.records import canonical
from turnkey.sealed import MAGIC, SealingKey
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

app = typer.Typer(help="Case packets: the only way a picture from outside enters a device.", no_args_is_help=True)

DRAFT = b"turnkey case packet draft v1\n"

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")]
AuthorityOption = Annotated[Path, typer.Option(help="The authority that the device follows.", exists=True)]


def to_draft(contents: PacketContents) -> bytes:
    """A draft's file."""
    return DRAFT + contents.to_bytes()


def from_draft(data: bytes) -> PacketContents:
    """A draft; leaves with 1 where it is none."""
    if data.startswith(MAGIC):
        fail("this packet is sealed: only its device opens it. Show the draft that it was made of")
    contents = PacketContents.from_bytes(data[len(DRAFT) :]) if data.startswith(DRAFT) else None
    if not isinstance(contents, PacketContents):
        fail("this is no draft of a case packet")
    return contents


def signed_packet(packet: CasePacket, picture: bytes, *keys: SigningKey) -> PacketContents:
    """A packet's contents with the signature of each key, one or more."""
    envelope = sign(PAYLOAD_TYPE_CASE_PACKET, canonical(packet), keys[0])
    for key in keys[1:]:
        envelope = cosign(envelope, key)
    return PacketContents(envelope, picture)


def sealed_packet(contents: PacketContents, device: SealingKey) -> bytes:
    """A packet's file, which only `device` opens."""
    return device.seal(contents.to_bytes(), SEALED_FOR)


@app.command()
def pack(
    picture: FileArgument,
    case: Annotated[str, typer.Option(help="The case number.")],
    offence: Annotated[str, typer.Option(help="The offence's code, as the policy lists it.")],
    basis: Annotated[str, typer.Option(help="The legal basis's code, as the policy lists it.")],
    captured_sha256: Annotated[str, typer.Option(help="SHA-256 of the picture, from whoever captured it.")],
    device: Annotated[str, typer.Option(help="The one device that it is for.")],
    key: KeyOption,
    out: OutOption,
    basis_reference: Annotated[str | None, typer.Option(help="Number of the warrant or order.")] = None,
    kind: Annotated[str, typer.Option(help=f"What it is: {', '.join(get_args(PictureKind))}.")] = "photograph",
    days: Annotated[float, typer.Option(help="How long it may be applied, days.", min=0.01)] = 7,
) -> None:
    """Make a draft of a picture and a document about it, and put the first signature on it: the analyst's."""
    with refusing():
        data = picture.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest != captured_sha256.lower():
            fail(f"refused ({PacketReason.EDITED}): {picture} has SHA-256 {digest}: it is not the picture as captured")
        if len(data) > MAX_PICTURE_BYTES:
            fail(f"refused ({PacketReason.TOO_LARGE}): a picture has at most {MAX_PICTURE_BYTES} bytes")
        now = datetime.now(UTC).replace(microsecond=0)
        packet = CasePacket(
            packet_id=secrets.token_hex(16),
            device_id=device,
            not_before=now - timedelta(minutes=5),
            not_after=now + timedelta(days=days),
            case_number=case,
            offence_category=offence,
            legal_basis=basis,
            basis_reference=basis_reference,
            picture_sha256=digest,
            picture_kind=cast(PictureKind, kind),
        )
        typer.echo(describe(packet))
        write_new(out, to_draft(signed_packet(packet, data, read_key(key))), private=True)


@app.command("sign")
def sign_command(file: FileArgument, key: KeyOption, out: OutOption) -> None:
    """Add your signature to a draft: the approver's. Look at the picture first (`show --picture`)."""
    with refusing():
        contents = from_draft(file.read_bytes())
        typer.echo(describe(_packet_of(contents)))
        approved = PacketContents(cosign(contents.envelope, read_key(key)), contents.picture)
        write_new(out, to_draft(approved), private=True)


@app.command()
def seal(
    file: FileArgument,
    device_key: Annotated[Path, typer.Option(help="The device's encryption.pub.", exists=True, dir_okay=False)],
    out: OutOption,
) -> None:
    """Seal a draft to its device. Name the file *.tkcase: `turnkey case apply` takes these from a stick."""
    with refusing():
        contents = from_draft(file.read_bytes())
        write_new(out, sealed_packet(contents, SealingKey.from_pem(device_key.read_bytes())))
        typer.echo(f"{out}: only {_packet_of(contents).device_id} opens it")


@app.command()
def show(
    file: FileArgument,
    authority: Annotated[Path | None, typer.Option(help="Names the signers.", exists=True)] = None,
    picture: Annotated[Path | None, typer.Option(help="Write the picture here, to look at it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a draft says. Says nothing about whether it holds: that is `check`."""
    with refusing():
        contents = from_draft(file.read_bytes())
        packet, digest = _packet_of(contents), hashlib.sha256(contents.picture).hexdigest()
        signers = claimed_signers(contents.envelope, read_authority(authority.read_bytes()) if authority else None)
        if picture is not None:
            write_new(picture, contents.picture, private=True)
        if as_json:
            facts = {"packet": packet.model_dump(mode="json"), "claimed_signers": signers, "picture_sha256": digest}
            typer.echo(json.dumps(facts))
            return
        typer.echo(describe(packet))
        typer.echo(f"  picture inside   {len(contents.picture)} bytes, SHA-256 {digest}")
        typer.echo(f"  claims to be signed by {', '.join(signers) or 'nobody'}")


@app.command()
def check(
    file: FileArgument,
    authority: AuthorityOption,
    policy: Annotated[Path, typer.Option(help="The policy that the device is under.", exists=True)],
    as_json: JsonOption = False,
) -> None:
    """Judge a draft as its device would, as far as that can be known here (not: whether it was used)."""
    with refusing():
        contents = from_draft(file.read_bytes())
        rules = Policy.model_validate_json(peek(policy.read_bytes()).payload)
        body = read_authority(authority.read_bytes())
        verdict = judge(contents, rules, body, _packet_of(contents).device_id, datetime.now(UTC))
        if not isinstance(verdict, PacketHolds):
            if as_json:
                typer.echo(json.dumps({"verdict": "refused", "reason": verdict.reason, "message": verdict.message}))
                raise typer.Exit(1)
            fail(f"refused ({verdict.reason}): {verdict.message}")
        names = [body.name_of(key) for key in verdict.signers]
        typer.echo(json.dumps({"verdict": "good", "signers": names}) if as_json else f"good: {', '.join(names)} signed")


def describe(packet: CasePacket) -> str:
    """The document for a person."""
    basis = packet.legal_basis or "none stated"
    return "\n".join(
        (
            f"case packet {packet.packet_id}",
            f"  for device       {packet.device_id}, from {packet.not_before:%Y-%m-%d %H:%M} to "
            f"{packet.not_after:%Y-%m-%d %H:%M} UTC",
            f"  case             {packet.case_number}, {packet.offence_category}",
            f"  legal basis      {basis}{f' {packet.basis_reference}' if packet.basis_reference else ''}",
            f"  picture          {packet.picture_kind}, SHA-256 {packet.picture_sha256} as captured",
        )
    )


def _packet_of(contents: PacketContents) -> CasePacket:
    return CasePacket.model_validate_json(peek(contents.envelope).payload)
