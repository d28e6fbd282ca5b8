"""In moratorium nothing of the gallery is in the process: its memory is dumped and searched for known templates."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gallery.galleries import filled, units

from turnkey.gallery.memory import SecretMemory, swap_risk

CHILD = """
import ctypes, json, re, sys
from pathlib import Path
import numpy as np
from turnkey.gallery.gallery import Gallery
from turnkey.gallery import graph, partition
from turnkey.interlock.permit import Permit

partition.SNAPSHOT_ROWS = 100
graph.RECALL_PROBES = 20
path = Path(sys.argv[1])

def regions():
    libc = ctypes.CDLL(None)
    assert libc.prctl(4, 1, 0, 0, 0) == 0   # PR_SET_DUMPABLE back on, or an ordinary user may not read itself
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, mode = line.split()[:2]
            if not mode.startswith("rw") or "[v" in line:
                continue
            start, stop = (int(end, 16) for end in span.split("-"))
            memory.seek(start)
            # Overwritten below: a copy that was only freed would be found the next time.
            region = bytearray(stop - start)
            try:
                memory.readinto(region)
                yield region
            except OSError:
                continue
            finally:
                ctypes.memset((ctypes.c_char * len(region)).from_buffer(region), 0, len(region))

def found(needles):
    # The needles are stored inverted, so that the search does not find itself.
    seen = dict.fromkeys(needles, 0)
    for region in regions():
        for name, inverted in needles.items():
            needle = bytearray(len(inverted))  # at once: one that grew would leave copies of itself behind
            for at, byte in enumerate(inverted):
                needle[at] = byte ^ 0xFF
            seen[name] += region.find(needle) >= 0
            needle[:] = bytes(len(needle))
        del region
    return seen

needles = {name: bytes.fromhex(text) for name, text in json.loads(sys.stdin.read()).items()}
key, probe = bytearray(32), np.zeros(128, np.float32)
with open(sys.argv[2], "rb", buffering=0) as secrets:
    secrets.readinto(key)
    secrets.readinto(probe.data.cast("B"))
gallery = Gallery(path, "sface-0123", scan_budget_ms=1e-9)
for turn in range(2):
    gallery.unlock(key)
    result = gallery.search("cases", probe, 20, Permit(lambda: 0, 1))
    assert result.strategy.method == ("graph" if turn else "exhaustive")
    gallery.expunge("cases", "R-%d" % (turn + 1))
    if not turn:
        gallery.build_graph("cases")
    running = found(needles)
    gallery.lock()
for at in range(len(key)):
    key[at] = 0
probe[:] = 0
print(json.dumps({"running": running, "locked": found(needles), "limit": __import__("resource").getrlimit(4)[0]}))
"""


def test_a_dump_of_the_locked_process_holds_no_template(tmp_path: Path) -> None:
    """Known templates are there while it runs, in scan and graph, or the test would show nothing; then they are
    gone, and so are the key and the probe that was searched with."""
    templates = units(400, 21)
    path = tmp_path / "gallery.db"
    key = bytes((7 * place + 3) % 256 for place in range(32))
    filled(path, templates, key=key)
    needles = {}
    for row in (10, 200, 399):
        template = templates[row]
        assert np.abs(template).max() < 0.5
        needles[f"int8 {row}"] = np.rint(template / np.float32(0.5 / 127)).astype(np.int8).tobytes()[:48]
        needles[f"float32 {row}"] = template.tobytes()[:64]
        needles[f"float64 {row}"] = template.astype(np.float64).tobytes()[:64]
    probe = units(1, 22)[0]
    levels = np.rint(probe.astype(np.float64) / (np.abs(probe.astype(np.float64)).max() / 127))
    needles |= {
        "key": key,
        "probe float32": probe.tobytes()[:64],
        "probe float64": probe.astype(np.float64).tobytes()[:64],
        "probe int8": levels.astype(np.int8).tobytes()[:48],
        "probe levels": levels.tobytes()[:64],
    }
    secrets = tmp_path / "secrets"
    secrets.write_bytes(key + probe.tobytes())
    inverted = {name: bytes(byte ^ 0xFF for byte in needle).hex() for name, needle in needles.items()}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(secrets)],
        input=json.dumps(inverted),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    seen = json.loads(done.stdout)
    there = [*(f"int8 {row}" for row in (10, 200, 399)), "key", "probe float32"]
    assert all(seen["running"][name] for name in there), "the search of the dump finds what is there"
    assert not any(seen["locked"].values()), seen["locked"]
    assert seen["limit"] == 0, "no core dump"


def test_wiped_memory_is_zero_and_unmapped() -> None:
    memory = SecretMemory(1 << 16)
    array = memory.array(np.uint8, (1 << 16,))
    array[:] = 7
    memory.wipe()
    memory.wipe()
    assert not array.any()
    with pytest.raises(ValueError, match="wiped"):
        memory.array(np.uint8, (1,))


def test_memory_that_could_be_swapped_is_said_to_be(tmp_path: Path) -> None:
    memory = SecretMemory(4096)
    on, off = tmp_path / "on", tmp_path / "off"
    on.write_text("Filename Type Size\n/dev/x partition 1\n")
    off.write_text("Filename Type Size\n")
    assert not swap_risk(memory, off)
    memory.locked = False
    assert swap_risk(memory, on)
    assert not swap_risk(memory, off)
    assert swap_risk(memory, tmp_path / "absent")
    memory.wipe()


def test_where_pages_cannot_be_locked_it_is_known() -> None:
    code = (
        "from turnkey.gallery.memory import SecretMemory\n"
        "import os, resource\n"
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))\n"
        "os.getuid() or os.setuid(65534)  # root's pages are locked whatever the limit\n"
        "print(SecretMemory(1 << 20).locked)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
