"""The recipe's own decisions: what goes into an image, and the same bytes for the same tree."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "image-build"))

from turnkey_image import building, disk, environment, filesystem, identity, packages, root, sameness, sbom  # noqa: E402
from turnkey_image.boards import BOARDS  # noqa: E402
from turnkey_image.deb import AFTER, BEFORE_REMOVAL, control, debian_version  # noqa: E402
from turnkey_image.programs import BuildError, Steps  # noqa: E402

EPOCH = 1_795_305_600


def make_tree(folder: Path) -> Path:
    (folder / "boot").mkdir(parents=True)
    (folder / "boot/vmlinuz").write_bytes(b"kernel" * 5000)
    (folder / "etc").mkdir()
    (folder / "etc/hostname").write_text("turnkey\n")
    (folder / "etc/link").symlink_to("/var/lib/turnkey-site")
    return folder


def make_identity(folder: Path) -> Path:
    for name in identity.NEEDED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('device_id = "booth-1"\n' if name == "device.toml" else name)
    return folder


def test_two_trees_that_are_the_same_give_the_same_slot_byte_for_byte(tmp_path: Path) -> None:
    made = []
    for name in ("first", "second"):
        tree = make_tree(tmp_path / name)
        digest = sameness.digest(sameness.listing(tree, EPOCH))
        slot = tmp_path / f"{name}.ext4"
        filesystem.make_ext4(tree, slot, "turnkey", digest, EPOCH, Steps(tmp_path / "log", quiet=True), mib=16)
        made.append((digest, hashlib.sha256(slot.read_bytes()).hexdigest()))
        time.sleep(1.1)  # another second on every file's change time
    assert made[0] == made[1]


def test_a_file_that_changes_changes_the_digest(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    before = sameness.listing(tree, EPOCH)
    (tree / "etc/hostname").write_text("turnkez\n")
    os.utime(tree / "etc/hostname", (EPOCH, EPOCH))
    after = sameness.listing(tree, EPOCH)
    assert sameness.digest(after) != sameness.digest(before)
    assert sameness.differences(before, after) == [sameness.Difference("etc/hostname", "content")]


def test_a_mode_that_changes_changes_the_digest(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    before = sameness.listing(tree, EPOCH)
    (tree / "etc/hostname").chmod(0o600)
    after = sameness.listing(tree, EPOCH)
    assert sameness.digest(after) != sameness.digest(before)
    assert sameness.differences(before, after) == [sameness.Difference("etc/hostname", "mode")]


def make_build(folder: Path) -> Path:
    tree = make_tree(folder / "tree")
    lines = sameness.listing(tree, EPOCH)
    (folder / sameness.LISTING).write_text("".join(f"{line}\n" for line in lines))
    (folder / "slot.ext4").write_bytes(b"slot")
    (folder / "boot").mkdir()
    (folder / "boot/boot.scr").write_text("script")
    digest = sameness.digest(lines)
    (folder / "report.json").write_text(json.dumps({"tree_sha256": digest, "slot_sha256": "0"}))
    return folder


def compare(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([REPOSITORY / "image-build/compare", *words], capture_output=True, text=True, check=False)


def test_two_builds_that_are_the_same_are_said_to_be(tmp_path: Path) -> None:
    said = compare(make_build(tmp_path / "a"), make_build(tmp_path / "b"))
    assert said.returncode == 0
    assert said.stdout.startswith("the same: tree sha256")


def test_what_differs_between_two_builds_is_named(tmp_path: Path) -> None:
    one, other = make_build(tmp_path / "a"), make_build(tmp_path / "b")
    (other / "boot/boot.scr").write_text("another")
    listed = (other / sameness.LISTING).read_text()
    (other / sameness.LISTING).write_text(listed.replace("etc/hostname", "etc/hostname2"))
    said = compare(one, other, "--json")
    assert said.returncode == 1
    assert json.loads(said.stdout)["differences"] == {
        "boot partition: boot.scr": "content",
        "etc/hostname": "only in the first",
        "etc/hostname2": "only in the second",
    }


def test_where_nothing_is_built_nothing_is_called_the_same(tmp_path: Path) -> None:
    assert compare(tmp_path, tmp_path).returncode == 2


def test_no_recipe_names_a_host_to_fetch_from() -> None:
    rooms = ("image-build", "tests/appliance", "tests/image")
    search = ["git", "-C", REPOSITORY, "grep", "-lE", r"//[a-z.]*(debian|pypi)[.]org", "--", *rooms]
    assert subprocess.run(search, capture_output=True, text=True, check=False).stdout == ""


def test_the_lock_is_judged_for_the_devices_python_not_for_the_builders() -> None:
    lock = (REPOSITORY / "device.lock").read_text()
    for python, other in (("3.11", "3.13"), ("3.13", "3.11")):
        mine = environment.for_the_device(lock, "aarch64", python)
        numpy = [line for line in mine.splitlines() if line.startswith("numpy==")]
        assert len(numpy) == 1
        assert numpy != [
            line
            for line in environment.for_the_device(lock, "aarch64", other).splitlines()
            if line.startswith("numpy==")
        ]
        assert ";" not in mine
        assert "--hash=sha256:" in mine


def test_every_requirement_of_the_device_keeps_its_hashes() -> None:
    mine = environment.for_the_device((REPOSITORY / "device.lock").read_text(), "aarch64")
    entries = [entry for entry in mine.split("\n") if "==" in entry]
    assert len(entries) > 25
    assert all(entry.endswith("\\") for entry in entries)


def carried_out(script: str, root: Path, word: str) -> None:
    """A maintainer script in a root of its own, where no systemd runs."""
    for name, instead in (("systemctl ", f"systemctl --root={root} "), ("/run/", f"{root}/run/"),
                          ("/opt/", f"{root}/opt/"), ("/etc/", f"{root}/etc/"), ("/var/", f"{root}/var/"),
                          ("systemd-sysusers", "true"), ("systemd-tmpfiles", "true")):  # fmt: skip
        script = script.replace(name, instead)
    done = subprocess.run(["sh", "-c", script, "script", word, ""], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_package_that_goes_starts_nothing_with_the_machine_any_more(tmp_path: Path) -> None:
    root.lay_out_units(REPOSITORY, tmp_path)
    (tmp_path / "opt/turnkey/lib/__pycache__").mkdir(parents=True)
    (tmp_path / "var/lib").mkdir(parents=True)
    carried_out(AFTER, tmp_path, "configure")
    links = tmp_path / "etc/systemd/system"
    assert (links / "multi-user.target.wants/turnkey-interlock.service").is_symlink()
    carried_out(BEFORE_REMOVAL, tmp_path, "remove")
    assert [path for path in links.rglob("*") if path.is_symlink()] == []
    assert not (tmp_path / "opt/turnkey/lib/__pycache__").exists()


@pytest.mark.parametrize(("device", "mode"), [(True, 0o600), (False, 0o644)])
def test_a_card_with_keys_on_it_is_read_by_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: bool, mode: int
) -> None:
    def put_together(_board: object, _slot: Path, _boot: Path, data: Path, card: Path, *_: object) -> None:
        assert data.parent.stat().st_mode & 0o077 == 0
        card.write_bytes(b"card")
        card.chmod(0o644)

    monkeypatch.setattr(disk, "make_card", put_together)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    (tmp_path / "slot.ext4").write_bytes(b"slot")
    who = make_identity(tmp_path / "identity") if device else None
    arguments = (BOARDS["rpi4"], tmp_path, who, tmp_path / "booth-1.img", 64, Steps(tmp_path / "log", quiet=True))
    building.make_card(*arguments)
    assert (tmp_path / "booth-1.img").stat().st_mode & 0o777 == mode
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(BuildError, match="root"):
        building.make_card(*arguments)


def test_the_empty_slot_has_no_tries() -> None:
    text = disk.counters("A B", {"A": 3, "B": 0})
    assert len(text) == disk.UBOOT_ENV_BYTES
    assert b"BOOT_B_LEFT=0\0" in text


def test_boot_script_and_rauc_count_in_the_same_file_which_is_not_u_boots_own() -> None:
    script = (REPOSITORY / "image-build/boot/boot.cmd.in").read_text()
    recipe = (REPOSITORY / "image-build/turnkey_image/root.py").read_text()
    assert disk.COUNTERS != disk.PI_ENVIRONMENT
    assert set(re.findall(r"\w+\.env\b", script)) == {disk.COUNTERS}
    assert f"/boot/firmware/{disk.COUNTERS} " in recipe


def test_a_pis_boot_loader_asks_no_key_and_starts_from_nothing_but_its_card() -> None:
    names = disk.PI_STARTS
    assert (names["bootdelay"], names["stdin"]) == ("-2", "nulldev")
    assert names["bootcmd"].endswith("; reset"), "what ends without a start ends at a prompt"
    assert not re.search(r"usb|pxe|dhcp|bootflow", " ".join(names.values()))
    script = (REPOSITORY / "image-build/boot/boot.cmd.in").read_text()
    own = {"devtype", "devnum", "fdt_addr", "fdtcontroladdr", "filesize", "s", "rootuuid"}
    set_there = set(re.findall(r"set(?:env|expr) (\w+)", script))
    assert set(re.findall(r"\$\{(\w+)\}", script)) - set_there - own <= set(names), "what the script asks for is there"


def test_rauc_takes_verity_bundles_for_its_own_board_only() -> None:
    for board in BOARDS.values():
        said = root.rauc_system(board)
        assert f"compatible={board.compatible}\n" in said
        assert "bundle-formats=-plain" in said
        assert said.count("[slot.rootfs.") == 2
        assert "by-partlabel" not in said


def test_no_two_boards_take_each_others_bundles() -> None:
    assert len({board.compatible for board in BOARDS.values()}) == len(BOARDS)


def test_an_image_with_a_screen_and_one_without_do_not_take_each_others_bundles() -> None:
    screens = [board.with_kiosk() for board in BOARDS.values()]
    assert not {board.compatible for board in screens} & {board.compatible for board in BOARDS.values()}
    assert all(board.slot_mib > 450 for board in screens)


def test_the_screens_browser_shows_the_console_and_nothing_else() -> None:
    kiosk = REPOSITORY / "image-build/kiosk"
    policy = json.loads((kiosk / "etc/chromium/policies/managed/turnkey.json").read_text())
    unit = (REPOSITORY / "systemd/turnkey-kiosk.service").read_text()
    assert policy["URLBlocklist"] == ["*"]
    assert policy["URLAllowlist"] == ["127.0.0.1:8180"]
    assert "http://127.0.0.1:8180/\n" in unit
    assert re.findall(r"(?m)^IPAddress\w+=.+$", unit) == ["IPAddressDeny=any", "IPAddressAllow=127.0.0.1"]
    users = (kiosk / "usr/lib/sysusers.d/turnkey-kiosk.conf").read_text()
    assert re.findall(r"(?m)^[ugm].+$", users) == ['u     turnkey-kiosk   -   "Turnkey kiosk"  -']


@pytest.mark.parametrize("lost", identity.NEEDED)
def test_an_identity_that_lacks_something_is_refused_by_name(tmp_path: Path, lost: str) -> None:
    folder = make_identity(tmp_path / "identity")
    (folder / lost).unlink()
    with pytest.raises(BuildError, match=lost):
        identity.lay_out(folder, tmp_path / "data")


def test_a_card_is_never_made_from_another_ones_history(tmp_path: Path) -> None:
    folder = make_identity(tmp_path / "identity")
    (folder / "ledger.db").write_text("")
    with pytest.raises(BuildError, match="history"):
        identity.lay_out(folder, tmp_path / "data")


def test_secrets_on_a_card_are_roots_alone(tmp_path: Path) -> None:
    identity.lay_out(make_identity(tmp_path / "identity"), tmp_path / "data")
    home = tmp_path / "data/lib/turnkey-site"
    assert (home / "secrets").stat().st_mode & 0o777 == 0o700
    for secret in (home / "secrets").iterdir():
        assert secret.stat().st_mode & 0o777 == 0o600


def test_a_new_card_holds_no_latch() -> None:
    """Without a latch the interlock starts in a moratorium; nothing on a card may say otherwise."""
    assert "latch" in identity.HISTORY


def test_the_bill_names_every_python_package_with_its_version(tmp_path: Path) -> None:
    site = tmp_path / environment.SITE
    about = site / "numpy-2.5.5.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: numpy\nVersion: 2.5.5\nLicense-Expression: BSD-3-Clause\n\n"
    )
    status = "Package: rauc\nStatus: install ok installed\nVersion: 1.13-1\nArchitecture: arm64\n\n"
    status += "Package: apt\nStatus: purge ok not-installed\nVersion: 3.0\nArchitecture: arm64\n"
    (tmp_path / "usr/share/turnkey/models").mkdir(parents=True)
    bill = sbom.bill(tmp_path, "turnkey-test", "1", status, EPOCH)
    assert {item["purl"] for item in bill["components"]} == {
        "pkg:pypi/numpy@2.5.5",
        "pkg:deb/debian/rauc@1.13-1?arch=arm64",
    }
    assert json.dumps(bill) == json.dumps(sbom.bill(tmp_path, "turnkey-test", "1", status, EPOCH))


def test_another_version_than_the_listed_one_is_named() -> None:
    wanted = {"components": [{"purl": "pkg:pypi/numpy@2.5.5", "version": "2.5.5"}]}
    made = {"components": [{"purl": "pkg:pypi/numpy@2.5.6", "version": "2.5.6"}]}
    assert sbom.differences(wanted, wanted) == []
    assert sbom.differences(wanted, made) == ["pkg:pypi/numpy: 2.5.5 wanted, 2.5.6 found"]


def test_what_a_device_does_not_run_stays_out(tmp_path: Path) -> None:
    for name in ("numpy/tests/test_x.py", "numpy/core.py", "numpy/core.pyi", "numpy/_core/include/x.h"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    environment.trim(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == ["numpy/core.py"]


def test_the_package_asks_for_the_python_that_its_wheels_are_for() -> None:
    assert "python3 (>= 3.11), python3 (<< 3.12)" in control("0.1", "arm64", "3.11", 1)
    assert debian_version("v1.2-3-gabc") == "1.2+3+gabc"
    assert debian_version("abc123")[0].isdigit()


def test_every_board_is_on_the_command_line() -> None:
    said = subprocess.run(
        [REPOSITORY / "image-build/build", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for name in BOARDS:
        assert name in said


def test_only_what_the_stable_archive_lacks_comes_from_backports() -> None:
    backported = {name: board.backported for name, board in BOARDS.items() if board.backported}
    assert list(backported) == ["rpi5"], "its card, network and pins have no driver in Debian 13's own kernel"
    assert all(package.startswith("src:linux") for package in backported["rpi5"])


@pytest.mark.parametrize("archive", ["http://archive.example/debian", "[trusted=yes] http://archive.example/2026"])
def test_backports_come_from_the_archive_that_the_suite_comes_from(tmp_path: Path, archive: str) -> None:
    for name in ("sources.list.d", "preferences.d"):
        (tmp_path / "etc/apt" / name).mkdir(parents=True)
    (tmp_path / "etc/apt/sources.list").write_text(
        f"deb {archive} trixie main contrib\ndeb {archive} trixie-updates main\n"
    )
    words = root.with_backports(("src:linux", "src:other"))
    subprocess.run(["sh", "-c", words, "hook", tmp_path], check=True)
    added = (tmp_path / "etc/apt/sources.list.d/backports.list").read_text()
    assert added == f"deb {archive} trixie-backports main contrib\n"
    preferences = (tmp_path / "etc/apt/preferences.d/backports").read_text().splitlines()
    assert preferences == ["Package: src:linux src:other", "Pin: release n=trixie-backports", "Pin-Priority: 990"]


def test_an_archive_without_the_suite_stops_the_build(tmp_path: Path) -> None:
    for name in ("sources.list.d", "preferences.d"):
        (tmp_path / "etc/apt" / name).mkdir(parents=True)
    (tmp_path / "etc/apt/sources.list").write_text("")
    assert subprocess.run(["sh", "-c", root.with_backports(("src:linux",)), "hook", tmp_path], check=False).returncode


def test_a_pis_initramfs_has_what_gives_the_card_its_supply() -> None:
    for name in ("rpi4", "rpi5"):
        assert {"fixed", "gpio_regulator", "ext4"} <= set(BOARDS[name].modules)


def test_a_camera_keeps_its_plugins_and_no_others(tmp_path: Path) -> None:
    plugins = tmp_path / "usr/lib/aarch64-linux-gnu/gstreamer-1.0"
    plugins.mkdir(parents=True)
    for name in (*packages.PLUGINS, "soup", "matroska"):
        (plugins / f"libgst{name}.so").touch()
    packages.take_out_plugins(tmp_path)
    assert {path.stem.removeprefix("libgst") for path in plugins.iterdir()} == set(packages.PLUGINS)
