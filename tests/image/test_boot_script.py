"""The boot script's choice of a slot, carried out: a shell that knows U-Boot's words, and RAUC's counters in a file.

What is U-Boot's own of it (loading, the environment's format), tests/appliance/run shows.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "image-build/boot/boot.cmd.in"

U_BOOT = """\
scriptaddr=0x1000 devtype=mmc devnum=0 fdtcontroladdr=0 kernel_addr_r=0
setenv() { name=$1; shift; eval "$name=\\"\\$*\\""; }
setexpr() { eval "$1=$(printf %x $((0x${2#0x} $3 0x${4#0x})))"; }
load() {
  filesize=1
  case "$4" in
    turnkey.env) [ -e counters ] ;;
    *) case " $WHOLE " in *" ${2#*:} "*) ;; *) return 1 ;; esac ;;
  esac
}
env() { if [ "$1" = import ]; then . ./counters; fi; }
fatwrite() {
  printf 'BOOT_ORDER="%s"\\nBOOT_A_LEFT=%s\\nBOOT_B_LEFT=%s\\n' "$BOOT_ORDER" "$BOOT_A_LEFT" "$BOOT_B_LEFT" > counters
}
part() { eval "$4=uuid"; }
booti() { exit 0; }
reset() { exit 3; }
"""
"""Partitions with a kernel in WHOLE. An import leaves alone what the file lacks, as `env import` does without -d."""


@dataclass
class Card:
    """A card; `start` is one power-on.

    Attributes:
        folder: where the counters' file is.
        whole: slots whose kernel can be read.
    """

    folder: Path
    whole: str = "A"
    counters: dict[str, str] = field(default_factory=dict)

    def write(self, order: str, a: int, b: int) -> None:
        named = f'BOOT_ORDER="{order}"\n' if order else ""
        (self.folder / "counters").write_text(f"{named}BOOT_A_LEFT={a}\nBOOT_B_LEFT={b}\n")

    def start(self) -> str | None:
        """The slot that is started; None where none is, and the board resets itself."""
        parts = " ".join({"A": "2", "B": "3"}[slot] for slot in self.whole)
        ran = subprocess.run(
            ["sh", "-c", f"{U_BOOT}WHOLE='{parts}'\n{SCRIPT.read_text()}"],
            cwd=self.folder, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert ran.stderr == ""
        lines = (self.folder / "counters").read_text().replace('"', "").splitlines()
        self.counters = dict(line.split("=", 1) for line in lines)
        chosen = [line for line in ran.stdout.splitlines() if line.startswith("turnkey: slot=")]
        return chosen[-1].removeprefix("turnkey: slot=")[0] if ran.returncode == 0 else None


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return Card(tmp_path)


def test_a_new_card_starts_its_first_slot_and_counts_the_try(card: Card) -> None:
    card.write("A B", 3, 0)
    assert card.start() == "A"
    assert card.counters == {"BOOT_ORDER": "A B", "BOOT_A_LEFT": "2", "BOOT_B_LEFT": "0"}


def test_an_update_is_tried_three_times_and_then_left(card: Card) -> None:
    card.whole = "AB"
    card.write("B A", 3, 3)
    assert [card.start() for _ in range(4)] == ["B", "B", "B", "A"]


def test_power_cuts_bring_a_replaced_system_back_only_after_every_try_twice(card: Card) -> None:
    card.whole = "AB"
    card.write("B", 0, 3)
    assert [card.start() for _ in range(7)] == ["B"] * 6 + ["A"]


def test_a_slot_whose_kernel_cannot_be_read_is_left_at_once(card: Card) -> None:
    card.write("B A", 3, 3)
    assert card.start() == "A"


def test_damaged_counters_are_none(card: Card) -> None:
    assert card.start() == "A"


@pytest.mark.parametrize("order", ["B", ""])
def test_the_only_whole_slot_is_started_although_it_was_marked_bad(card: Card, order: str) -> None:
    """`rauc status mark-bad` takes a slot out of BOOT_ORDER too (RAUC, bootloaders/uboot.c)."""
    card.write(order, 0, 0)
    assert [card.start() for _ in range(7)] == ["A"] * 7


def test_without_a_try_left_the_slot_that_was_not_marked_bad_comes_first(card: Card) -> None:
    card.whole = "AB"
    for order in ("A", "B"):
        card.write(order, 0, 0)
        assert card.start() == order
