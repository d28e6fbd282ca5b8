"""The card under test and the versions that it is updated to.

Rules kept here:
1. The image is the product's, with the test overlay over it: the agent's port and the key's simulated wires.
2. v2 and v3 are the same slot with a few files changed by debugfs: another version; and in v3 an interlock unit that is
   not the product's, which the health check must refuse. Building each anew would show nothing more.
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

from tests.appliance.desk import ReleaseDesk
from tests.appliance.machine import MachineError
from tests.appliance.site import REPOSITORY, make_identity, make_site
from tests.appliance.workshop import Prepared

from turnkey_tools.provision import Site

BOARD = "qemu-arm64"
COMPATIBLE = "turnkey-qemu-arm64"
PROGRAMS = {"qemu-system-aarch64": "qemu-system-arm", "debugfs": "e2fsprogs", "mosquitto": "mosquitto"}
VERSIONS = {"v1": "1.0", "v2": "2.0", "v3": "3.0"}
FORBIDDEN_UNIT_LINE = "# v3: somebody made the interlock's unit less strict\n"


@dataclass(frozen=True)
class Preparation:
    """What to prepare.

    Attributes:
        out: folder.
        rebuild: build the images although they are there.
        fresh: a new card from a new site, as from the factory.
    """

    out: Path
    rebuild: bool
    fresh: bool


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
    known = json.loads(facts.read_text())
    if asked.rebuild or not (built / "slot.ext4").exists():
        _build_image(out)
    if not (out / "card.img").exists():
        _make_card(out, identity)
    slots = {"v1": built / "slot.ext4"}
    for version in ("v2", "v3"):
        slots[version] = _variant(slots["v1"], out / f"{version}.ext4", version)
    root = Path(known["root"])
    report = json.loads((built / "report.json").read_text())
    return Prepared(out, out / "card.img", Site(root / "site"), root, tuple(known["ports"]), slots, report)


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


def _variant(base: Path, slot: Path, version: str) -> Path:
    """The slot with another version; v3 with another interlock unit too."""
    if slot.exists() and slot.stat().st_mtime > base.stat().st_mtime:
        return slot
    subprocess.run(["cp", "--sparse=always", base, slot], check=True)
    unit = (REPOSITORY / "systemd/turnkey-interlock.service").read_text()
    read = ["/usr/sbin/debugfs", "-R", "cat /usr/lib/os-release", slot]
    release = subprocess.run(read, capture_output=True, text=True, check=True).stdout
    files = {"usr/lib/os-release": release.replace(f'"{VERSIONS["v1"]}"', f'"{VERSIONS[version]}"')}
    if version == "v3":
        files["usr/lib/systemd/system/turnkey-interlock.service"] = unit + FORBIDDEN_UNIT_LINE
    for number, (name, text) in enumerate(files.items()):
        source = slot.with_suffix(f".{number}")
        source.write_text(text)
        commands = f"rm /{name}\nwrite {source} /{name}\nset_inode_field /{name} mode 0100644\n"
        subprocess.run(["/usr/sbin/debugfs", "-w", "-f", "-", slot], input=commands.encode(), check=True,
                       capture_output=True)  # fmt: skip
        source.unlink()
    return slot


def _do(command: list[str | Path]) -> None:
    done = subprocess.run([str(word) for word in command], check=False)
    if done.returncode:
        raise MachineError(f"{command[0]} {command[1]} ended with {done.returncode}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
