"""Sockets of the device: one that systemd passed in, and users that have nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from turnkey.interlock.lease import connect
from turnkey.interlock.peers import Server, listen, passed_socket, rights_by_user

CHILD = """
import os, sys
from turnkey.interlock.peers import passed_socket
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
with passed_socket() as listener:
    connection, _ = listener.accept()
    connection.send(b"here")
"""


def test_a_socket_that_systemd_passes_in_is_used(tmp_path: Path) -> None:
    with listen(tmp_path / "socket") as listener:
        number = listener.fileno()
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(number)], pass_fds=(number,))
        with connect(tmp_path / "socket") as connection:
            connection.settimeout(20)
            assert connection.recv(10) == b"here"
        assert child.wait(10) == 0


def test_a_socket_passed_to_another_process_is_not_taken(monkeypatch) -> None:
    assert passed_socket() is None
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    assert passed_socket() is None


def test_a_user_that_may_nothing_or_is_not_there_is_turned_away(tmp_path: Path) -> None:
    assert rights_by_user((("no-such-user", frozenset({"all"})), ("root", frozenset({"some"})))) == {
        0: frozenset({"some"})
    }
    served: list[int] = []

    def serve(_connection: socket.socket, uid: int, _rights: frozenset[str]) -> None:
        served.append(uid)

    server = Server(listen(tmp_path / "socket"), {os.getuid() + 1: frozenset({"all"})}, serve, name="test").start()
    try:
        with connect(tmp_path / "socket") as connection:
            connection.settimeout(5)
            assert connection.recv(10) == b""
    finally:
        server.close()
    assert served == []
    assert not server.is_alive()
