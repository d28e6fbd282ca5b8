"""The package on a Debian of this machine's architecture: installed, run, removed, purged; what is evidence stays.

Rules kept here:
1. The root is made for this and thrown away; what is mounted in it goes with the mount namespace of each command.
2. No service is started: there is no systemd running in a chroot. `tests/systemd/live` starts the units.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
SUITES: Final = {"3.11": "bookworm", "3.13": "trixie"}
NEEDED: Final = ("python3", "systemd", "udev")
EVIDENCE: Final = "var/lib/turnkey-notary/ledger.db"
STEP_S: Final = 1800.0

_EXAMINED: Final = (
    '/opt/turnkey/bin/python3 -I -c "from pathlib import Path; from turnkey.update import health; '
    "[print(each.name, each.holds) for each in health._models(Path('/usr/share/turnkey/models'))]\""
)
_INSIDE: Final = 'mount --make-rprivate / && mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && ' \
    'exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 sh -c "$1"'  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    holds: bool
    found: str


class Debian:
    """A Debian root in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, words: str) -> tuple[int, str]:
        """Run shell words inside. Returns: exit code, and what was said."""
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", _INSIDE, self.root, words],
            capture_output=True,
            text=True,
            timeout=STEP_S,
            check=False,
        )
        return done.returncode, (done.stdout + done.stderr).strip()

    def asked(self, name: str, words: str, wanted: str = "") -> Check:
        """Run shell words that have to succeed, and to say something."""
        code, said = self.run(words)
        return Check(name, code == 0 and re.search(wanted, said) is not None, said[-800:])

    def there(self, name: str, *paths: str, gone: bool = False) -> Check:
        """Files that have to be there, or to be gone."""
        found = {path: (self.root / path).exists() or (self.root / path).is_symlink() for path in paths}
        return Check(name, all(is_there != gone for is_there in found.values()), json.dumps(found))


def examine(debian: Debian) -> list[Check]:
    """Install the package that lies in the root as /turnkey.deb, look, remove, purge."""
    checks = [debian.asked("it installs", "dpkg -i /turnkey.deb", "put this device's identity into /etc/turnkey")]
    if not checks[0].holds:
        return checks
    units = "/usr/lib/systemd/system/turnkey-*.* /usr/lib/systemd/system/moratorium.target"
    checks += [
        debian.asked("turnkey --help", "turnkey --help", r"Usage: turnkey"),
        debian.asked("its models are whole and its portrait recognised", _EXAMINED,
                     r"models-verified True\nface-recognised True"),
        debian.asked("systemd accepts every unit", f"systemd-analyze verify --man=no {units}", r"^$"),
        debian.asked("each unit is within its exposure", _exposures(), r"^ok$"),
        debian.asked("its users are there", "getent passwd turnkey-interlock turnkey-booth turnkey-notary"),
        debian.asked("interlock, notary and uplink start with the machine",
                     "systemctl is-enabled turnkey-interlock turnkey-notary turnkey-uplink turnkey-update.timer",
                     r"^(enabled\s*){4}$"),
        debian.asked("the booth does not", "systemctl is-enabled turnkey-booth.service || true", r"^static$"),
        debian.asked("a device without an identity is refused by name", "turnkey status; test $? -ne 0"),
    ]  # fmt: skip
    evidence = debian.root / EVIDENCE
    evidence.parent.mkdir(parents=True, exist_ok=True)
    evidence.write_bytes(b"a ledger")
    (debian.root / "etc/turnkey/device.toml").write_text('device_id = "booth-1"\n')
    checks += [
        debian.asked("it goes", "dpkg -r turnkey"),
        debian.there("programs and units went", "opt/turnkey", "usr/bin/turnkey",
                     "usr/lib/systemd/system/turnkey-interlock.service", gone=True),
        debian.there("ledger and identity stayed", EVIDENCE, "etc/turnkey/device.toml"),
        debian.asked("it is purged, and says what it left", "dpkg -P turnkey", r"they are evidence"),
        debian.there("they stayed after that too", EVIDENCE, "etc/turnkey/device.toml"),
        debian.asked("it installs again", "dpkg -i /turnkey.deb"),
    ]  # fmt: skip
    return checks


def _exposures() -> str:
    """Shell words that say ok where systemd's own figure for each of the five is within two."""
    return (
        "for unit in interlock booth notary uplink update; do systemd-analyze security --offline=true --no-pager "
        "--threshold=20 turnkey-$unit.service > /tmp/said || { tail -n 1 /tmp/said; exit 1; }; done; echo ok"
    )


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="tests/image/deb", description=__doc__)
    parser.add_argument("--python", choices=sorted(SUITES), default="3.13", help="3.13: Debian 13; 3.11: Debian 12")
    parser.add_argument("--package", type=Path, help="a package that is built already (default: build it)")
    given = parser.parse_args()
    machine = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="turnkey-deb-") as folder:
        here = Path(folder)
        package = given.package
        if package is None:
            made = subprocess.run(
                [sys.executable, REPOSITORY / "image-build/deb", machine, "--python", given.python, "--out", here,
                 "--json"],
                stdout=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
            if made.returncode:
                return 1
            package = Path(json.loads(made.stdout)["package"])
        made = subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(NEEDED)}",
             "--aptopt=APT::Install-Recommends \"false\"",
             SUITES[given.python], here / "root"],
            text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            return 1
        (here / "root/turnkey.deb").write_bytes(package.read_bytes())
        checks = examine(Debian(here / "root"))
    print(json.dumps([asdict(each) for each in checks], indent=1))
    return 0 if all(each.holds for each in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
