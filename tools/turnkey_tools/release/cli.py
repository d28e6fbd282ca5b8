"""`turnkeyctl release`: the command line. Thin: it reads arguments, calls, and shows what is about to be signed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root, Targets

from turnkey.update.release import Kind, Terms
from turnkey_tools.release import editing
from turnkey_tools.release.desk import Desk, RoleKeys, copy_published, init, next_root, read_metadata
from turnkey_tools.release.keys import PassphraseNeeded, ReleaseError, new_key, read_public, read_signer
from turnkey_tools.release.publishing import Draft, missing_signatures, publish, read_draft, sign_draft
from turnkey_tools.release.serve import serve

app = typer.Typer(
    no_args_is_help=True,
    help="""Sign and publish updates (TUF). A first release, from nothing:

\b
release keys root-1.key        once on each root holder's own machine (three of them), --passphrase for a safe
release keys targets.key       likewise snapshot.key and timestamp.key, on the desk
release init REPO --root root-1.pub --root root-2.pub --root root-3.pub --targets targets.pub ...
release sign REPO/draft/root.json --key root-1.key      two of three, each on a machine of its own
release add REPO turnkey-1.1.raucb --kind bundle --version 1.1 --board turnkey-rpi5 --group pilot=100
release sign REPO/draft/targets.json --key targets.key
release publish REPO --snapshot-key snapshot.key --timestamp-key timestamp.key

Then upload REPO/published to any web server. Publish again, without a draft, at least every ten days: it renews the
timestamp, and devices believe none that has run out.""",
)
RepoArgument = Annotated[Path, typer.Argument(metavar="REPO", help="The repository's directory.")]
NameArgument = Annotated[str, typer.Argument(help="Of the release, as `release status` shows it.")]
GroupOption = Annotated[list[str], typer.Option("--group", help="NAME=PERCENT; may be given several times.")]
PublicOption = Annotated[
    list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Public key; several times.")
]


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (ReleaseError, OSError) as error:
        typer.echo(f"refused: {error}", err=True)
        raise typer.Exit(1) from error


@app.command()
def keys(
    out: Annotated[Path, typer.Argument(help="NAME.key; NAME.pub is written beside it.")],
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask for a passphrase to keep the key under.")
    ] = False,
) -> None:
    """Make one key pair (Ed25519). Give away the .pub; the .key stays on this machine."""
    with _told():
        word = typer.prompt("passphrase", hide_input=True, confirmation_prompt=True) if passphrase else None
        typer.echo(f"wrote {out} and {new_key(out, word)}")


@app.command("init")
def init_repository(
    repo: RepoArgument,
    root: PublicOption = None,
    threshold: Annotated[int, typer.Option(min=1, help="How many root keys must sign.")] = 2,
    targets: PublicOption = None,
    snapshot: PublicOption = None,
    timestamp: PublicOption = None,
) -> None:
    """Begin a repository: drafts of its root and of empty targets, to be signed and published."""
    with _told():
        given = {"root": root, "targets": targets, "snapshot": snapshot, "timestamp": timestamp}
        missing = [f"--{name}" for name, files in given.items() if not files]
        if missing:
            raise ReleaseError(f"{', '.join(missing)}: each role needs a public key")
        init(repo, _roles(given, threshold))
        typer.echo(f"drafted {repo}/draft/root.json and targets.json; now: release sign")


@app.command()
def root(
    repo: RepoArgument,
    root_keys: Annotated[list[Path] | None, typer.Option("--root", help="New root keys, all of them.")] = None,
    threshold: Annotated[int, typer.Option(min=1, help="How many root keys must sign.")] = 2,
    targets: PublicOption = None,
    snapshot: PublicOption = None,
    timestamp: PublicOption = None,
) -> None:
    """Draft the next root: with new keys for the roles that are given, or only with a later expiry.

    Former and new root holders sign it, each side by its threshold.
    """
    with _told():
        given = {"root": root_keys, "targets": targets, "snapshot": snapshot, "timestamp": timestamp}
        desk = Desk(repo)
        next_root(desk, _roles({name: files for name, files in given.items() if files}, threshold))
        if targets and not desk.draft_targets.exists():
            desk.keep_targets(desk.open_targets())
            typer.echo("new targets keys: the targets are drafted anew, to be signed by them")
        typer.echo(f"drafted {desk.draft_root}; now: release sign, by former and new holders")


@app.command()
def add(
    repo: RepoArgument,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    kind: Annotated[
        str, typer.Option(help="bundle (RAUC), policy (signed, DSSE) or models (.zip of a models directory).")
    ],
    version: Annotated[str, typer.Option(help="One to four numbers: 1.4.0. Devices never go back.")],
    board: Annotated[str | None, typer.Option(help="RAUC's `compatible`; bundles need one.")] = None,
    group: GroupOption = [],  # noqa: B006
    paused: Annotated[bool, typer.Option("--paused", help="Add it so that nobody takes it yet.")] = False,
) -> None:
    """Add a file as a release, for the groups that are named; nobody else gets it."""
    with _told():
        if kind not in get_args(Kind):
            raise ReleaseError(f"no kind {kind!r}: {', '.join(get_args(Kind))}")
        if (kind == "bundle") != (board is not None):
            raise ReleaseError("a bundle needs --board, and nothing else has one")
        try:
            terms = Terms(kind=cast(Kind, kind), version=version, board=board, groups=_shares(group), paused=paused)
        except ValidationError as error:
            raise ReleaseError(str(error.errors(include_url=False)[0]["msg"])) from error
        desk = Desk(repo)
        targets = desk.open_targets()
        name = editing.name_of(terms)
        if name in targets.signed.targets:
            raise ReleaseError(f"{name} is there already: a changed file gets a version of its own")
        editing.add(targets.signed, desk.add_file(file, name), terms)
        desk.keep_targets(targets)
        typer.echo(f"drafted {name}; now: release sign {desk.draft_targets}")


@app.command()
def rollout(
    repo: RepoArgument,
    name: NameArgument,
    group: GroupOption,
    narrow: Annotated[bool, typer.Option("--narrow", help="Make a share smaller.")] = False,
) -> None:
    """Set which share of a group's devices gets a release. Widening keeps the devices that were in it."""
    _edit(repo, lambda targets: editing.set_groups(targets, name, _shares(group), narrow=narrow))


