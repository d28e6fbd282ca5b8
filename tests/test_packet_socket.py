"""The socket for case packets: the operator's alone, and only what is an open file of a packet."""

from __future__ import annotations

import os
import pwd
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from booking_room import RunningDevice, events
from packets import packet_file

from turnkey.booth_line import BoothUnreachable
from turnkey.device import Device
from turnkey.interlock.lease import connect
from turnkey.interlock.peers import listen
from turnkey.leads.records import PacketPresented
from turnkey.packet_socket import ask_to_apply, packet_server, packets_path
from turnkey.settings import SocketSettings
from turnkey_tools.pilot import Pilot

ME = pwd.getpwuid(os.getuid()).pw_name


@contextmanager
def serving(device: Device, operator: str = ME) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="turnkey-") as folder:  # the path of a Unix socket has 107 bytes
        settings = SocketSettings(booth=Path(folder) / "socket", operator_user=operator)
        server = packet_server(device.casework, listen(packets_path(settings)), settings)
        server.start()
        try:
            yield packets_path(settings)
        finally:
            server.close()


def test_a_packet_is_handed_over_as_an_open_file(pilot: Pilot, running: RunningDevice, tmp_path: Path) -> None:
    file = tmp_path / "packet.tkcase"
    file.write_bytes(packet_file(pilot))
    with running() as device, serving(device) as path:
        file_open = os.open(file, os.O_RDONLY)
        file.unlink()
        said = ask_to_apply(path, file_open)
        os.close(file_open)
        assert (said.outcome, said.case_number, said.search) == ("enrolled", "C-2026-7", "done")
        assert "score" not in said.model_dump_json()


def test_a_pipe_is_not_waited_for(running: RunningDevice) -> None:
    with running() as device, serving(device) as path:
        reading, writing = os.pipe()
        said = ask_to_apply(path, reading)
        assert (said.outcome, said.reason) == ("refused", "packet-unreadable")
        os.close(reading)
        os.close(writing)


def test_whoever_is_not_the_operator_is_turned_away(pilot: Pilot, running: RunningDevice, tmp_path: Path) -> None:
    file = tmp_path / "packet.tkcase"
    file.write_bytes(packet_file(pilot))
    with running() as device, serving(device, operator="nobody") as path, file.open("rb") as opened:
        with pytest.raises(BoothUnreachable):
            ask_to_apply(path, opened.fileno())
        assert not any(isinstance(event, PacketPresented) for event in events(device))


def test_what_is_no_request_ends_the_connection_and_no_descriptor_is_kept(running: RunningDevice) -> None:
    with running() as device, serving(device) as path, Path(os.devnull).open("rb") as null:
        with connect(path) as connection:
            connection.settimeout(30)
            socket.send_fds(connection, [b"batch"], [null.fileno()])
            assert connection.recv(64) == b""
        with connect(path) as connection:
            connection.settimeout(30)
            connection.send(b"apply")
            assert connection.recv(64) == b"", "no file, no answer"
