"""RAUC bundles: one slot's file system, signed, in the verity format.

Rules kept here:
1. The bundle key is not a TUF key: who may offer an update, and what a device's installer believes, are two questions,
   and both must be answered yes.
2. A throw-away CA is made only where none was named, is written beside the image, and is said aloud.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from turnkey_image.boards import Board
from turnkey_image.programs import BuildError, Steps, need

LEVEL: Final = 19
"""Of zstd: what fits the bar; five minutes for a bundle."""


@dataclass(frozen=True, slots=True)
class BundleKeys:
    """What signs bundles.

    Attributes:
        ca: certificate that devices believe, PEM.
        certificate: of the signer, issued by that CA.
        key: the signer's private key, or a PKCS #11 URI.
    """

    ca: Path
    certificate: Path
    key: str


def throwaway_keys(folder: Path, steps: Steps) -> BundleKeys:
    """The CA and the signer in `folder`, made now where they are not there. Raises: BuildError."""
    need("openssl")
    keys = BundleKeys(folder / "bundle-ca.pem", folder / "bundle-signer.pem", str(folder / "bundle-signer.key"))
    if keys.ca.exists() and keys.certificate.exists():
        return keys
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    steps.say(f"no bundle CA was named: a throw-away one is made in {folder}. Not for a device that is used")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
    ca_key = folder / "bundle-ca.key"
    steps.run("throw-away CA", ["openssl", "req", "-x509", *curve, "-keyout", ca_key, "-out", keys.ca, "-days", "3650",
                                "-subj", "/CN=Turnkey bundle CA (throw-away)",
                                "-addext", "keyUsage=critical,keyCertSign,cRLSign"])  # fmt: skip
    steps.run("throw-away signer", ["openssl", "req", "-x509", *curve, "-keyout", keys.key, "-out", keys.certificate,
                                    "-days", "3650", "-subj", "/CN=Turnkey bundles (throw-away)", "-CA", keys.ca,
                                    "-CAkey", ca_key, "-addext", "basicConstraints=critical,CA:FALSE",
                                    "-addext", "keyUsage=critical,digitalSignature"])  # fmt: skip
    return keys


def manifest(board: Board, version: str) -> str:
    """RAUC's manifest of a bundle for one kind of board."""
    return (
        f"[update]\ncompatible={board.compatible}\nversion={version}\n\n"
        "[bundle]\nformat=verity\n\n[image.rootfs]\nfilename=rootfs.img\n"
    )


def make_bundle(
    board: Board, slot: Path, version: str, keys: BundleKeys, bundle: Path, steps: Steps, level: int = LEVEL
) -> None:
    """Make `bundle` from a slot's file system; an old one of the name is replaced at the end. Raises: BuildError."""
    need("rauc", "mksquashfs")
    if not slot.exists():
        raise BuildError(f"{slot} is not there: run image-build/build {board.name} first")
    work = bundle.with_suffix(".content")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        (work / "rootfs.img").hardlink_to(slot)
        (work / "manifest.raucm").write_text(manifest(board, version))
        unfinished = bundle.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        steps.run(
            f"bundle {bundle.name}",
            ["rauc", "bundle", f"--cert={keys.certificate}", f"--key={keys.key}", f"--keyring={keys.ca}",
             f"--mksquashfs-args=-comp zstd -Xcompression-level {level} -b 256K -processors 1", work, unfinished],
        )  # fmt: skip
        unfinished.replace(bundle)
    finally:
        shutil.rmtree(work, ignore_errors=True)
