"""`turnkey update`, `turnkey health` and the unit turnkey-update: wiring, and words for a person.

Exit codes: 0 done, also where there was nothing to do; 1 refused, or the device is not well; 2 the settings are wrong.
"""

from __future__ import annotations

import json
import os
import pwd
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from turnkey import __version__
from turnkey.accepted_models import accepted_manifest
from turnkey.commands.chosen import JsonOption, chosen_settings, fail
from turnkey.following import FollowedAuthority, interlock_status, policy_apart
from turnkey.interlock.authority import AuthorityError
from turnkey.leads.policy import PolicyRefusal
from turnkey.policy_file import PolicyFile
from turnkey.settings import Settings
from turnkey.update.client import Way
from turnkey.update.fetching import STICK_URL, HttpFetcher, StickFetcher, tls_context
from turnkey.update.health import Health, examine, started
from turnkey.update.installer import Installer, SimulatedInstaller, Slot, write_whole
from turnkey.update.installer import Progress as Told
from turnkey.update.ledger import NotarySocket
from turnkey.update.limits import Limits
from turnkey.update.placing import ModelsCheck, ModelsPlacer, Placer, PolicyCheck, PolicyPlacer
from turnkey.update.rauc import RaucInstaller
from turnkey.update.refusals import UpdateError, UpdateReason, UpdateRefusal
from turnkey.update.release import Kind
from turnkey.update.state import StateFile
from turnkey.update.units import active_states, measure
from turnkey.update.updating import Device, Report, Updating
from turnkey.vision.manifest import ModelError

Fetched = Callable[[int, int], None]
"""Told how many bytes of a file are here, and of how many."""
START_LOOK_S, EXAMINE_AGAIN_S = 1.0, 15.0
"""How often it is seen whether all units are up; how long after an examination that failed comes the next."""
BOOT_VARIABLE, BOOT_FILE = "TURNKEY_BOOT_ID", Path("/proc/sys/kernel/random/boot_id")

update_app = typer.Typer(
    no_args_is_help=True,
    help="Signed updates: of the system (RAUC), the policy, the models. From the update server, or from a stick.",
)


@update_app.command()
def poll(as_json: JsonOption = False) -> None:
    """Look at the update server now, and take what is signed for this device. The timer does the same by itself."""
    settings = chosen_settings()
    _become_owner(settings.update.folder)
    _finish(_run(settings, _server_way), as_json)


