"""The settings that one command line chose, and how a command ends that cannot go on.

Nothing else is read for it: a unit's process starts with this and its own rooms (`turnkey.start`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from turnkey.settings import Settings, SettingsError, read_settings

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")]


@dataclass
class _Chosen:
    config: Path | None = None


_chosen = _Chosen()


def choose(config: Path | None) -> None:
    """Use the settings of this file; None: TURNKEY_CONFIG, or the device's own."""
    _chosen.config = config


def chosen_config() -> Path | None:
    """The file that `--config` named; None: no such option was given."""
    return _chosen.config


def fail(message: str, code: int = 1) -> NoReturn:
    """Say it on standard error and end the command."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


def chosen_settings() -> Settings:
    """The settings in force."""
    try:
        return read_settings(_chosen.config)
    except SettingsError as error:
        fail(f"settings: {error}", 2)


def interlock_socket() -> Path | None:
    """The socket of the interlock's own process, where this device has one."""
    socket = chosen_settings().interlock.socket.path
    return socket if socket.is_socket() else None
