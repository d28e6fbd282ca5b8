"""`turnkey case …`: applying case packets, from a file or from every packet on a mounted stick.

Rules kept here:
1. What is shown is what was enrolled, or what was refused and why. A lead goes to the lead desk and nowhere else.
2. Each packet stands for itself: a refused one does not keep the next from being applied.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from turnkey.booth_line import BoothUnreachable
from turnkey.casework import read_packet_file
from turnkey.commands.chosen import JsonOption, chosen_device, chosen_settings, fail, interlock_socket
from turnkey.packet_socket import PacketSaid, ask_to_apply, packet_said, packets_path

PACKET_SUFFIX = ".tkcase"

case_app = typer.Typer(no_args_is_help=True, help="Case packets: the only way a picture from outside enters.")


@case_app.callback()
def _case() -> None:
    """Case packets: the only way a picture from outside enters."""


@case_app.command("apply")
def apply_command(
    path: Annotated[Path, typer.Argument(exists=True, help="A packet, or a folder (a mounted stick) with packets.")],
    as_json: JsonOption = False,
) -> None:
    """Apply a sealed case packet, or every *.tkcase directly on a stick, in the order of their names.

    An accepted packet's probe is enrolled in `cases`; where the policy says so, it is searched among the bookings,
    once. A lead, if there is one, goes to the lead desk. Each packet is good for one attempt; everything that becomes
    of it is on the ledger. Exit code 1 where any was refused.
    """
    files = sorted(file for file in path.glob(f"*{PACKET_SUFFIX}") if file.is_file()) if path.is_dir() else [path]
    if not files:
        fail(f"there is no *{PACKET_SUFFIX} in {path}")
    refused = 0
    with ExitStack() as parts:
        # One device for all packets: each start of a device is a boot on the ledger.
        device = parts.enter_context(chosen_device()) if interlock_socket() is None else None
        for file in files:
            said = _asked(file) if device is None else packet_said(device.casework.apply(_read(file)))
            refused += said.outcome == "refused"
            facts = {"file": file.name, **said.model_dump(mode="json")}
            typer.echo(json.dumps(facts) if as_json else _shown(file, said))
    if refused:
        raise typer.Exit(1)


def _asked(file: Path) -> PacketSaid:
    try:
        with file.open("rb") as opened:
            return ask_to_apply(packets_path(chosen_settings().interlock.socket), opened.fileno())
    except BoothUnreachable as error:
        fail(f"refused (booth-gone): {error}")
    except OSError as error:
        fail(f"{file}: {error.strerror}")


def _read(file: Path) -> bytes:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return read_packet_file(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        fail(f"{file}: {error.strerror or error}")


def _shown(file: Path, said: PacketSaid) -> str:
    if said.outcome == "refused":
        return f"{file.name}: refused ({said.reason}): {said.message}"
    search = {
        "done": "searched among the bookings, once; a lead, if there is one, is at the lead desk",
        "none": "the policy wants no search",
        "refused": f"its search was refused ({said.search_reason})",
    }[said.search]
    return f"{file.name}: enrolled for {said.case_number}; {search}"