@update_app.command()
def apply(
    source: Annotated[
        Path, typer.Argument(exists=True, metavar="FILE_OR_STICK", help="A published repository: directory or .zip.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Take an update from a mounted stick or a file, with the same checks: signatures, versions, expiry, hashes.

    Make one with `turnkeyctl release stick`. It runs out when its timestamp does.
    """
    settings = chosen_settings()
    place = source.resolve()
    _become_owner(settings.update.folder)
    _finish(_run(settings, lambda _settings, limits, _told: stick_way(place, limits)), as_json)


@update_app.command()
def status(as_json: JsonOption = False) -> None:
    """Show what runs, what is in the slots, and what became of the last update. Changes nothing."""
    settings = chosen_settings()
    state = StateFile(settings.update.folder / "state.json").read()
    installer = installer_of(settings)
    facts: dict[str, object] = {
        "software": __version__,
        "system": installer.running_version(),
        "group": settings.update.group,
        "board": settings.update.board,
        "server": settings.update.server,
        **state.model_dump(),
    }
    slots: tuple[Slot, ...] = ()
    try:
        slots = installer.slots()
    except UpdateError as error:
        facts["slots_unknown"] = str(error)
    facts["slots"] = [asdict(slot) for slot in slots]
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"system        {facts['system'] or 'does not say its version'}; software {__version__}")
    typer.echo(f"updates       for group {settings.update.group}, board {settings.update.board}")
    typer.echo(f"server        {settings.update.server or 'none: updates come by stick'}")
    for slot in slots:
        marks = [word for word, holds in (("runs", slot.booted), ("not good", slot.good is False)) if holds]
        typer.echo(f"slot          {slot.name}: {slot.version or 'nothing known of'} {', '.join(marks)}".rstrip())
    if "slots_unknown" in facts:
        typer.echo(f"slots         {facts['slots_unknown']}")
    if state.attempt is not None:
        last = (
            "arrived" if state.attempt.arrived else "installed, not started yet" if state.attempt.installed else "begun"
        )
        typer.echo(f"last system   {state.attempt.version}: {last}")
    for kind, version in state.placed.items():
        typer.echo(f"last {kind:8} {version}")
    if state.refused:
        typer.echo(f"last refusal  {state.refused}")
    if state.returned:
        typer.echo(f"came back     from {len(state.returned)} system(s), which are not taken again")


def health(
    as_json: JsonOption = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for a device that is still starting.", min=0)] = 0.0,
) -> None:
    """Examine this device: units up, interlock answering, models verified, a face recognised, ledger appending.

    Exit status 0 only where every check holds; the image marks a new system good by it. What it found is on the ledger.
    """
    settings, deadline_s = chosen_settings(), time.monotonic() + wait
    while not _started(settings) and time.monotonic() < deadline_s:
        time.sleep(START_LOOK_S)
    while not (found := _examined(settings)).passed and time.monotonic() < deadline_s:
        time.sleep(EXAMINE_AGAIN_S)
    if as_json:
        checks = [asdict(check) for check in found.checks]
        typer.echo(json.dumps({"passed": found.passed, "checks": checks, "units": dict(found.units)}))
    else:
        for check in found.checks:
            typer.echo(f"{'holds' if check.holds else 'FAILS':6} {check.name:26} {check.found}")
    if not found.passed:
        raise typer.Exit(1)


def run_update() -> None:
    """Look for updates once, as the unit turnkey-update does when its timer says so.

    Without a server nothing is looked at; what a stick brought gets its restart, and its arrival its entry.
    """
    settings = chosen_settings()
    if settings.update.server is None:
        typer.echo("no update server is set: updates come by stick (turnkey update apply)")
    if settings.update.root is not None:
        _finish(_run(settings, _server_way if settings.update.server else None), as_json=False)


def boot_id() -> str:
    """The present boot, 32 hexadecimal digits. The unit is told by systemd (%b), since it does not see /proc/sys.

    Raises:
        UpdateError: it is not known.
    """
    try:
        return (os.environ.get(BOOT_VARIABLE) or BOOT_FILE.read_text()).strip().replace("-", "")
    except OSError as error:
        raise UpdateError(UpdateReason.BOOT_UNKNOWN, f"{BOOT_FILE}: {error.strerror}") from error


def installer_of(settings: Settings) -> Installer:
    """The installer that the settings name."""
    if settings.update.installer == "simulated":
        settings.update.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return SimulatedInstaller(settings.update.folder / "slots.json")
    return RaucInstaller(settings.update.release_file)


def stick_way(place: Path, limits: Limits) -> Way:
    """The way to a stick. Raises: UpdateError."""
    return Way(f"{STICK_URL}/metadata/", f"{STICK_URL}/targets/", StickFetcher(place, limits))


def updating_of(settings: Settings, progress: Told) -> Updating:
    """The updater of this device. Raises: UpdateError."""
    update = settings.update
    if update.root is None:
        raise UpdateError(UpdateReason.NO_SERVER, "the settings name no update.root: this device takes no updates")
    try:
        root = update.root.read_bytes()
    except OSError as error:
        raise UpdateError(UpdateReason.ROOT_UNUSABLE, f"{update.root}: {error.strerror}") from error
    placers: dict[Kind, Placer] = {"policy": PolicyPlacer(settings.policy, policy_check(settings))}
    if update.models is not None:
        placers["models"] = ModelsPlacer(update.models, models_check(settings))
    return Updating(
        Device(settings.device_id, update.group, update.board, boot_id(), update.quiet_s),
        update.folder,
        root,
        installer_of(settings),
        placers,
        NotarySocket(settings.interlock.socket.notary),
        lambda: _ask_to_restart(update.restart_marker),
        progress,
    )


def policy_check(settings: Settings) -> PolicyCheck:
    """Why a policy may not replace the present one: by its signers, its device, its dates, or what it follows."""

    folder = settings.update.folder
    candidate, memory = folder / "policy.candidate", folder / "policy.last"
    socket = settings.interlock.socket.path

    def check(envelope: bytes) -> str | None:
        status = interlock_status(socket)
        if status is None:
            return "the interlock does not say whose policies hold"
        try:
            following = FollowedAuthority(settings.authority.read_bytes(), folder / "authorities", socket)
            # The present one first: what it is remembered by is what an older one is told by.
            policy_apart(PolicyFile(settings.policy, memory, settings.device_id), following, status)
            write_whole(candidate, envelope)
            offered = policy_apart(PolicyFile(candidate, memory, settings.device_id), following, status)
        except (AuthorityError, OSError) as error:
            return f"it cannot be checked: {error}"
        finally:
            candidate.unlink(missing_ok=True)
        return offered.message if isinstance(offered, PolicyRefusal) else None

    return check


def models_check(settings: Settings) -> ModelsCheck:
    """Whether a device would load a set of models at its start: it is its release's own, or was accepted."""
    folder, socket = settings.update.folder, settings.interlock.socket.path

    def check(models: Path) -> None:
        try:
            following = FollowedAuthority(settings.authority.read_bytes(), folder / "authorities", socket)
        except (AuthorityError, OSError) as error:
            raise ModelError("acceptance-not-signed", f"whose acceptance holds is not known: {error}") from error
        status = interlock_status(socket)
        if status is not None:
            following.at(status.authority_version)
        accepted_manifest(models, following.current)

    return check


def _server_way(settings: Settings, limits: Limits, told: Fetched) -> Way:
    update = settings.update
    if update.server is None or update.ca is None:
        raise UpdateError(UpdateReason.NO_SERVER, "the settings name no update.server, or no update.ca to know it by")
    context = tls_context(update.ca, update.certificate, update.key)
    base = update.server.rstrip("/")
    fetcher = HttpFetcher(update.folder / "partials", limits, context, told=told)
    return Way(f"{base}/metadata/", f"{base}/targets/", fetcher)


def _run(settings: Settings, way: Callable[[Settings, Limits, Fetched], Way] | None) -> Report:
    limits = Limits(most_bytes_per_s=settings.update.most_bytes_per_s)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        fetching = bar.add_task("fetching", total=None, visible=False)
        installing = bar.add_task("installing", total=100, visible=False)

        def fetched(have: int, length: int) -> None:
            bar.update(fetching, completed=have, total=length, visible=True)

        def installed(percent: int, doing: str) -> None:
            bar.update(installing, completed=percent, description=doing, visible=True)

        try:
            return updating_of(settings, installed).run(way(settings, limits, fetched) if way else None)
        except UpdateError as error:
            return Report(refusal=error.refusal)


def _finish(report: Report, as_json: bool) -> None:
    refusal = report.refusal
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "steps": [step.model_dump(exclude={"kind"}) for step in report.steps],
                    "stays": report.stays,
                    "refused": refusal.reason if refusal else None,
                    "restart": report.restart,
                }
            )
        )
    else:
        for step in report.steps:
            typer.echo(f"{step.step:12} {step.what} {step.version or ''} ({step.reason})")
        for kind, reason in report.stays.items():
            typer.echo(f"{'stays':12} {kind} ({reason})")
        if report.restart == "waits":
            typer.echo("restart      waits: a booking may be open; the next run asks again")
    if refusal is not None:
        fail(_words(refusal))


def _words(refusal: UpdateRefusal) -> str:
    return f"refused ({refusal.reason}): {refusal.message}"


def _started(settings: Settings) -> bool:
    """Whether an examination is worth an entry on the ledger yet."""
    return settings.interlock.socket.notary.is_socket() and started(settings.interlock.socket.path, active_states)


def _examined(settings: Settings) -> Health:
    sockets = settings.interlock.socket
    return examine(__version__, settings.models, sockets.path, NotarySocket(sockets.notary), active_states, measure())


def _ask_to_restart(marker: Path) -> None:
    """systemd's path unit waits for this file (systemd/turnkey-restart.path)."""
    marker.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    marker.touch()


def _become_owner(folder: Path) -> None:
    """Where root runs this by hand, go on as the updater's user: the files stay its own, and root checks nothing."""
    with suppress(OSError, KeyError):
        owner = folder.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            user = pwd.getpwuid(owner.st_uid)
            os.initgroups(user.pw_name, user.pw_gid)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
