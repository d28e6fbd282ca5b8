"""`turnkeyctl`: what is done on a workstation. This file only mounts the commands; each lives in its own room."""

from __future__ import annotations

import typer

from turnkey_tools.audit.report_commands import app as audit
from turnkey_tools.authority import app as authority
from turnkey_tools.bench.commands import app as bench
from turnkey_tools.bridge import bridge
from turnkey_tools.card import card
from turnkey_tools.case import app as case
from turnkey_tools.evaluate.commands import app as evaluate
from turnkey_tools.fleet.cli import fleet
from turnkey_tools.hardware_key import hardware_key
from turnkey_tools.leads.cli import app as leads
from turnkey_tools.models.commands import app as models
from turnkey_tools.order import app as order
from turnkey_tools.pack import app as pack
from turnkey_tools.policy import app as policy
from turnkey_tools.provision import provision
from turnkey_tools.receipt import receipt
from turnkey_tools.release.cli import app as release
from turnkey_tools.schemas import schemas
from turnkey_tools.witness.commands import app as witness

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turnkey on a workstation: build and verify models, evaluate them, measure, receive and verify leads.",
)
app.add_typer(audit, name="audit")
app.add_typer(authority, name="authority")
app.add_typer(bench, name="bench")
app.add_typer(evaluate, name="evaluate")
app.add_typer(case, name="case")
app.add_typer(leads, name="leads")
app.add_typer(models, name="models")
app.add_typer(order, name="order")
app.add_typer(pack, name="pack")
app.add_typer(policy, name="policy")
app.add_typer(release, name="release")
app.add_typer(witness, name="witness")
app.command()(bridge)
app.command()(card)
app.command()(fleet)
app.command()(hardware_key)
app.command()(provision)
app.command()(receipt)
app.command()(schemas)


def main() -> None:
    """Entry point of the console script."""
    app()
