"""The device's TUF client under the interface that theupdateframework/tuf-conformance asks of a client under test.

Three commands: `init` takes the trusted root and asks nobody; `refresh` brings the metadata up to date; `download` does
so too and fetches one target. Exit status: 0 where all of it succeeded, 1 where not (the reason on standard error), 2
for wrong arguments.

It is a thin coat over `turnkey.update.client.Client` with the device's own fetcher and limits; nothing about trust is
decided here. The suite's servers speak plain HTTP, a device does not: `turnkey.settings` takes only https addresses.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from urllib.parse import quote

from turnkey.update.client import Client, Way
from turnkey.update.fetching import HttpFetcher
from turnkey.update.limits import Limits
from turnkey.update.refusals import UpdateError

ROOT_FILE = "provisioned-root"
"""Beside the metadata, under a name that no role has."""


def initialise(metadata: Path, trusted_root: Path) -> None:
    """Keep the root as the device is provisioned with one."""
    metadata.mkdir(parents=True, exist_ok=True)
    root = trusted_root.read_bytes()
    (metadata / ROOT_FILE).write_bytes(root)
    # After a refresh it is a link into the history of roots, which is not to be written.
    (metadata / "root.json").unlink(missing_ok=True)
    (metadata / "root.json").write_bytes(root)


def client_of(arguments: argparse.Namespace) -> Client:
    """The client on what `init` kept. Raises: UpdateError, OSError."""
    partials = arguments.metadata_dir / "partials"
    partials.mkdir(exist_ok=True)
    fetcher = HttpFetcher(partials, Limits(patience_s=10))
    way = Way(arguments.metadata_url, arguments.target_base_url or arguments.metadata_url, fetcher)
    files = arguments.target_dir or partials
    return Client(arguments.metadata_dir, (arguments.metadata_dir / ROOT_FILE).read_bytes(), way, files)


def main() -> int:
    """Carry out one command."""
    parser = argparse.ArgumentParser(
        prog="tests/tuf/client", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--metadata-dir", type=Path, required=True, help="trusted metadata, read and written")
    parser.add_argument("--metadata-url", help="the repository's metadata")
    parser.add_argument("--target-name", help="target path of the artifact")
    parser.add_argument("--target-base-url", help="the repository's artifacts")
    parser.add_argument("--target-dir", type=Path, help="where verified artifacts go")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init", help="take the trusted root").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh", help="bring the metadata up to date")
    commands.add_parser("download", help="fetch one target")
    arguments = parser.parse_args()
    try:
        if arguments.command == "init":
            initialise(arguments.metadata_dir, arguments.trusted_root)
            return 0
        if arguments.metadata_url is None:
            parser.error("--metadata-url is needed")
        client = client_of(arguments)
        client.refresh()
        if arguments.command == "download":
            if None in (arguments.target_name, arguments.target_base_url, arguments.target_dir):
                parser.error("download needs --target-name, --target-base-url and --target-dir")
            client.fetch_named(arguments.target_name, arguments.target_dir / quote(arguments.target_name, ""))
    except UpdateError as error:
        print(f"{error.refusal.reason}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
