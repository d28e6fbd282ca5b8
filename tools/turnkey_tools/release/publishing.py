"""Signing drafts, and publishing what enough signers have signed.

Rules kept here, in the order in which they are enforced:
1. A key signs a draft only where its role asks for it; what is signed is shown first (the command line's part).
2. A root is published where its own threshold and its predecessor's have signed it, targets where the root's has.
3. Snapshot and timestamp are made here, with the two keys that stay on the desk.
4. The new state is first given to the device's own client, which starts from the first root and from the state before;
   what that client would refuse is not published.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from turnkey.update.client import Client, Way
from turnkey.update.fetching import STICK_URL, StickFetcher
from turnkey.update.limits import Limits
from turnkey.update.refusals import UpdateError
from turnkey_tools.release.desk import SNAPSHOT_DAYS, TIMESTAMP_DAYS, Desk, expiry, read_metadata, save
from turnkey_tools.release.keys import ReleaseError

Draft = Metadata[Root] | Metadata[Targets]


def read_draft(path: Path) -> Draft:
    """A draft of root or targets. Raises: ReleaseError."""
    try:
        return read_metadata(path, Root)
    except ReleaseError:
        return read_metadata(path, Targets)


def sign_draft(path: Path, signer: CryptoSigner, roots: list[Root]) -> Draft:
    """Add a signature to a draft; a second one by the same key replaces the first.

    Args:
        path: of the draft, here or copied to the machine of the key.
        signer: the key.
        roots: whose roles may sign it: for a root itself and its predecessor, for targets the root in force or to come.

    Raises:
        ReleaseError: the key is in none of these roles.
    """
    draft = read_draft(path)
    role = draft.signed.type
    if all(signer.public_key.keyid not in root.roles[role].keyids for root in roots):
        raise ReleaseError(f"this key is not one of the {role} keys: it would sign for nothing")
    draft.sign(signer, append=True)
    save(path, draft)
    return draft


def missing_signatures(desk: Desk) -> dict[str, str]:
    """What each draft still lacks, in words; empty where all are signed. Raises: ReleaseError."""
    lacks: dict[str, str] = {}
    root = desk.current_root()
    if desk.draft_root.exists():
        before = desk.published_root()
        verdict = root.signed.get_root_verification_result(
            before.signed if before else None, root.signed_bytes, root.signatures
        )
        if not verdict:
            parts = [
                f"{len(part.signed)} of {part.threshold} of {whose} keys"
                for part, whose in ((verdict.first, "the former"), (verdict.second, "its own"))
                if not part.verified
            ]
            lacks["root"] = ", ".join(parts)
    if desk.draft_targets.exists():
        targets = read_metadata(desk.draft_targets, Targets)
        result = root.signed.get_verification_result("targets", targets.signed_bytes, targets.signatures)
        if not result.verified:
            lacks["targets"] = f"{len(result.signed)} of {result.threshold} keys"
    return lacks


def publish(desk: Desk, snapshot_key: CryptoSigner, timestamp_key: CryptoSigner) -> None:
    """Publish the drafts; without drafts, renew snapshot and timestamp. Raises: ReleaseError."""
    lacks = missing_signatures(desk)
    if lacks:
        raise ReleaseError("not signed by enough: " + "; ".join(f"{role} has {said}" for role, said in lacks.items()))
    with tempfile.TemporaryDirectory(prefix="turnkey-release-") as folder:
        state = Path(folder) / "published"
        if desk.metadata.is_dir():
            shutil.copytree(desk.metadata, state / "metadata")
        written = _write_state(desk, Desk(Path(folder)).metadata, snapshot_key, timestamp_key)
        _rehearse(desk, state, Path(folder))
        desk.metadata.mkdir(parents=True, exist_ok=True)
        for name in written:
            draft = desk.metadata / f".{name}.draft"
            shutil.copyfile(state / "metadata" / name, draft)
            draft.chmod(0o644)
            draft.replace(desk.metadata / name)
    desk.draft_root.unlink(missing_ok=True)
    desk.draft_targets.unlink(missing_ok=True)


def _write_state(desk: Desk, into: Path, snapshot_key: CryptoSigner, timestamp_key: CryptoSigner) -> list[str]:
    """The new files, in the order in which they are to appear."""
    written = []
    root = desk.current_root().signed
    for role, key in (("snapshot", snapshot_key), ("timestamp", timestamp_key)):
        if key.public_key.keyid not in root.roles[role].keyids:
            raise ReleaseError(f"the {role} key is not one that the root names")
    if desk.draft_root.exists():
        name = f"{root.version}.root.json"
        into.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(desk.draft_root, into / name)
        written.append(name)
    if desk.draft_targets.exists():
        targets = read_metadata(desk.draft_targets, Targets)
        name = f"{targets.signed.version}.targets.json"
        shutil.copyfile(desk.draft_targets, into / name)
        written.append(name)
    else:
        published = desk.published_targets()
        if published is None:
            raise ReleaseError("there are no targets yet")
        targets = published
    snapshot = desk.published_snapshot()
    if snapshot is None:
        snapshot = Metadata(Snapshot())
    else:
        snapshot.signed.version += 1
    snapshot.signed.expires = expiry(SNAPSHOT_DAYS)
    snapshot.signed.meta["targets.json"] = MetaFile(targets.signed.version)
    snapshot.sign(snapshot_key)
    save(into / f"{snapshot.signed.version}.snapshot.json", snapshot)
    timestamp = desk.published_timestamp()
    if timestamp is None:
        timestamp = Metadata(Timestamp())
    else:
        timestamp.signed.version += 1
    timestamp.signed.expires = expiry(TIMESTAMP_DAYS)
    timestamp.signed.snapshot_meta = MetaFile(snapshot.signed.version)
    timestamp.sign(timestamp_key)
    save(into / "timestamp.json", timestamp)
    return [*written, f"{snapshot.signed.version}.snapshot.json", "timestamp.json"]


def _rehearse(desk: Desk, state: Path, folder: Path) -> None:
    """What a device would make of it: a new one, and one that knows the state before."""
    first_root = (state / "metadata" / "1.root.json").read_bytes()
    known = folder / "known"
    for published in (desk.root / "published", state):
        if (published / "metadata" / "timestamp.json").exists():
            _look(first_root, published, known, former=published != state)
    _look(first_root, state, folder / "new", former=False)


def _look(first_root: bytes, published: Path, memory: Path, *, former: bool) -> None:
    try:
        way = Way(f"{STICK_URL}/metadata/", f"{STICK_URL}/targets/", StickFetcher(published, Limits()))
        client = Client(memory, first_root, way, memory / "files")
        client.refresh()
        client.releases()
    except (UpdateError, RepositoryError) as error:
        if not former:  # a state that has run out is no reason against the one that renews it
            raise ReleaseError(f"a device would refuse this: {error}") from error
