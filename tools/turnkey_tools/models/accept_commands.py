"""`turnkeyctl models accept`: judge the evidence, and sign only where it suffices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from turnkey.envelope import SigningKey
    from turnkey.vision.acceptance import Acceptance


def accept(
    models: Annotated[Path, typer.Argument(help="The models directory, with its manifest.toml.")],
    report: Annotated[Path, typer.Option(help="evaluation.json, written by `turnkeyctl evaluate --report`.")],
    policy: Annotated[Path, typer.Option(help="TOML of what the evidence must show (models/requirements.toml).")],
    key: Annotated[
        list[Path] | None, typer.Option(help="Private key (PEM) of a signer; once for each. None: judge only.")
    ] = None,
    role: Annotated[str, typer.Option(help="The authority's role that signs models.")] = "models",
    out: Annotated[Path | None, typer.Option(help="The acceptance; MODELS/acceptance.json where not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Accept models on evidence: every check of the policy, overall and in every group, then the signatures.

    Refuses (exit 1, nothing written) where any check fails. With --key it writes the acceptance that a device asks for
    beside models which are not its release's; a further signer runs the same on the same files and adds a signature.
    """
    import hashlib
    import os
    import tomllib
    from dataclasses import asdict
    from datetime import UTC, datetime

    from pydantic import ValidationError
    from rich.console import Console

    from turnkey.vision.acceptance import ACCEPTANCE_NAME, Acceptance, models_digest
    from turnkey.vision.manifest import ModelError, read_manifest
    from turnkey_tools.authority import read_key
    from turnkey_tools.evaluate.report import EvaluationReport
    from turnkey_tools.models.accept import Requirements, check_evidence

    errors = Console(stderr=True, highlight=False)
    try:
        manifest = read_manifest(models)
        evidence, asked = report.read_bytes(), policy.read_bytes()
        requirements = Requirements.model_validate(tomllib.loads(asked.decode()))
        checks = check_evidence(EvaluationReport.model_validate_json(evidence), requirements, manifest)
    except (ModelError, ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        errors.print(f"[red]cannot judge:[/red] {error}", soft_wrap=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        console = Console(highlight=False)
        for check in checks:
            mark = "[green]holds[/green]" if check.holds else "[red]FAILS[/red]"
            console.print(f"{mark}  {check.name}: {check.found}", soft_wrap=True)
    failed = [check for check in checks if not check.holds]
    if failed:
        errors.print(f"[red]refused: {len(failed)} of {len(checks)} checks fail[/red]")
        raise typer.Exit(1)
    if not key:
        errors.print("the evidence suffices; nothing was signed (no --key)")
        return
    acceptance = Acceptance(
        models=models_digest(manifest),
        embedder_id=manifest.embedder.id,
        report=hashlib.sha256(evidence).hexdigest(),
        requirements=hashlib.sha256(asked).hexdigest(),
        accepted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        role=role,
    )
    path = out or models / ACCEPTANCE_NAME
    envelope = _signed(acceptance, path, [read_key(file) for file in key])
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(envelope)
    temporary.replace(path)
    errors.print(f"wrote {path}", soft_wrap=True)


def _signed(acceptance: Acceptance, path: Path, keys: list[SigningKey]) -> bytes:
    """The acceptance with these signatures; added to those of a file that accepts the same on the same evidence."""
    from pydantic import ValidationError

    from turnkey.envelope import EnvelopeError, cosign, peek
    from turnkey.vision import acceptance as room
    from turnkey_tools.authority import sign_with

    try:
        data = path.read_bytes()
        there = room.Acceptance.model_validate_json(peek(data).payload)
    except (OSError, EnvelopeError, ValidationError):
        return sign_with(room.ACCEPTANCE_TYPE, acceptance.payload(), keys)
    if there.model_copy(update={"accepted_at": acceptance.accepted_at}) != acceptance:
        return sign_with(room.ACCEPTANCE_TYPE, acceptance.payload(), keys)
    for key in keys:
        data = cosign(data, key)
    return data
