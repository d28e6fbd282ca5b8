"""`turnkeyctl authority …`: keys, and the document that says who may sign what.

Everything here works offline. Each holder makes a key on their own machine and gives away the `.pub` file; whoever
writes the authority collects those; each signer of the root signs a copy on their own machine; the copies are merged.

The specification is a TOML file; paths are relative to it:

    jurisdiction = "Benchville"
    [holders]
    "Chief of police" = "chief.pub"
    "Clerk" = "clerk.pub"
    [roles.root]
    holders = ["Clerk"]
    threshold = 1
    rank = 3
    may = ["authority"]

Rules kept here:
1. A private key is written with O_EXCL and mode 0600, and never printed.
2. No file that exists is overwritten.
3. What is signed is shown first.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import BaseModel, ConfigDict, ValidationError

from turnkey.envelope import EnvelopeError, KeyFileError, PublicKey, SigningKey, cosign, merge, sign, signing_keyids
from turnkey.interlock.authority import (
    AUTHORITY_TYPE,
    ROOT,
    Act,
    Authority,
    AuthorityError,
    Holder,
    Role,
    first_authority,
    read_authority,
    successor,
)

app = typer.Typer(help="Keys, and the document that says who may sign what.", no_args_is_help=True)

KeyOption = Annotated[Path, typer.Option("--key", help="Your private key (PEM).", exists=True, dir_okay=False)]
OutOption = Annotated[Path, typer.Option("--out", help="The file to write; it must not exist.")]
FileArgument = Annotated[Path, typer.Argument(exists=True, dir_okay=False)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    holders: list[str]
    threshold: int
    rank: int = 0
    may: frozenset[Act]


class _Specification(BaseModel):
    model_config = ConfigDict(extra="forbid")
    jurisdiction: str
    holders: dict[str, Path]
    roles: dict[str, _Body]


@dataclass(frozen=True)
class Body:
    """One role with the private keys of everybody in it: only where one machine holds them all, as in a demo."""

    keys: tuple[SigningKey, ...]
    threshold: int
    rank: int
    may: frozenset[Act]


@dataclass(frozen=True)
class ThrowawayAuthority:
    """An authority whose every key lies on this machine: for the demo, the tests and the bench, never for a device.

    Attributes:
        authority: the document.
        envelope: the document, signed by its own root.
        bodies: by role.
    """

    authority: Authority
    envelope: bytes
    bodies: Mapping[str, Body]

    def sign(self, payload_type: str, payload: bytes, role: str) -> bytes:
        """Sign with exactly the threshold of a role."""
        body = self.bodies[role]
        return sign_with(payload_type, payload, body.keys[: body.threshold])


def throwaway_authority(jurisdiction: str = "Demonstration") -> ThrowawayAuthority:
    """Chief 1 of 1, council 10 of 15, release, policy and root 2 of 3, analyst and supervisor 1 of 2; all keys new."""
    shapes: dict[str, tuple[int, int, int, frozenset[Act]]] = {
        "chief": (1, 1, 1, frozenset({"moratorium", "release"})),
        "council": (15, 10, 2, frozenset({"moratorium", "release"})),
        "release": (3, 2, 0, frozenset({"release"})),
        "policy": (3, 2, 0, frozenset({"policy", "expungement"})),
        "analyst": (2, 1, 0, frozenset({"case-packet", "template-pack"})),
        "supervisor": (2, 1, 0, frozenset({"case-packet", "template-pack"})),
        ROOT: (3, 2, 3, frozenset({"authority"})),
    }
    bodies = {
        name: Body(tuple(SigningKey.generate() for _ in range(size)), threshold, rank, may)
        for name, (size, threshold, rank, may) in shapes.items()
    }
    authority = new_authority(
        jurisdiction,
        {
            f"{name} {number}": key.public
            for name, body in bodies.items()
            for number, key in enumerate(body.keys, start=1)
        },
        {
            name: Role(
                keys=tuple(key.public.to_hex() for key in body.keys),
                threshold=body.threshold,
                rank=body.rank,
                may=body.may,
            )
            for name, body in bodies.items()
        },
    )
    root = bodies[ROOT]
    envelope = sign_with(AUTHORITY_TYPE, authority.payload(), root.keys[: root.threshold])
    return ThrowawayAuthority(authority, envelope, bodies)


def new_authority(
    jurisdiction: str, holders: Mapping[str, PublicKey], roles: Mapping[str, Role], *, version: int = 1
) -> Authority:
    """Write an authority.

    Raises:
        pydantic.ValidationError: roles without holders, thresholds that cannot be reached, no root.
    """
    return Authority(
        version=version,
        jurisdiction=jurisdiction,
        holders=tuple(Holder(key=key.to_hex(), name=name) for name, key in holders.items()),
        roles=dict(roles),
    )


def sign_with(payload_type: str, payload: bytes, keys: Sequence[SigningKey]) -> bytes:
    """An envelope with the signature of each key."""
    data = sign(payload_type, payload, keys[0])
    for key in keys[1:]:
        data = cosign(data, key)
    return data


@app.command()
def key(out: OutOption) -> None:
    """Make a key pair: OUT is private and stays with you, OUT.pub is to be given away."""
    pair = SigningKey.generate()
    write_new(out, pair.to_pem(), private=True)
    write_new(out.with_name(f"{out.name}.pub"), pair.public.to_pem())
    typer.echo(f"{out}: keep it to yourself. {out}.pub: give it to whoever writes the authority.")
    typer.echo(pair.public.to_hex())


@app.command()
def new(
    specification: FileArgument,
    key: KeyOption,
    out: OutOption,
    replaces: Annotated[Path | None, typer.Option(help="The authority that this one succeeds.")] = None,
) -> None:
    """Write an authority from a specification and put the first signature on it."""
    with refusing():
        authority = _from_specification(specification, read_authority(replaces.read_bytes()) if replaces else None)
    typer.echo(describe(authority))
    write_new(out, sign(AUTHORITY_TYPE, authority.payload(), read_key(key)))


def add_signing(commands: typer.Typer, signing: str, what: str, shown: Callable[[bytes], str]) -> None:
    """Mount what every signed document needs: to add a signature (the command `signing`), unite copies, and look.

    Args:
        what: the kind of document, with its article.
        shown: the document for a person, WITHOUT trusting it; raises EnvelopeError or AuthorityError.
    """

    @commands.command(signing, help=f"Add your signature to {what}; it is shown first.")
    def sign_command(file: FileArgument, key: KeyOption, out: OutOption) -> None:
        with refusing():
            data = file.read_bytes()
            typer.echo(shown(data))
            write_new(out, cosign(data, read_key(key)))

    @commands.command("merge", help="Unite the signatures of two copies.")
    def merge_command(first: FileArgument, second: FileArgument, out: OutOption) -> None:
        with refusing():
            write_new(out, merge(first.read_bytes(), second.read_bytes()))

    @commands.command("show", help=f"Print what {what} says. Says nothing about whether it holds: that is `check`.")
    def show(file: FileArgument) -> None:
        with refusing():
            typer.echo(shown(file.read_bytes()))


add_signing(app, "sign", "an authority", lambda data: describe(read_authority(data)))


@app.command()
def check(
    file: FileArgument,
    current: Annotated[Path | None, typer.Option(help="The authority it is to replace.", exists=True)] = None,
) -> None:
    """Check as a device would: a first authority by its own root, a successor by the root it replaces as well."""
    with refusing():
        data = file.read_bytes()
        authority = successor(read_authority(current.read_bytes()), data) if current else first_authority(data)
        typer.echo(f"good: version {authority.version} for {authority.jurisdiction}")


def describe(authority: Authority) -> str:
    """The authority for a person."""
    lines = [f"authority of {authority.jurisdiction}, version {authority.version}"]
    for name, role in sorted(authority.roles.items(), key=lambda item: -item[1].rank):
        lines.append(
            f"  {name}: {role.threshold} of {len(role.keys)}, rank {role.rank}, may sign {', '.join(sorted(role.may))}"
        )
        lines += [f"    {key[:16]}  {authority.name_of(key)}" for key in role.keys]
    return "\n".join(lines)


def claimed_signers(data: bytes, authority: Authority | None) -> list[str]:
    """Who an envelope CLAIMS to be signed by: names where the authority knows the key, ids where it does not.

    Raises:
        EnvelopeError: `data` is not an envelope.
    """
    names = {PublicKey.from_hex(holder.key).keyid: holder.name for holder in authority.holders} if authority else {}
    return sorted(names.get(keyid, keyid[:16]) for keyid in signing_keyids(data))


@contextmanager
def refusing() -> Iterator[None]:
    """Turn a refusal into one line on stderr and exit code 1; a traceback is not for signers."""
    try:
        yield
    except (EnvelopeError, AuthorityError) as error:
        fail(f"refused ({error.reason}): {error}")
    except (KeyFileError, ValidationError, tomllib.TOMLDecodeError) as error:
        fail(f"refused (malformed): {error}")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")


def fail(message: str) -> NoReturn:
    """Say why and leave with 1."""
    typer.echo(message, err=True)
    raise typer.Exit(1)


def read_key(path: Path) -> SigningKey:
    """A private key from its PEM file; leaves with 1 where it is none."""
    try:
        return SigningKey.from_pem(path.read_bytes())
    except KeyFileError as error:
        fail(f"{path}: {error}")


def write_new(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file that did not exist; leaves with 1 where it does."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
    except FileExistsError:
        fail(f"{path} exists: it is not overwritten")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _from_specification(path: Path, replaced: Authority | None) -> Authority:
    wanted = _Specification.model_validate(tomllib.loads(path.read_text()))
    holders = {name: PublicKey.from_pem((path.parent / file).read_bytes()) for name, file in wanted.holders.items()}
    strangers = {name for body in wanted.roles.values() for name in body.holders} - set(holders)
    if strangers:
        fail(f"no such holder: {', '.join(sorted(strangers))}")
    roles = {
        name: Role(
            keys=tuple(holders[holder].to_hex() for holder in body.holders),
            threshold=body.threshold,
            rank=body.rank,
            may=body.may,
        )
        for name, body in wanted.roles.items()
    }
    return new_authority(wanted.jurisdiction, holders, roles, version=replaced.version + 1 if replaced else 1)