@app.command()
def pause(repo: RepoArgument, name: NameArgument) -> None:
    """Nobody takes this release for now; who has it keeps it."""
    _edit(repo, lambda targets: editing.set_paused(targets, name, True))


@app.command()
def resume(repo: RepoArgument, name: NameArgument) -> None:
    """Go on after a pause."""
    _edit(repo, lambda targets: editing.set_paused(targets, name, False))


@app.command()
def pin(repo: RepoArgument, name: NameArgument, device: Annotated[str, typer.Argument(help="Device id.")]) -> None:
    """This device takes this release, whatever groups and pauses say, and no other of its kind. It never goes back."""
    _edit(repo, lambda targets: editing.pin(targets, name, device))


@app.command()
def unpin(repo: RepoArgument, device: Annotated[str, typer.Argument(help="Device id.")]) -> None:
    """This device is treated like its group again."""
    _edit(repo, lambda targets: editing.unpin(targets, device))


@app.command()
def withdraw(repo: RepoArgument, name: NameArgument) -> None:
    """Take a release out of the metadata; who has it keeps it."""
    _edit(repo, lambda targets: editing.withdraw(targets, name))


@app.command()
def sign(
    draft: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="draft/root.json or draft/targets.json.")],
    key: Annotated[Path, typer.Option("--key", exists=True, dir_okay=False, help="Your private key.")],
    known_root: Annotated[
        Path | None, typer.Option("--root", help="The root in force, where the draft was copied to another machine.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Show a draft, and sign it. The file may be passed from machine to machine; signatures add up."""
    with _told():
        found = read_draft(draft)
        _show(found)
        if not yes:
            typer.confirm("sign this?", abort=True)
        desk = Desk(draft.resolve().parent.parent)
        roots = [found.signed] if isinstance(found.signed, Root) else []
        if known_root is not None:
            roots.append(read_metadata(known_root, Root).signed)
        else:
            published = desk.published_root()
            roots += [published.signed] if published else []
            roots += [desk.current_root().signed] if desk.draft_root.exists() else []
        if not roots:
            raise ReleaseError("whose keys may sign this? give the root in force with --root")
        signed = sign_draft(draft, _signer(key), roots)
        typer.echo(f"signed; {len(signed.signatures)} signature(s) on {draft.name}")


@app.command("publish")
def publish_state(
    repo: RepoArgument,
    snapshot_key: Annotated[Path, typer.Option(exists=True, dir_okay=False)],
    timestamp_key: Annotated[Path, typer.Option(exists=True, dir_okay=False)],
) -> None:
    """Publish what is signed; without drafts, renew snapshot and timestamp. A device's own client tries it first."""
    with _told():
        desk = Desk(repo)
        publish(desk, _signer(snapshot_key), _signer(timestamp_key))
        typer.echo(f"published; upload {repo}/published (timestamp.json last)")


@app.command()
def stick(
    repo: RepoArgument,
    out: Annotated[Path, typer.Argument(help="Directory to make on the stick, or a .zip.")],
    name: Annotated[list[str] | None, typer.Option("--release", help="Only these; default: all.")] = None,
) -> None:
    """Put a published state on a stick, for `turnkey update apply`. It is good for as long as its timestamp is."""
    with _told():
        desk = Desk(repo)
        published = desk.published_targets()
        if published is None:
            raise ReleaseError("nothing is published yet")
        if out.exists():
            raise ReleaseError(f"{out} exists already")
        names = [editing.find(published.signed, each).name for each in name or ()]
        copy_published(desk, out, names or [each.name for each in editing.releases(published.signed)])
        typer.echo(f"wrote {out}")


@app.command()
def status(repo: RepoArgument, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Show releases, when each role runs out, and what the drafts still lack."""
    with _told():
        desk = Desk(repo)
        roles = [desk.published_root(), desk.published_targets(), desk.published_snapshot(), desk.published_timestamp()]
        days = {
            role.signed.type: round((role.signed.expires - datetime.now(UTC)).total_seconds() / 86400, 1)
            for role in roles
            if role is not None
        }
        lacks = missing_signatures(desk)
        targets = desk.open_targets().signed if desk.draft_targets.exists() or desk.published_targets() else None
        found = editing.releases(targets) if targets else []
        if as_json:
            listed = [
                {"name": each.name, "digest": each.digest, **each.terms.model_dump(mode="json")} for each in found
            ]
            drafts = [path.name for path in (desk.draft_root, desk.draft_targets) if path.exists()]
            typer.echo(json.dumps({"days_left": days, "drafts": drafts, "lacks": lacks, "releases": listed}))
            return
        if targets is not None:
            _releases(targets)
        for name, left in days.items():
            typer.echo(f"{name:10} runs out in {left} days")
        for path, role in ((desk.draft_root, "root"), (desk.draft_targets, "targets")):
            if path.exists():
                typer.echo(f"{role:10} drafted, {lacks.get(role, 'fully signed: release publish')}")


app.command("serve")(serve)


def _edit(repo: Path, change: Callable[[Targets], object]) -> None:
    with _told():
        desk = Desk(repo)
        targets = desk.open_targets()
        change(targets.signed)
        desk.keep_targets(targets)
        typer.echo(f"drafted; now: release sign {desk.draft_targets}")


def _roles(given: dict[str, list[Path] | None], threshold: int) -> dict[str, RoleKeys]:
    return {
        name: RoleKeys(tuple(read_public(file) for file in files or ()), threshold if name == "root" else 1)
        for name, files in given.items()
    }


def _shares(groups: list[str]) -> dict[str, int]:
    shares = {}
    for each in groups:
        name, _, percent = each.partition("=")
        if not percent.isdigit():
            raise ReleaseError(f"--group {each}: write NAME=PERCENT")
        shares[name] = int(percent)
    return shares


def _signer(path: Path) -> CryptoSigner:
    try:
        return read_signer(path)
    except PassphraseNeeded:
        return read_signer(path, typer.prompt(f"passphrase of {path.name}", hide_input=True))


def _show(draft: Draft) -> None:
    signed = draft.signed
    typer.echo(f"{signed.type} version {signed.version}, good until {signed.expires:%Y-%m-%d %H:%M} UTC")
    if isinstance(signed, Root):
        for name, role in sorted(signed.roles.items()):
            typer.echo(f"  {name:10} {role.threshold} of {len(role.keyids)}: {', '.join(k[:12] for k in role.keyids)}")
    else:
        _releases(signed)


def _releases(targets: Targets) -> None:
    table = Table("release", "groups", "pinned", "SHA-256")
    for each in editing.releases(targets):
        shares = ", ".join(f"{group} {share} %" for group, share in each.terms.groups.items()) or "nobody"
        said = f"{shares} (paused)" if each.terms.paused else shares
        table.add_row(each.name, said, ", ".join(each.terms.pins), each.digest[:16])
    Console().print(table)
