"""`tests/appliance/run`: the stages of an appliance's life, one after the other or one by one.

Rules kept here:
1. A stage passes only by what was seen in the guest, at the broker or on the card. What cannot be tried is "not tried",
   with the reason, and the run does not count as passed.
2. Every stage begins with the machine as the stage before it left it; a stage that needs a restart makes one. Emulated
   boots take minutes. In the end the machine is shut down in order.
3. Figures are those of this machine, under emulation: they say nothing about a board.
4. After a stage that passed, the card is kept as a power cut would leave it, and the release desk with it; `--from`
   takes them up again. run.json names the image's commit and has one entry for each stage, the newest, with its time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.appliance.card import Preparation, keep, prepare
from tests.appliance.life import booking, boot, commission, switch
from tests.appliance.machine import MachineError
from tests.appliance.sticks import stick
from tests.appliance.updates import powercut, rollback, update
from tests.appliance.workshop import NotTried, Run

STAGES: dict[str, Callable[[Run], dict[str, object]]] = {
    "boot": boot,
    "commission": commission,
    "booking": booking,
    "switch": switch,
    "stick": stick,
    "update": update,
    "rollback": rollback,
    "powercut": powercut,
}


def main() -> int:
    """Run the stages that were asked for. 0 only where each of them passed."""
    parser = argparse.ArgumentParser(
        prog="tests/appliance/run",
        description="Build the arm64 image and live through its life in QEMU (emulated, accel=tcg). Stages: "
        + ", ".join(STAGES),
    )
    parser.add_argument("--only", help="stages, with commas between them (default: all)")
    parser.add_argument("--from", dest="first", choices=list(STAGES), help="this stage and those behind it, with the "
                        "card as the stage before it left it; with --only: those stages, with that card")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("build/appliance"), help="folder for images, cards and logs")
    parser.add_argument("--rebuild", action="store_true", help="build the images again although they are there")
    parser.add_argument("--cuts", type=int, default=5, help="power cuts in the stage powercut")
    parser.add_argument("--seed", type=int, default=None, help="of the moments of the power cuts (printed)")
    given = parser.parse_args()
    names = list(STAGES)
    since = names.index(given.first) if given.first else 0
    wanted = given.only.split(",") if given.only else names[since:]
    if unknown := [name for name in wanted if name not in STAGES]:
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    if given.rebuild and "boot" not in wanted:
        parser.error("a rebuilt image needs a new card: the stage boot belongs to it")
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    asked = Preparation(
        out,
        given.rebuild,
        fresh="boot" in wanted,
        after=names[since - 1] if since else None,
        stick=bool({"update", "powercut"} & set(wanted)),
    )
    try:
        prepared = prepare(asked)
    except MachineError as error:
        print(f"cannot begin: {error}", file=sys.stderr)
        return 2
    run = Run(prepared, cuts=given.cuts, seed=given.seed if given.seed is not None else int(time.time()))
    try:
        passed = all(lived_through(name, run) for name in wanted)
    finally:
        run.power_off()
        run.close()
    print(f"{'every stage passed' if passed else 'not every stage passed'}; logs and run.json in {out}")
    return 0 if passed else 1


def lived_through(name: str, run: Run) -> bool:
    """Run a stage, say and write down what became of it, and keep the card where it passed."""
    file = run.prepared.out / "run.json"
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() and name != "boot" else {}
    found = one(name, run)
    passed = found["verdict"] == "passed"
    told = {"image": run.prepared.built["tree_sha256"], "commit": run.prepared.built["commit"]}
    stages = known.get("stages", {}) | {name: found | {"ended": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"} | told}
    file.write_text(json.dumps({"stages": stages}, indent=1) + "\n")
    print(
        f"{name:10} {found['verdict']}  {json.dumps({key: found[key] for key in found if key != 'verdict'})}",
        flush=True,
    )
    if passed:
        keep(run.prepared.out, name, run.machine)
    return passed


def one(name: str, run: Run) -> dict[str, object]:
    """Run a stage. Returns: its figures and its verdict."""
    began = time.monotonic()
    print(f"{name} ...", file=sys.stderr, flush=True)
    try:
        figures: dict[str, object] = {"verdict": "passed", **STAGES[name](run)}
    except NotTried as reason:
        figures = {"verdict": "NOT TRIED", "not_tried": str(reason)}
    except (MachineError, AssertionError) as error:
        figures = {"verdict": "FAILED", "failed": str(error)}
        run.keep_journal(name)
    return figures | {"stage_s": round(time.monotonic() - began)}


if __name__ == "__main__":
    sys.exit(main())
