"""The socket for template packs: the operator's alone, an open file and nothing else, one exchange at a time."""

from __future__ import annotations

import os
import pwd
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from booking_room import RunningDevice, events
from exchange import room
from patience import PATIENCE_S, wait_for

from turnkey import pack_socket
from turnkey.booth_line import BoothUnreachable
from turnkey.device import Device
from turnkey.interlock.lease import connect
from turnkey.interlock.peers import listen
from turnkey.leads.records import PackPresented
from turnkey.pack_socket import Export, Import, PackSaid, ask_for_pack, pack_server, packs_path
from turnkey.packs import PackRoom, Progress
from turnkey.settings import SocketSettings

ME = pwd.getpwuid(os.getuid()).pw_name


@contextmanager
def serving(device: Device, operator: str = ME) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="turnkey-") as folder:  # the path of a Unix socket has 107 bytes
        settings = SocketSettings(booth=Path(folder) / "socket", operator_user=operator)
        server = pack_server(room(device), listen(packs_path(settings)), settings)
        server.start()
        try:
            yield packs_path(settings)
        finally:
            server.close()


def asked(path: Path, errand: Export | Import, file: Path) -> PackSaid:
    with file.open("r+b") as opened:
        return ask_for_pack(path, errand, opened.fileno(), lambda _done, _of: None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"no pack")
    return path


def test_what_is_no_pack_and_no_order_is_refused_by_its_reason(running: RunningDevice, file: Path) -> None:
    with running() as device, serving(device) as path:
        said = asked(path, Import(), file)
        assert (said.outcome, said.step, said.reason) == ("refused", "template-pack", "not-a-pack")
        assert sum(isinstance(event, PackPresented) for event in events(device)) == 1
        said = asked(path, Export(order="{}"), file)
        assert (said.outcome, said.reason) == ("refused", "template-packs-not-permitted"), "as no policy says so"


def test_a_pipe_is_not_waited_for(running: RunningDevice) -> None:
    with running() as device, serving(device) as path:
        reading, writing = os.pipe()
        said = ask_for_pack(path, Import(), reading, lambda _done, _of: None)
        assert (said.outcome, said.reason) == ("refused", "pack-unreadable")
        os.close(reading)
        os.close(writing)


def test_whoever_is_not_the_operator_is_turned_away(running: RunningDevice, file: Path) -> None:
    with running() as device, serving(device, operator="nobody") as path:
        with pytest.raises(BoothUnreachable):
            asked(path, Import(), file)
        assert not any(isinstance(event, PackPresented) for event in events(device))


def test_what_is_no_request_ends_the_connection(running: RunningDevice, file: Path) -> None:
    with running() as device, serving(device) as path, file.open("rb") as opened, connect(path) as connection:
        connection.settimeout(PATIENCE_S)
        socket.send_fds(connection, [b'{"ask": "everything"}'], [opened.fileno()])
        assert connection.recv(64) == b""


def test_a_second_exchange_is_told_to_wait(running: RunningDevice, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, end = threading.Event(), threading.Event()

    def slow(_room: PackRoom, _errand: Export | Import, _file: object, _progress: Progress) -> PackSaid:
        begun.set()
        end.wait(PATIENCE_S)
        return PackSaid(outcome="refused", reason="for-the-test")

    monkeypatch.setattr(pack_socket, "carry_out", slow)
    with running() as device, serving(device) as path:
        first: list[PackSaid] = []
        thread = threading.Thread(target=lambda: first.append(asked(path, Import(), file)))
        thread.start()
        assert begun.wait(PATIENCE_S)
        assert asked(path, Import(), file).reason == "busy"
        end.set()
        thread.join(PATIENCE_S)
        assert [said.reason for said in first] == ["for-the-test"]
        assert wait_for(lambda: asked(path, Import(), file).reason == "for-the-test")
