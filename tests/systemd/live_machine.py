"""A machine made of namespaces: systemd as process 1, Turnkey's own units, its processes out of this repository.

Rules kept here:
1. The units are the repository's, word for word. A drop-in names another program path, because nothing is installed
   here, and the targets of a boot that has no hardware are empty ones.
2. All state is below one folder; what process 1 mounts is in its own mount namespace, and ends with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

from turnkey.interlock.lease import DaemonError, ask
from turnkey.interlock.status import InterlockStatus
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.interlock.wire import Request
from turnkey_tools.pilot import Pilot, provision_pilot

ROOT = Path(__file__).resolve().parents[2]
HERE = Path("/run/turnkey-live")
PROGRAM = HERE / "turnkey"
SERVICES = ("interlock", "notary", "booth")
SECRETS = ("gallery.key", "signing.key", "encryption.key")
EMPTY = ("sysinit", "basic", "paths", "sockets", "timers", "time-set", "umount", "final", "network-online")
SYSTEMS_OWN = ("reboot.target", "systemd-reboot.service", "shutdown.target")
NAMESPACES = ("--mount", "--pid", "--cgroup", "--net", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc")
ENTER = ("--mount", "--pid", "--cgroup", "--net", "--uts", "--ipc")
PATIENCE_S = 120.0


class MachineError(RuntimeError):
    """The machine did not do what it was waited for; the message says what."""


class LiveMachine:
    """One machine; its disk outlives a power cut.

    Args:
        folder: empty; its disk and its log.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._users: dict[str, int] = {}
        self.pilot: Pilot = provision_pilot(folder / "pilot", ROOT / "models")
        self._lay_out()

    def boot(self) -> None:
        """Power on. Raises: MachineError."""
        log = (self._folder / "console.log").open("ab")
        command = ["unshare", *NAMESPACES, "/bin/sh", str(self._folder / "init")]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.until("systemd is up", lambda: self.systemctl("is-system-running") in ("running", "degraded", "starting"))

    def cut_power(self) -> None:
        """All processes are gone at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def is_off(self) -> bool:
        """Whether process 1 has ended."""
        return self._process is None or self._process.poll() is not None

    @property
    def first(self) -> int:
        """The process number, outside, of process 1."""
        if self._process is None:
            raise MachineError("it is off")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            return int(children.read_text().split()[0])
        except (OSError, IndexError) as error:
            raise MachineError("it is not up") from error

    def cpu_s(self) -> float:
        """CPU time that process 1 has used."""
        fields = Path(f"/proc/{self.first}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def run(self, *words: str, check: bool = True) -> str:
        """What a command inside prints. Raises: MachineError."""
        command = ["nsenter", "-t", str(self.first), *ENTER, "--", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        if check and done.returncode:
            raise MachineError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def systemctl(self, *words: str) -> str:
        """What systemctl prints, whatever its exit code."""
        try:
            return self.run("systemctl", *words, check=False)
        except MachineError:
            return ""

    def turnkey(self, *words: str) -> str:
        """What a command of the device prints, as root. Raises: MachineError."""
        return self.run(str(PROGRAM), *words)

    def inside(self, path: str) -> Path:
        """Where a path of this machine's is, seen from outside."""
        return Path(f"/proc/{self.first}/root{path}")

    def status(self) -> InterlockStatus | None:
        """What the interlock says of itself; None where it does not answer."""
        try:
            answer = ask(self.inside("/run/turnkey-interlock/socket"), Request(ask="status"))
            return InterlockStatus.model_validate_json(answer.body)
        except (DaemonError, ValueError, MachineError):
            return None

    def switch(self) -> SimulatedSwitch:
        """The key."""
        return SimulatedSwitch(self._folder / "disk" / "turnkey-interlock" / "simulated-switch.json")

    def processes_of(self, user: str) -> list[int]:
        """Process numbers, inside, of a user of this machine's."""
        found = []
        if user not in self._users:
            self._users[user] = int(self.run("id", "-u", user))
        uid = self._users[user]
        for entry in self.inside("/proc").iterdir():
            try:
                if entry.name.isdigit() and entry.stat().st_uid == uid:
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def until(self, what: str, holds: Callable[[], bool], seconds: float = PATIENCE_S) -> float:
        """Wait until something holds; how many seconds that took. Raises: MachineError."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > seconds:
                raise MachineError(f"{what}: not within {seconds:.0f} s")
            time.sleep(0.02)
        return time.monotonic() - began

    def _lay_out(self) -> None:
        """The disk: /etc and /var/lib of this machine's own, units, drop-ins, secrets, and the program."""
        etc, units, disk = self._folder / "etc", self._folder / "units", self._folder / "disk"
        shutil.copytree("/etc", etc, symlinks=True, ignore_dangling_symlinks=True)
        for path in (units, disk / "turnkey-secrets", etc / "turnkey", etc / "credstore.encrypted"):
            path.mkdir(parents=True, exist_ok=True)
        for file in (ROOT / "systemd").glob("*"):
            if file.suffix in (".service", ".target", ".path"):
                shutil.copy(file, units)
        for name in SYSTEMS_OWN:
            shutil.copy(Path("/usr/lib/systemd/system") / name, units)
        for name in EMPTY:
            (units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        wanted = " ".join((*(f"turnkey-{name}.service" for name in ("interlock", "notary")), "turnkey-running.path"))
        (units / "live.target").write_text(f"[Unit]\nWants={wanted} turnkey-stopped.path turnkey-restart.path\n")
        for name in SERVICES:
            dropped = units / f"turnkey-{name}.service.d"
            dropped.mkdir()
            said = "StandardOutput=append:/var/lib/turnkey-log\nStandardError=inherit\n"
            (dropped / "live.conf").write_text(f"[Service]\n{said}ExecStart=\nExecStart={PROGRAM} run {name}\n")
        self._lay_out_site(etc / "turnkey", disk / "turnkey-secrets")
        program = self._folder / "turnkey"
        program.write_text(_PROGRAM.format(here=HERE, python=Path(sys.executable).resolve().name))
        program.chmod(0o755)
        purelib, base = sysconfig.get_paths()["purelib"], sys.base_prefix
        (self._folder / "init").write_text(
            _INIT.format(
                folder=self._folder, root=ROOT, here=HERE, purelib=purelib, base=base, secrets=" ".join(SECRETS)
            )
        )

    def _lay_out_site(self, site: Path, secrets: Path) -> None:
        pilot = self.pilot
        settings = pilot.settings()
        for name, source in zip(
            SECRETS, (settings.gallery_key, settings.signing_key, settings.encryption_key), strict=True
        ):
            shutil.copy(source, secrets / name)
        shutil.copy(pilot.authority_file, site)
        shutil.copy(pilot.policy_file, site)
        text = pilot.settings_file.read_text()
        head, _, rest = text.partition("[gallery]")
        lines = [line for line in head.splitlines() if not line.startswith(("state", "models", "authority", "policy"))]
        lines += [f'models = "{HERE}/models"', f'authority = "/etc/turnkey/{pilot.authority_file.name}"']
        lines += [
            f'policy = "/etc/turnkey/{pilot.policy_file.name}"',
            'state = "/var/lib/turnkey-none"',
            "",
            "[gallery]",
        ]
        camera = rest.replace('folder = "pictures"', f'folder = "{HERE}/faces/ardern"\nrepeat = true')
        (site / "device.toml").write_text("\n".join(lines) + camera)


_PROGRAM = """\
#!/bin/sh
export LD_LIBRARY_PATH={here}/base/lib PYTHONHOME={here}/base PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH={here}/repository/device:{here}/site-packages
exec {here}/base/bin/{python} -m turnkey.cli "$@"
"""
_INIT = """\
set -eu
mount --make-rprivate /
mount --make-rshared /
mount -t tmpfs tmpfs /run
mount --bind {folder}/etc /etc
mkdir -p {here}/base {here}/repository {here}/site-packages {here}/models {here}/faces /run/systemd
mount --bind {base} {here}/base
mount --bind {purelib} {here}/site-packages
mount --bind {root} {here}/repository
mount --bind {root}/models {here}/models
mount --bind {root}/tests/faces {here}/faces
cp {folder}/turnkey {here}/turnkey
cp -r {folder}/units /run/systemd/system
mount --bind {folder}/disk /var/lib
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
systemd-sysusers {root}/systemd/turnkey.sysusers
systemd-tmpfiles --create {root}/systemd/turnkey.tmpfiles
for name in {secrets}; do
  test -s /etc/credstore.encrypted/$name ||
    systemd-creds encrypt --with-key=host --name=$name /var/lib/turnkey-secrets/$name /etc/credstore.encrypted/$name
done
exec env -i container=turnkey SYSTEMD_UNIT_PATH=/run/systemd/system PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
  /lib/systemd/systemd --system --unit=live.target --show-status=0 --log-target=console --log-level=info
"""
