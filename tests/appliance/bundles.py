"""The versions that the card under test is updated to, and the stick that carries them.

Rules kept here:
1. v2 and v3 are the slot under test with a few files changed by debugfs: another version; and in v3 an interlock unit
   that is not the product's, which the health check must refuse. Building each anew would show nothing more.
2. They are signed as the product's are. They are compressed less: what is tried is not the size.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.appliance.machine import MachineError
from tests.appliance.site import REPOSITORY

VERSIONS = {"v1": "1.0", "v2": "2.0", "v3": "3.0"}
FORBIDDEN_UNIT_LINE = "# v3: somebody made the interlock's unit less strict\n"
LEVEL = 6
TAMPERED_AT = 5_000_000
"""A byte of the payload, which the signature covers only through the tree of hashes."""


def make_bundle(out: Path, board: str, base: Path, version: str) -> Path:
    """The signed bundle of a version, made where it is not there or older than the slot. Raises: MachineError."""
    bundle = out / f"turnkey-{VERSIONS[version]}.raucb"
    if bundle.exists() and bundle.stat().st_mtime > base.stat().st_mtime:
        return bundle
    folder = out / f"bundling-{version}" / board
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps({"version": VERSIONS[version]}))
    make_variant(base, folder / "slot.ext4", version)
    keys = out / "throwaway-keys"
    made = subprocess.run(
        [sys.executable, REPOSITORY / "image-build/bundle", board, "--out", folder.parent, "--level", str(LEVEL),
         "--ca", keys / "bundle-ca.pem", "--certificate", keys / "bundle-signer.pem",
         "--key", keys / "bundle-signer.key"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if made.returncode:
        raise MachineError(made.stderr[-2000:])
    (folder / bundle.name).replace(bundle)
    shutil.rmtree(folder.parent)
    return bundle


def make_variant(base: Path, slot: Path, version: str) -> None:
    """The slot with another version; v3 with another interlock unit too."""
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


def make_stick(out: Path, board: str, base: Path, stick: Path) -> None:
    """A stick (an ext4 image) with v2's bundle, and with the same bundle after one byte of its payload was changed."""
    bundle = make_bundle(out, board, base, "v2")
    if stick.exists() and stick.stat().st_mtime > bundle.stat().st_mtime:
        return
    folder = out / "stick"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "update.raucb").hardlink_to(bundle)
    tampered = bytearray(bundle.read_bytes())
    tampered[TAMPERED_AT] ^= 0xFF
    (folder / "tampered.raucb").write_bytes(tampered)
    mib = 2 * bundle.stat().st_size // 2**20 + 64
    subprocess.run(["/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-d", folder, stick, f"{mib}M"], check=True)
    shutil.rmtree(folder)
