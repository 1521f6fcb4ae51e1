"""What a process listens on, from the kernel's own tables: TCP, UDP and Unix sockets.

A worker must be reachable by nobody: it only dials out. This lists every socket of a process on which a
stranger's packet or connection would arrive: listening TCP, UDP bound but not connected to one peer, Unix
sockets that accept connections or datagrams under a name, abstract ones included.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_TCP_LISTEN = 0x0A
_UNIX_ACCEPTS = 0x10000
_UNIX_DATAGRAM = 2
_INODE = re.compile(r"^socket:\[(\d+)\]$")


@dataclass(frozen=True, slots=True, order=True)
class ListeningSocket:
    """A socket on which strangers are heard; `kind` is tcp, tcp6, udp, udp6, raw, raw6 or unix."""

    kind: str
    address: str
    inode: int


def listening_sockets(pid: int, proc: Path = Path("/proc")) -> list[ListeningSocket]:
    """List what a process listens on.

    Args:
        pid: The process; its own tables are read, so its network namespace counts.
        proc: Where procfs is mounted.

    Raises:
        OSError: There is no such process, or it may not be looked at.
    """
    inodes = _socket_inodes(proc / str(pid) / "fd")
    tables = proc / str(pid) / "net"
    found: list[ListeningSocket] = []
    for kind in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        found.extend(s for s in _internet(tables / kind, kind) if s.inode in inodes)
    found.extend(s for s in _unix(tables / "unix") if s.inode in inodes)
    return sorted(found)


def format_sockets(sockets: Sequence[ListeningSocket]) -> str:
    """The list as a table for people."""
    if not sockets:
        return "listens on nothing: no TCP, UDP or Unix socket accepts anything"
    lines = [f"{'kind':<6} address", *(f"{s.kind:<6} {s.address}" for s in sockets)]
    return "\n".join(lines)


def _socket_inodes(folder: Path) -> set[int]:
    inodes: set[int] = set()
    for name in os.listdir(folder):
        try:
            match = _INODE.match(os.readlink(folder / name))
        except FileNotFoundError:
            continue  # closed since it was listed
        if match:
            inodes.add(int(match.group(1)))
    return inodes


def _lines(path: Path) -> Iterator[list[str]]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return  # this kernel has no such protocol
    for line in text.splitlines()[1:]:
        yield line.split()


def _internet(path: Path, kind: str) -> Iterator[ListeningSocket]:
    for fields in _lines(path):
        local, remote, state, inode = fields[1], fields[2], int(fields[3], 16), int(fields[9])
        open_to_all = state == _TCP_LISTEN if kind.startswith("tcp") else _is_unset(remote)
        if open_to_all:
            yield ListeningSocket(kind, _address(local), inode)


def _is_unset(address: str) -> bool:
    return set(address.replace(":", "")) == {"0"}


def _address(text: str) -> str:
    """`0100007F:1F90` is 127.0.0.1:8080: 32-bit words in the machine's byte order, then the port."""
    host, _, port = text.partition(":")
    words = [bytes.fromhex(host[index : index + 8]) for index in range(0, len(host), 8)]
    raw = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    name = socket.inet_ntop(family, raw)
    return f"{name}:{int(port, 16)}" if len(raw) == 4 else f"[{name}]:{int(port, 16)}"


def _unix(path: Path) -> Iterator[ListeningSocket]:
    for fields in _lines(path):
        flags, kind, inode = int(fields[3], 16), int(fields[4], 16), int(fields[6])
        name = fields[7] if len(fields) > 7 else ""
        if flags & _UNIX_ACCEPTS or (kind == _UNIX_DATAGRAM and name):
            yield ListeningSocket("unix", name or "(unnamed)", inode)


def main() -> int:
    """`python -m camfleet_worker.ports PID`: list what a process listens on; exit 0 if nothing, else 1."""
    sockets = listening_sockets(int(sys.argv[1]))
    print(format_sockets(sockets))
    return 1 if sockets else 0


if __name__ == "__main__":
    sys.exit(main())
