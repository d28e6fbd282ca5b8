"""The card under test: its site, its image, and where a stage before left it.

Rules kept here:
1. The image is the product's, with the test overlay over it: the agent's port and the key's simulated wires.
2. What was built is named by the clone's commit; `changed` behind it where the tree was not that commit's.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.appliance.bundles import VERSIONS, make_stick
from tests.appliance.desk import ReleaseDesk
from tests.appliance.machine import Machine, MachineError
from tests.appliance.site import REPOSITORY, make_identity, make_site
from tests.appliance.workshop import Prepared

from turnkey_tools.provision import Site

BOARD = "qemu-arm64"
COMPATIBLE = "turnkey-qemu-arm64"
PROGRAMS = {
    "qemu-system-aarch64": "qemu-system-arm",
    "debugfs": "e2fsprogs",
    "mosquitto": "mosquitto",
    "rauc": "rauc",
    "mksquashfs": "squashfs-tools",
}


@dataclass(frozen=True)
class Preparation:
    """What to prepare.

    Attributes:
        out: folder.
        rebuild: build the images although they are there.
        fresh: a new card from a new site, as from the factory.
        after: the stage whose card and release desk are taken up again; None: as they are.
        stick: whether a stick with bundles is wanted.
    """

    out: Path
    rebuild: bool
    fresh: bool
    after: str | None
    stick: bool


def prepare(asked: Preparation) -> Prepared:
    """Build what is not there. Raises: MachineError, with the end of the build's log."""
    out = asked.out
    path = "/usr/sbin:/sbin:/usr/local/sbin"
    missing = {deb for name, deb in PROGRAMS.items() if not (shutil.which(name) or shutil.which(name, path=path))}
    if missing:
        raise MachineError(f"as root: apt-get install --no-install-recommends {' '.join(sorted(missing))} u-boot-qemu")
    built = out / BOARD
    pilot, identity, facts = out / "site", out / "identity", out / "site.json"
    if asked.fresh or not facts.exists():
        for folder in (pilot, identity):
            shutil.rmtree(folder, ignore_errors=True)
        ports = (_free_port(), _free_port())
        made = make_site(pilot, ports[0])
        made.write_keys("release")
        shutil.rmtree(out / "desk", ignore_errors=True)
        make_identity(made, ReleaseDesk(out / "desk"), identity, ports)
        facts.write_text(json.dumps({"ports": ports, "root": str(made.root)}))
        (out / "card.img").unlink(missing_ok=True)
        shutil.rmtree(out / "kept", ignore_errors=True)
    known = json.loads(facts.read_text())
    if asked.rebuild or not (built / "slot.ext4").exists():
        _build_image(out)
    if not (out / "card.img").exists():
        _make_card(out, identity)
    if asked.after is not None:
        take_up(out, asked.after)
    stick = out / "stick.img"
    if asked.stick:
        make_stick(out, BOARD, built / "slot.ext4", stick)
    root = Path(known["root"])
    report = json.loads((built / "report.json").read_text()) | {"commit": (built / "commit").read_text().strip()}
    return Prepared(out, out / "card.img", Site(root / "site"), root, tuple(known["ports"]), stick, report)


def keep(out: Path, stage: str, machine: Machine) -> None:
    """Keep the card and the release desk as a stage left them, so that the next one can be run again from there."""
    kept = out / "kept" / stage
    kept.mkdir(parents=True, exist_ok=True)
    machine.copy_card(kept / "card.img")
    shutil.rmtree(kept / "desk", ignore_errors=True)
    shutil.copytree(out / "desk", kept / "desk")


def take_up(out: Path, stage: str) -> None:
    """Put card and release desk back to where a stage left them. Raises: MachineError."""
    kept = out / "kept" / stage
    if not (kept / "card.img").exists():
        raise MachineError(f"{kept} has no card: the stage {stage} has not passed there")
    subprocess.run(["cp", "--sparse=always", kept / "card.img", out / "card.img"], check=True)
    shutil.rmtree(out / "desk", ignore_errors=True)
    shutil.copytree(kept / "desk", out / "desk")


def _build_image(out: Path) -> None:
    """The product's root file system with the test overlay. The Debian part first: the module is for its kernel."""
    build = [
        sys.executable,
        REPOSITORY / "image-build/build",
        BOARD,
        "--out",
        out,
        "--loud",
        "--version",
        VERSIONS["v1"],
    ]
    _do([*build, "--debian-only"])
    (debian,) = sorted((out / "cache").glob("debian-arm64-*.tar"), key=lambda path: path.stat().st_mtime)[-1:]
    overlay = out / "overlay"
    shutil.rmtree(overlay, ignore_errors=True)
    shutil.copytree(REPOSITORY / "tests/appliance/overlay", overlay)
    kernel = _kernel_of(debian)
    module = out / "cache" / f"key_wires-{kernel}.ko"
    if not module.exists():
        _do([REPOSITORY / "tests/appliance/key_wires/build", kernel, module])
    target = overlay / "usr/lib/modules" / kernel / "extra"
    target.mkdir(parents=True)
    shutil.copyfile(module, target / "key_wires.ko")
    _do([*build, "--overlay", overlay, "--root-only"])
    (out / BOARD / "commit").write_text(_commit() + "\n")


def _commit() -> str:
    """The clone's commit, and whether its tree is that commit's."""
    git = ["git", "-C", str(REPOSITORY)]
    named = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False).stdout
    return f"{named or 'no clone'}{' changed' if changed.strip() else ''}"


def _make_card(out: Path, identity: Path) -> None:
    _do([sys.executable, REPOSITORY / "image-build/card", BOARD, "--out", out, "--identity", identity,
         "--card", out / "card.img"])  # fmt: skip


def _kernel_of(debian: Path) -> str:
    """The kernel's release, from the names in the Debian tar. Raises: MachineError."""
    with tarfile.open(debian) as tar:
        for member in tar:
            parts = Path(member.name).parts
            if ("modules" in parts[:-1] and parts[0] == "usr") or (parts[:1] == (".",) and "modules" in parts[:-1]):
                return parts[parts.index("modules") + 1]
    raise MachineError(f"no kernel in {debian}")


def _do(command: list[str | Path]) -> None:
    done = subprocess.run([str(word) for word in command], check=False)
    if done.returncode:
        raise MachineError(f"{command[0]} {command[1]} ended with {done.returncode}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
