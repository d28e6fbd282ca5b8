"""`image-build/deb ARCHITECTURE`: the Debian package, for machines that keep their own operating system.

The same units, users and layout as the image: /opt/turnkey, /usr/bin/turnkey, /usr/share/turnkey/models, /etc/turnkey.

Rules kept here:
1. Nothing starts by being installed: without an identity no unit finds its key, and the interlock starts stopped.
2. Removing keeps /var/lib: a ledger is evidence. Only an explicit purge says what lies there, and leaves it.
3. The package has no dependency on the operating system's Python packages; of its Python it needs the version that its
   wheels were made for, and says so. Only a camera by GStreamer takes one from it, python3-gi.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Final

from turnkey_image import environment
from turnkey_image.building import EPOCH, REPOSITORY, mib, software_version
from turnkey_image.programs import BuildError, Steps, need, need_root
from turnkey_image.root import lay_out_units
from turnkey_image.sameness import listing

MACHINES: Final = {"arm64": "aarch64", "amd64": "x86_64"}
PYTHONS: Final = ("3.11", "3.12", "3.13")

_ENABLED: Final = ("turnkey-identity.service", "turnkey-interlock.service", "turnkey-notary.service",
                   "turnkey-uplink.service", "turnkey-running.path", "turnkey-stopped.path", "turnkey-restart.path",
                   "turnkey-update.timer", "turnkey-retain.timer", "turnkey-console.socket",
                   "turnkey-console.service")  # fmt: skip

IMAGES_OWN: Final = ("turnkey-health.service", "turnkey-kiosk.service")
"""Units that choose a slot and show a browser: what they run is in the image alone."""

AFTER: Final = f"""\
#!/bin/sh
set -e
systemd-sysusers turnkey.conf
systemd-tmpfiles --create turnkey.conf || true
mkdir -p /etc/turnkey
[ -e /var/lib/turnkey-site ] || ln -s /etc/turnkey /var/lib/turnkey-site
# The units may not write where the programs lie: what is not compiled now is compiled again at each start.
/opt/turnkey/bin/python3 -I -m compileall -q /opt/turnkey/lib || true
systemctl enable --quiet {" ".join(_ENABLED)}
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  udevadm control --reload 2> /dev/null || true
fi
if [ "$1" = configure ] && [ -z "$2" ]; then
  echo "turnkey: put this device's identity into /etc/turnkey, then: systemctl start turnkey-identity turnkey-interlock"
fi
"""
BEFORE_REMOVAL: Final = f"""\
#!/bin/sh
set -e
if [ "$1" = remove ]; then
  # systemctl takes a pattern for what runs, and whole names for what starts with the machine.
  if [ -d /run/systemd/system ]; then systemctl stop 'turnkey-*'; fi
  systemctl disable --quiet {" ".join(_ENABLED)}
fi
find /opt/turnkey -depth -type d -name __pycache__ -exec rm -rf {{}} +
"""
_AFTER_REMOVAL: Final = """\
#!/bin/sh
set -e
if [ "$1" = purge ]; then
  echo "turnkey: ledger and gallery stay in /var/lib/turnkey-*: they are evidence, remove them by hand"
fi
"""


def control(version: str, architecture: str, python: str, size_kib: int) -> str:
    """The package's control file."""
    major, minor = python.split(".")
    return f"""\
Package: turnkey
Version: {version}
Architecture: {architecture}
Maintainer: Turnkey maintainers <turnkey@localhost>
Installed-Size: {size_kib}
Section: misc
Priority: optional
Depends: python3 (>= {python}), python3 (<< {major}.{int(minor) + 1}), systemd (>= 249), udev
Recommends: rauc
Suggests: python3-gi, gir1.2-gstreamer-1.0, gstreamer1.0-plugins-good
Description: booking-room appliance with a stop that can be proved
 Searches booking photographs in a local gallery of open cases and reports signed investigative leads over MQTT.
 A hardware key switch enforces a moratorium; everything is on a ledger that outsiders can verify.
 .
 For Raspberry Pi OS, Debian and Jetson's Ubuntu; the card image of image-build/build is the same on a read-only root.
"""


def debian_version(described_version: str) -> str:
    """A Debian version out of what git describes: it has to begin with a digit."""
    plain = re.sub(r"[^A-Za-z0-9.+~]", "+", described_version.removeprefix("v"))
    return plain if plain[:1].isdigit() else f"0~{plain}"


def make(architecture: str, python: str, version: str, out: Path, steps: Steps) -> Path:
    """Make the package. Returns: its file. Raises: BuildError."""
    need("dpkg-deb")
    need_root()
    work = out / f"deb-{architecture}"
    shutil.rmtree(work, ignore_errors=True)
    environment.install(work, REPOSITORY, MACHINES[architecture], steps, python)
    lay_out_units(REPOSITORY, work)
    for name in IMAGES_OWN:
        (work / "usr/lib/systemd/system" / name).unlink()
    for name in ("usr/bin/turnkey", "usr/lib/turnkey/seal-identity", "usr/lib/systemd/system-generators/turnkey-site"):
        target = work / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "image-build/overlay" / name, target)
    (work / "usr/share/doc/turnkey").mkdir(parents=True)
    shutil.copyfile(REPOSITORY / "LICENSE", work / "usr/share/doc/turnkey/copyright")
    size_kib = mib(work) * 1024
    listing(work, EPOCH)  # sets the times
    about = work / "DEBIAN"
    about.mkdir(mode=0o755)
    (about / "control").write_text(control(version, architecture, python, size_kib))
    for name, text in (("postinst", AFTER), ("prerm", BEFORE_REMOVAL), ("postrm", _AFTER_REMOVAL)):
        (about / name).write_text(text)
        (about / name).chmod(0o755)
    package = out / f"turnkey_{version}_{architecture}.deb"
    unfinished = package.with_suffix(".unfinished")
    steps.run(
        "package",
        ["dpkg-deb", "--root-owner-group", "-Zxz", "-z3", "--build", work, unfinished],
        environment={"SOURCE_DATE_EPOCH": str(EPOCH)},
    )
    unfinished.replace(package)
    shutil.rmtree(work)
    return package


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="image-build/deb",
        description="Make OUT/turnkey_VERSION_ARCHITECTURE.deb. The wheels in it are for one Python: 3.11 for Debian "
        "12 and Raspberry Pi OS bookworm, 3.12 for Ubuntu 24.04, 3.13 for Debian 13.",
    )
    parser.add_argument("architecture", choices=sorted(MACHINES))
    parser.add_argument("--python", choices=PYTHONS, default=environment.PYTHON, help="the target's Python")
    parser.add_argument("--version", help="of the package (default: the software's)")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build", help="folder (default: build/)")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    steps = Steps(out / f"deb-{given.architecture}.log")
    steps.log.write_text("")
    try:
        version = debian_version(given.version or software_version())
        package = make(given.architecture, given.python, version, out, steps)
    except BuildError as error:
        print(f"image-build: {error}", file=sys.stderr)
        return 1
    size = package.stat().st_size / 2**20
    print(json.dumps({"package": str(package), "mib": round(size, 1)}) if given.json else f"{package}: {size:.1f} MiB")
    return 0
