"""A process without an interlock follows the authority: what the interlock hands over is verified, and nothing else."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from turnkey.following import FollowedAuthority
from turnkey.interlock.authority import AUTHORITY_TYPE
from turnkey.interlock.peers import Server, listen
from turnkey.interlock.wire import Answer, unpack_request
from turnkey_tools.authority import ThrowawayAuthority, sign_with, throwaway_authority

Serving = Callable[[dict[int, bytes]], Path]


@pytest.fixture
def serving(tmp_path: Path):  # type: ignore[no-untyped-def] # a generator of a function
    """An interlock, honest or not: it hands out what the test gives it."""
    made: list[Server] = []

    def serve(files: dict[int, bytes]) -> Path:
        def answer(connection: socket.socket, _uid: int, _rights: frozenset[str]) -> None:
            while packet := connection.recv(1 << 17):
                request = unpack_request(packet)
                held = files.get(request.version)
                said = Answer(done=held is not None, body=base64.b64encode(held or b"").decode())
                connection.send(b"A" + said.model_dump_json().encode())

        path = tmp_path / "interlock"
        rights = {Path("/proc/self").stat().st_uid: frozenset({"authority"})}
        made.append(Server(listen(path), rights, answer, name="test").start())
        return path

    yield serve
    for server in made:
        server.close()


def chain(first: ThrowawayAuthority, versions: int) -> dict[int, bytes]:
    roots = first.bodies["root"].keys[:2]
    return {
        version: sign_with(
            AUTHORITY_TYPE, first.authority.model_copy(update={"version": version}).payload(), tuple(roots)
        )
        for version in range(2, versions + 1)
    }


def test_successors_are_fetched_verified_and_kept(serving: Serving, tmp_path: Path) -> None:
    first = throwaway_authority()
    own = tmp_path / "own"
    following = FollowedAuthority(first.envelope, own, serving(chain(first, 4)))
    reached = following.at(4)
    assert reached is not None
    assert reached.version == 4
    again = FollowedAuthority(first.envelope, own, tmp_path / "nobody-there")
    kept = again.at(4)
    assert kept is not None
    assert kept.version == 4
    assert again.at(3) is None, "an interlock that was set back has no policy in force here"
    assert again.at(5) is None


def test_a_successor_that_the_predecessors_root_did_not_sign_is_not_followed(serving: Serving, tmp_path: Path) -> None:
    first, stranger = throwaway_authority(), throwaway_authority()
    following = FollowedAuthority(first.envelope, tmp_path / "own", serving(chain(stranger, 2)))
    assert following.at(2) is None
    assert not list((tmp_path / "own").iterdir())


def test_a_gap_in_the_chain_is_not_jumped(serving: Serving, tmp_path: Path) -> None:
    first = throwaway_authority()
    files = chain(first, 3)
    del files[2]
    assert FollowedAuthority(first.envelope, tmp_path / "own", serving(files)).at(3) is None
