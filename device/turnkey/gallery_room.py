"""What works on the gallery, in the two forms of a device: in its one process, or as the booth where that is apart.

Rules kept here:
1. The booth has neither the signing key nor the ledger: what it has for both is the notary's socket.
2. Its gallery is locked the moment that its permit dies, or the notary's process does; no step asks for that.
3. One process at a time has a booth's gallery; a second one is refused by name.
4. What an operator does with the gallery of a booth that does not run is done as the booth's user, with its rights.
"""

from __future__ import annotations

import os
import pwd
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from turnkey.accepted_models import accepted_manifest
from turnkey.device import Device, hold
from turnkey.following import followed, policy_known
from turnkey.gallery.gallery import Gallery
from turnkey.interlock.authority import Authority
from turnkey.interlock.lease import LeaseClient
from turnkey.interlock.permit import Permit, Stopped
from turnkey.leads.policy import PolicyRefusal, SignedPolicy
from turnkey.notary.client import NotaryClient
from turnkey.notary.notary import Recorder
from turnkey.settings import Settings
from turnkey.vision.analyzer import Analyzer
from turnkey.vision.manifest import Manifest, model_id

LOOK_S = 0.02
"""How often it is seen whether there is a permit, and whether the notary is there. A permit's death is not polled."""


@dataclass(frozen=True)
class GalleryRoom:
    """The gallery, and what work on it needs.

    Attributes:
        notary: puts it on record.
        permit: a live permit, or raises Stopped.
        policy: the one in force, or why there is none.
        authority: who may sign what.
        gallery_key: the key's file; None where the key comes by lease alone.
        attended: whether the thread that locks the gallery is there.
    """

    settings: Settings
    manifest: Manifest
    gallery: Gallery
    analyzer: Analyzer
    notary: Recorder
    permit: Callable[[], Permit]
    policy: Callable[[], SignedPolicy | PolicyRefusal]
    authority: Callable[[], Authority]
    gallery_key: Path | None
    attended: Callable[[], bool]

    @property
    def model_id(self) -> str:
        """The embedder in use, as policies and rows name it."""
        return model_id(self.manifest.embedder)


def room_of(device: Device) -> GalleryRoom:
    """The gallery of a device in one process."""
    return GalleryRoom(
        settings=device.settings,
        manifest=device.manifest,
        gallery=device.gallery,
        analyzer=device.analyzer,
        notary=device.notary,
        permit=device.interlock.permit,
        policy=device.policy,
        authority=device.authority,
        gallery_key=device.settings.gallery_key,
        attended=lambda: True,
    )


class _NotaryAndLease:
    """The booth's gate: a permit of the interlock's, and a notary to put the work on record."""

    def __init__(self, lease: LeaseClient, notary: NotaryClient) -> None:
        self._lease = lease
        self._notary = notary

    def permit(self) -> Permit:
        """A live permit. Raises: Stopped."""
        if not self._notary.present:
            raise Stopped("notary-gone")
        return self._lease.permit()


class _Lock(threading.Thread):
    """Locks the gallery at each death of a permit, and while the notary is gone."""

    def __init__(self, gate: _NotaryAndLease, gallery: Gallery, end: threading.Event) -> None:
        super().__init__(name="gallery-lock", daemon=True)
        self._gate = gate
        self._gallery = gallery
        self._end = end

    def run(self) -> None:
        """Watch until the process ends."""
        held: Permit | None = None
        while not self._end.is_set():
            try:
                held = self._gate.permit()
                held.wait(LOOK_S)
                held.check()
            except Stopped:
                if held is not None:
                    self._gallery.lock()
                    held = None
                self._end.wait(LOOK_S)


@contextmanager
def booth_room(settings: Settings) -> Iterator[GalleryRoom]:
    """The gallery of a booth whose interlock and notary are processes of their own. `settings.state` is the booth's.

    Raises:
        DeviceBusy: the booth's own process has it.
        StorageError, ModelError, AuthorityError, OSError: it cannot be opened.
    """
    sockets = settings.interlock.socket
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as parts:
        parts.callback(os.close, hold(settings.state / "in-use"))
        following = followed(settings)
        manifest = accepted_manifest(settings.models, following.current)
        model = model_id(manifest.embedder)
        gallery = Gallery(settings.state / "gallery.db", model, **settings.gallery.model_dump())
        parts.callback(gallery.lock)
        silence_s = settings.interlock.lease_validity_ms / 1e3
        notary = NotaryClient(sockets.notary, silence_s=silence_s).start()
        parts.callback(notary.close)
        lease = LeaseClient(sockets.path, silence_s=silence_s).start()
        parts.callback(lease.close)
        gate, end = _NotaryAndLease(lease, notary), threading.Event()
        lock = _Lock(gate, gallery, end)
        lock.start()
        parts.callback(lock.join)
        parts.callback(end.set)

        yield GalleryRoom(
            settings=settings,
            manifest=manifest,
            gallery=gallery,
            analyzer=Analyzer.load(settings.models, manifest, threads=settings.threads),
            notary=notary,
            permit=gate.permit,
            policy=policy_known(settings, following, "policy-of-the-booth.json"),
            authority=lambda: following.current,
            gallery_key=None,
            attended=lock.is_alive,
        )


def become(user: str) -> None:
    """Let root go on as `user`, with that user's groups; whoever is not root stays who he is.

    Raises:
        OSError: there is no such user.
    """
    if os.geteuid() != 0:
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise OSError(f"there is no user {user}: is this device installed?") from error
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
