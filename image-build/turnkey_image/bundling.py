"""`image-build/bundle BOARD`: the update that goes to devices, from the slot that `image-build/build` made."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from turnkey_image.boards import BOARDS
from turnkey_image.building import BUNDLE_BAR_MIB, REPOSITORY
from turnkey_image.bundle import LEVEL, BundleKeys, make_bundle, throwaway_keys
from turnkey_image.programs import BuildError, Steps


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="image-build/bundle",
        description="Make OUT/BOARD/turnkey-VERSION.raucb: the slot of the last build, signed, in RAUC's verity "
        "format. Offer it to devices with `turnkeyctl release add`, or carry it on a stick.",
    )
    parser.add_argument("board", choices=sorted(BOARDS))
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build", help="folder of the images (default: build/)")
    parser.add_argument("--ca", type=Path, help="CA that devices believe bundles from, PEM (default: a throw-away one)")
    parser.add_argument("--certificate", type=Path, help="the signer's certificate, PEM")
    parser.add_argument("--key", help="the signer's key: a PEM file, or a PKCS #11 URI")
    parser.add_argument("--level", type=int, default=LEVEL, help=f"of zstd, 1 to 22 (default: {LEVEL})")
    parser.add_argument("--kiosk", action="store_true", help="the image that was built with --kiosk")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    board = BOARDS[given.board].with_kiosk() if given.kiosk else BOARDS[given.board]
    out = given.out.resolve() / board.name
    steps = Steps(out / "bundle.log")
    try:
        if not (out / "report.json").exists():
            raise BuildError(f"nothing is built in {out}: run image-build/build {board.name} first")
        steps.log.write_text("")
        named = [given.ca, given.certificate, given.key]
        if any(named) and not all(named):
            raise BuildError("--ca, --certificate and --key go together")
        keys = BundleKeys(*named) if all(named) else throwaway_keys(out.parent / "throwaway-keys", steps)
        version = json.loads((out / "report.json").read_text())["version"]
        bundle = out / f"turnkey-{version}.raucb"
        make_bundle(board, out / "slot.ext4", version, keys, bundle, steps, given.level)
    except BuildError as error:
        print(f"image-build: {error}", file=sys.stderr)
        return 1
    size = bundle.stat().st_size / 2**20
    if given.json:
        print(json.dumps({"bundle": str(bundle), "version": version, "mib": round(size, 1)}))
    else:
        verdict = f"{'within' if size <= BUNDLE_BAR_MIB else 'ABOVE'} {BUNDLE_BAR_MIB}"
        print(f"{bundle}: {size:.1f} MiB ({'no bar with a kiosk' if given.kiosk else verdict})")
    return 0
