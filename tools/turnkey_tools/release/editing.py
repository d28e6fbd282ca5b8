"""What a release says of who is to have it: changes to the targets' custom metadata. Does no I/O.

Rules kept here:
1. A version of one kind and board is signed once: a file is never exchanged under its version.
2. A device is pinned to one release of a kind and board.
3. A share only widens without `narrow`: taking a release back from who may have it already does not undo it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tuf.api.metadata import TargetFile, Targets

from turnkey.update.release import CUSTOM_KEY, Kind, Release, Terms, release_of
from turnkey_tools.release.keys import ReleaseError

SUFFIXES: Mapping[Kind, str] = {"bundle": ".raucb", "policy": ".dsse.json", "models": ".zip"}


def releases(targets: Targets) -> list[Release]:
    """Every release of the metadata, by name."""
    found = (
        release_of(name, target.length, target.hashes, target.unrecognized_fields.get("custom"))
        for name, target in sorted(targets.targets.items())
    )
    return [each for each in found if each is not None]


def name_of(terms: Terms) -> str:
    """The name a release's file goes by."""
    board = f"-{re.sub(r'[^a-zA-Z0-9]+', '-', terms.board)}" if terms.board else ""
    return f"{terms.kind}{board}-{terms.version}{SUFFIXES[terms.kind]}"


def find(targets: Targets, name: str) -> Release:
    """A release by its name. Raises: ReleaseError."""
    for each in releases(targets):
        if each.name == name:
            return each
    known = ", ".join(each.name for each in releases(targets)) or "none"
    raise ReleaseError(f"there is no release {name!r}; there is: {known}")


def add(targets: Targets, file: TargetFile, terms: Terms) -> None:
    """Add a release. Raises: ReleaseError."""
    if file.path in targets.targets:
        raise ReleaseError(f"{file.path} is signed already: a changed file gets a version of its own")
    _keep(file, terms)
    targets.targets[file.path] = file


def set_groups(targets: Targets, name: str, groups: Mapping[str, int], *, narrow: bool = False) -> None:
    """Change the shares of groups. Raises: ReleaseError."""
    terms = find(targets, name).terms
    less = [group for group, share in groups.items() if share < terms.groups.get(group, 0)]
    if less and not narrow:
        raise ReleaseError(
            f"{', '.join(less)}: a share only widens, since devices may have it; --narrow does it anyway"
        )
    _change(targets, name, groups={**terms.groups, **groups})


def set_paused(targets: Targets, name: str, paused: bool) -> None:
    """Pause or resume. Raises: ReleaseError."""
    find(targets, name)
    _change(targets, name, paused=paused)


def pin(targets: Targets, name: str, device_id: str) -> None:
    """Pin a device to a release, and to no other of its kind and board. Raises: ReleaseError."""
    wanted = find(targets, name)
    for each in releases(targets):
        same = (each.terms.kind, each.terms.board) == (wanted.terms.kind, wanted.terms.board)
        if same and device_id in each.terms.pins:
            _change(targets, each.name, pins=tuple(pin for pin in each.terms.pins if pin != device_id))
    _change(targets, name, pins=(*find(targets, name).terms.pins, device_id))


def unpin(targets: Targets, device_id: str) -> int:
    """Take a device off every pin; returns how many there were."""
    pinned = [each for each in releases(targets) if device_id in each.terms.pins]
    for each in pinned:
        _change(targets, each.name, pins=tuple(pin for pin in each.terms.pins if pin != device_id))
    return len(pinned)


def withdraw(targets: Targets, name: str) -> None:
    """Take a release out of the metadata: nobody gets it any more, whoever has it keeps it. Raises: ReleaseError."""
    find(targets, name)
    del targets.targets[name]


def _change(targets: Targets, name: str, **changes: object) -> None:
    target = targets.targets[name]
    terms = find(targets, name).terms.model_dump() | changes
    try:
        _keep(target, Terms.model_validate(terms))
    except ValueError as error:
        raise ReleaseError(f"{name}: {error}") from error


def _keep(target: TargetFile, terms: Terms) -> None:
    target.unrecognized_fields["custom"] = {CUSTOM_KEY: terms.model_dump(mode="json")}
