"""`tests/appliance/run`: the stages of an appliance's life, one after the other or one by one.

Rules kept here:
1. A stage passes only by what was seen in the guest, at the broker or on the card. What cannot be tried is "not tried",
   with the reason, and the run does not count as passed.
2. Every stage begins with the machine as the stage before it left it; a stage that needs a restart makes one. Emulated
   boots take minutes. In the end the machine is shut down in order.
3. Figures are those of this machine, under emulation: they say nothing about a board.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.appliance.card import Preparation, prepare
from tests.appliance.life import booking, boot, commission, switch
from tests.appliance.machine import MachineError
from tests.appliance.updates import powercut, rollback, update
from tests.appliance.workshop import NotTried, Run

STAGES: dict[str, Callable[[Run], dict[str, object]]] = {
    "boot": boot,
    "commission": commission,
    "booking": booking,
    "switch": switch,
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
    parser.add_argument("--out", type=Path, default=Path("build/appliance"), help="folder for images, cards and logs")
    parser.add_argument("--rebuild", action="store_true", help="build the images again although they are there")
    parser.add_argument("--cuts", type=int, default=5, help="power cuts in the stage powercut")
    parser.add_argument("--seed", type=int, default=None, help="of the moments of the power cuts (printed)")
    given = parser.parse_args()
    wanted = given.only.split(",") if given.only else list(STAGES)
    if unknown := [name for name in wanted if name not in STAGES]:
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    seed = given.seed if given.seed is not None else int(time.time())
    verdicts: dict[str, dict[str, object]] = {}
    run: Run | None = None
    try:
        run = Run(prepare(Preparation(out, given.rebuild, fresh="boot" in wanted)), cuts=given.cuts, seed=seed)
        for name in wanted:
            verdicts[name] = one(name, run)
            print(f"{name:10} {verdicts[name].pop('verdict')}  {json.dumps(verdicts[name])}", flush=True)
            if "failed" in verdicts[name]:
                break
    except MachineError as error:
        print(f"cannot begin: {error}", file=sys.stderr)
        return 2
    finally:
        if run is not None:
            run.power_off()
            run.close()
    (out / "run.json").write_text(json.dumps(verdicts, indent=1) + "\n")
    passed = [name for name in wanted if name in verdicts and not {"failed", "not_tried"} & verdicts[name].keys()]
    print(f"{len(passed)} of {len(wanted)} stages passed; logs in {out}")
    return 0 if len(passed) == len(wanted) else 1


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
