"""dpkg's list in a root file system: reading it, and taking out what only the build needed.

Rules kept here:
1. A package goes with every file that no other package has, its own configuration too. No script of it runs: what it
   set up beside its files is below /var, which the image does not carry.
2. The list says afterwards what is there, so that the SBOM is true.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

BUILD_ONLY: Final = (
    "adduser",
    "apt",
    "apt-utils",
    "busybox",
    "cpio",
    "debconf",
    "debian-archive-keyring",
    "dracut-install",
    "gpgv",
    "initramfs-tools",
    "initramfs-tools-bin",
    "initramfs-tools-core",
    "klibc-utils",
    "libapt-pkg7.0",
    "libklibc",
    "perl-base",
    "sqv",
    "tzdata",
    "ucf",
)
"""What installs packages and makes initramfs images, and the language that is written in: a device does neither."""

GSTREAMER: Final = "gstreamer1.0-plugins-good"
PLUGINS: Final = (
    "app",
    "coreelements",
    "jpeg",
    "typefindfunctions",
    "video4linux2",
    "videoconvertscale",
    "videotestsrc",
)
"""GStreamer's plugins that a USB camera's pictures go through."""

_SOUND_FILM_DESKTOP: Final = """
    dconf-gsettings-backend dconf-service fontconfig-config fonts-dejavu-core fonts-dejavu-mono glib-networking
    glib-networking-common glib-networking-services gsettings-desktop-schemas iso-codes libaa1 libasyncns0 libavc1394-0
    libcaca0 libcairo-gobject2 libcairo2 libcdparanoia0 libdconf1 libdeflate0 libduktape207 libdv4t64 libflac14
    libfontconfig1 libfreetype6 libgdk-pixbuf-2.0-0 libgdk-pixbuf2.0-common libgpm2 libiec61883-0 libjbig0 liblerc4
    libmp3lame0 libmpg123-0t64 libogg0 libopencore-amrnb0 libopencore-amrwb0 libopus0 libpixman-1-0 libpng16-16t64
    libproc2-0 libproxy1v5 libpulse0 libraw1394-11 libsharpyuv0 libshout3 libslang2 libsndfile1 libsoup-3.0-0
    libsoup-3.0-common libspeex1 libtag2 libtheora0 libtheoradec1 libtheoraenc1 libtiff6 libtwolame0 libvisual-0.4-0
    libvorbis0a libvorbisenc2 libvpx9 libwavpack1 libwebp7 libx11-6 libx11-data libx11-xcb1 libxau6 libxcb-render0
    libxcb-shm0 libxcb1 libxdamage1 libxdmcp6 libxext6 libxfixes3 libxml2 libxrender1 libxtst6 procps shared-mime-info
    x11-common
"""
NOT_FOR_A_CAMERA: Final = tuple(_SOUND_FILM_DESKTOP.split())
"""What GStreamer's other plugins need: sound, film, a desktop. A kiosk's browser needs some of it too."""

_INFO: Final = Path("var/lib/dpkg/info")
_STATUS: Final = Path("var/lib/dpkg/status")


def take_out(root: Path, names: tuple[str, ...] = BUILD_ONLY) -> str:
    """Remove packages from a tree. Returns: dpkg's status file without them."""
    lists = {path: path.name.removesuffix(".list").split(":")[0] for path in (root / _INFO).glob("*.list")}
    going, kept = set[str](), set[str]()
    for path, name in lists.items():
        (going if name in names else kept).update(path.read_text().splitlines())
    for name in sorted(going - kept, reverse=True):
        path = root / name.lstrip("/")
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    stanzas = (root / _STATUS).read_text().split("\n\n")
    return "\n\n".join(stanza for stanza in stanzas if _name(stanza) not in names)


def take_out_plugins(root: Path) -> None:
    """Remove the plugins of GStreamer that no camera of this device needs."""
    for path in root.glob("usr/lib/*/gstreamer-1.0/libgst*.so"):
        if path.stem.removeprefix("libgst") not in PLUGINS:
            path.unlink()


def _name(stanza: str) -> str:
    found = re.search(r"(?m)^Package: (\S+)$", stanza)
    return found.group(1) if found else ""
