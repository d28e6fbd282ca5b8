"""`turnkeyctl receipt`: what an expungement's receipt says, once its signature has been checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from turnkey.envelope import EnvelopeError, KeyFileError, PublicKey, verify
from turnkey.leads.receipts import PAYLOAD_TYPE_RECEIPT, ExpungementReceipt


class ReceiptError(ValueError):
    """Not a receipt of this device's; the message says why."""


def read_receipt(envelope: bytes, key: PublicKey) -> ExpungementReceipt:
    """A receipt that the device with this key signed.

    Raises:
        ReceiptError: it did not, or it is no receipt.
    """
    try:
        return ExpungementReceipt.model_validate_json(verify(envelope, PAYLOAD_TYPE_RECEIPT, [key]).payload)
    except EnvelopeError as error:
        raise ReceiptError(f"{error.reason}: {error}") from error
    except ValidationError as error:
        raise ReceiptError(f"malformed: {error.errors()[0]['msg']}") from error


def receipt(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="what `turnkey expunge --receipt` wrote")],
    device_key: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="the device's public key, PEM")],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object for each receipt")] = False,
) -> None:
    """Verify an expungement's receipt and say what it certifies; exit 1 where it does not hold."""
    try:
        key = PublicKey.from_pem(device_key.read_bytes())
        receipts = [read_receipt(line, key) for line in file.read_bytes().splitlines() if line]
        if not receipts:
            raise ReceiptError("the file is empty")
    except (ReceiptError, KeyFileError, OSError) as error:
        typer.echo(f"refused: {error}", err=True)
        raise typer.Exit(1) from error
    for one in receipts:
        if as_json:
            typer.echo(json.dumps(one.model_dump(mode="json")))
            continue
        removed = one.removed
        typer.echo(
            f"{one.device_id} certifies: {len(removed.rows)} template(s) of {removed.reference} left its partition "
            f"{removed.partition} ({removed.reason}) by {one.at:%Y-%m-%d %H:%M:%S} UTC; entries {one.first_entry} to "
            f"{one.first_entry + len(removed.rows) - 1} of its ledger, which had the root {one.ledger_root} "
            f"at {one.ledger_size} entries"
        )
