"""`turnkeyctl schemas`: the JSON Schemas of everything that leaves the device, and the AsyncAPI document of how,
written from the records themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from turnkey.leads import records
from turnkey_tools import asyncapi

SCHEMAS = Path(records.__file__).parent / "schemas"


def rendered() -> dict[str, str]:
    """Each document's text, by file name."""
    documents = {**records.schemas(), asyncapi.FILE: asyncapi.document()}
    return {name: json.dumps(document, indent=2) + "\n" for name, document in documents.items()}


def schemas(
    out: Annotated[Path, typer.Option(help="The directory to write them to.")] = SCHEMAS,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 where a file is not current.")] = False,
) -> None:
    """Write the JSON Schemas of all records and the AsyncAPI document, or check that they are current."""
    stale = [name for name, text in rendered().items() if not _same(out / name, text)]
    if check:
        for name in stale:
            typer.echo(f"not current: {out / name}; run `turnkeyctl schemas`", err=True)
        raise typer.Exit(1 if stale else 0)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in rendered().items():
        (out / name).write_text(text)
        typer.echo(f"{out / name}")


def _same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text
