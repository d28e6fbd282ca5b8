"""`turnkeyctl leads …`: the lead desk on a terminal. Thin: arguments in, `Subscription` and `view` do the work.

The other commands are in casework.py.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from turnkey.database import StorageError
from turnkey_tools.leads import casework, view
from turnkey_tools.leads.desk import Accepted, Reason, Refused
from turnkey_tools.leads.keys import KeysError, device_keys
from turnkey_tools.leads.permitted import PolicyFileError, signed_policies
from turnkey_tools.leads.store import Store
from turnkey_tools.leads.subscription import Subscription
from turnkey_tools.provision import Identity, Site

__all__ = ["app", "device_keys"]

app = typer.Typer(no_args_is_help=True, help="The lead desk: receive, verify and show leads.")


@app.callback()
def _leads() -> None:
    """The lead desk: receive, verify and show leads."""


app.command("list")(casework.list_leads)
for _command in (
    casework.show,
    casework.review,
    casework.close,
    casework.export,
    casework.verify,
    casework.audit,
    casework.examiner,
):
    app.command()(_command)


@app.command()
def watch(
    site: Annotated[Path | None, typer.Option(help="a site made by `turnkeyctl provision`")] = None,
    desk: Annotated[str, typer.Option(help="the desk's name: its certificate's common name")] = "lead-desk",
    host: Annotated[str, typer.Option(help="the broker")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="the broker's port")] = 8883,
    ca: Annotated[Path | None, typer.Option(help="the site's CA (without --site)")] = None,
    cert: Annotated[Path | None, typer.Option(help="the desk's certificate (without --site)")] = None,
    key: Annotated[Path | None, typer.Option(help="the desk's key (without --site)")] = None,
    keys: Annotated[Path | None, typer.Option("--device-keys", help="directory of ID.pub (without --site)")] = None,
    store: Annotated[Path | None, typer.Option(help="the desk's memory (default: in the site)")] = None,
    authority: Annotated[Path | None, typer.Option(help="the authority that the devices follow, for --policy")] = None,
    policy: Annotated[
        list[Path] | None, typer.Option(help="a signed policy to hold leads to; give the earlier ones too")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="one JSON object per line")] = False,
    count: Annotated[int, typer.Option(help="leave after so many accepted leads; 0: never")] = 0,
    timeout: Annotated[float, typer.Option(help="leave after so many seconds; 0: never")] = 0.0,
) -> None:
    """Show each lead as it arrives, verified, and everything that was refused.

    Exit code: 0; 1 where --count leads did not arrive within --timeout; 2 where the desk could not listen at all.
    """
    out, note = Console(), Console(stderr=True)
    if site is not None:
        place = Site(site)
        identity, folder = place.desk(desk), place.desk_device_keys(desk)
        store = store or site / "desks" / desk / "leads.db"
    elif ca and cert and key and keys and store:
        identity, folder = Identity(desk, ca, cert, key), keys
    else:
        note.print("refused: give --site, or all of --ca --cert --key --device-keys --store")
        raise typer.Exit(2)
    if (authority is None) != (not policy):
        note.print("refused: --authority and --policy go together: a policy is believed by the authority's signatures")
        raise typer.Exit(2)
    try:
        policies = signed_policies(authority, policy) if authority and policy else None
        with (
            Store(store) as memory,
            Subscription(identity, host, port, device_keys(folder), memory, policies) as subscription,
        ):
            _watch(subscription, out, note, json, count, timeout)
    except (KeysError, PolicyFileError, StorageError, OSError) as error:
        note.print(f"refused: {error}", markup=False)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _watch(subscription: Subscription, out: Console, note: Console, json: bool, count: int, timeout: float) -> None:
    until_s = time.monotonic() + timeout if timeout else float("inf")
    accepted, listened, said = 0, False, None
    while time.monotonic() < until_s:
        verdict = subscription.next(min(0.5, max(0.0, until_s - time.monotonic())))
        listened = listened or subscription.listening(0.0)
        if subscription.trouble != said:
            said = subscription.trouble
            note.print(
                "listening again" if said is None else f"not listening: {said.reason}: {said.detail}", markup=False
            )
        if verdict is None:
            continue
        if json:
            print(view.line(verdict), flush=True)
        elif not (isinstance(verdict, Refused) and verdict.reason is Reason.DUPLICATE):
            out.print(view.panel(verdict))
        accepted += isinstance(verdict, Accepted)
        if count and accepted >= count:
            return
    if not listened:
        raise typer.Exit(2)
    if accepted < count:
        raise typer.Exit(1)
