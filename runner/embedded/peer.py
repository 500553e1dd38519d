"""Questions to a server by its socket, and who answers: a server of another user is not believed."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import StoreRefused

#: How long one answer may take, in seconds.
PATIENCE = 1.0

#: The option of macOS that tells a socket's peer, its level, and the size of its answer; Python has no names for them.
_LOCAL_PEERCRED, _SOL_LOCAL, _XUCRED_SIZE = 1, 0, 76


def ping(path: Path) -> bytes:
    """What a server answers to PING; empty if it does not answer. Raises StoreRefused if it is another user's."""
    try:
        with _connected(path) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64)
    except OSError:
        return b""


def settings(path: Path, names: Iterable[str]) -> dict[str, str]:
    """The settings that a server has at present, without those that it does not tell. Raises StoreRefused."""
    try:
        with _connected(path) as connection, connection.makefile("rb") as answer:
            connection.sendall(f"CONFIG GET {' '.join(names)}\r\n".encode())
            lines = [answer.readline() for _ in range(2 * int(answer.readline()[1:]))]
    except (OSError, ValueError):
        return {}
    texts = [line.decode().rstrip("\r\n") for line in lines[1::2]]  # before each text stands its length
    return dict(zip(texts[::2], texts[1::2], strict=True))


def user_of(connection: socket.socket) -> int | None:
    """The user whose process listens at the other end of a Unix socket; None where the system does not tell."""
    if hasattr(socket, "SO_PEERCRED"):
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
        return int(struct.unpack("iII", found)[1])
    if sys.platform == "darwin":
        return int(struct.unpack_from("=II", connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_SIZE))[1])
    return None


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(path))
        user = user_of(connection)
        if user not in (None, os.geteuid()):
            raise StoreRefused(
                f"a process of user {user} answers in the place of the embedded server",
                hint="Give a directory that no other user has had in hand.",
            )
        yield connection
