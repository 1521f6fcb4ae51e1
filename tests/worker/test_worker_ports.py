"""The port check finds everything that accepts strangers, and nothing else."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from camfleet_worker.ports import format_sockets, listening_sockets


def _mine() -> set[tuple[str, str]]:
    return {(found.kind, found.address) for found in listening_sockets(os.getpid())}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_finds_listening_sockets_of_every_kind(stack: ExitStack, tmp_path: Path) -> None:
    before = _mine()
    tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    tcp6 = stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
    udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.bind(("127.0.0.1", 0))
    path = str(tmp_path / "s")
    unix = stack.enter_context(socket.socket(socket.AF_UNIX))
    unix.bind(path)
    unix.listen()
    abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
    abstract.bind(f"\0camfleet-test-{os.getpid()}")
    abstract.listen()
    datagram = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    datagram.bind(f"\0camfleet-dgram-{os.getpid()}")
    assert _mine() - before == {
        ("tcp", f"127.0.0.1:{tcp.getsockname()[1]}"),
        ("tcp6", f"[::1]:{tcp6.getsockname()[1]}"),
        ("udp", f"127.0.0.1:{udp.getsockname()[1]}"),
        ("unix", path),
        ("unix", f"@camfleet-test-{os.getpid()}"),
        ("unix", f"@camfleet-dgram-{os.getpid()}"),
    }


def test_connections_and_pairs_are_not_listening(stack: ExitStack) -> None:
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    before = _mine()
    stack.enter_context(socket.create_connection(server.getsockname()))
    stack.enter_context(server.accept()[0])
    udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.connect(("127.0.0.1", 9))
    for end in socket.socketpair():
        stack.enter_context(end)
    stack.enter_context(socket.socket())
    assert _mine() == before


def test_says_so_in_words() -> None:
    assert "listens on nothing" in format_sockets([])
