"""A loopback proxy that stands between a store and its server and does, on command, what networks do.

It hands on one request at a time, so that a fault hits exactly the request it was meant for::

    proxy.lose_reply()              the server has executed the next script, the client never hears of it
    proxy.lose_reply(requests=2)    the same for the request behind it too
    proxy.swallow_reply()           the same, but the connection stays open and silent
    proxy.cut_reply()               half of the reply comes, then the connection ends
    proxy.cut_request()             half of the request reaches the server, which executes nothing
    proxy.before("SCRIPT", "FLUSH") a command of someone else runs right before the next script
    proxy.away()                    as long as the block lasts, nobody can connect
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

#: What the word of a request must hold for a fault to hit it: a script is run.
A_SCRIPT = b"EVALSHA"


class _Hangup(Exception):
    """A fault ends the connection."""


def read_frame(stream: BinaryIO) -> bytes:
    """The bytes of one request or reply of RESP2; empty at the end of the stream."""
    line = stream.readline()
    kind, rest = line[:1], line[1:]
    if kind == b"$" and int(rest) >= 0:
        return line + stream.read(int(rest) + 2)
    if kind == b"*" and int(rest) > 0:
        return line + b"".join(read_frame(stream) for _ in range(int(rest)))
    return line


def command(*words: str) -> bytes:
    """A request of RESP2."""
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


class Link:
    """One client's way to the server: requests go up, replies come down."""

    def __init__(self, client: socket.socket, upstream: Path) -> None:
        self.client = client
        self.server = socket.socket(socket.AF_UNIX)
        self.server.connect(str(upstream))
        self.requests = client.makefile("rb")
        self._replies = self.server.makefile("rb")

    def ask(self, request: bytes) -> bytes:
        """Have the server execute a request; its reply."""
        self.server.sendall(request)
        return read_frame(self._replies)

    def end(self) -> None:
        """Wake whoever reads from either end."""
        for end in (self.client, self.server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already

    def close(self) -> None:
        self.end()
        for thing in (self.requests, self._replies, self.client, self.server):
            thing.close()


#: Does what a fault does with a request.
Fault = Callable[[Link, bytes], None]


class Proxy:
    """Listens at a socket in ``directory`` and hands on to the server at ``upstream``; a thread for each client."""

    def __init__(self, upstream: Path, directory: Path) -> None:
        self._upstream = upstream
        self._path = directory / "proxy"
        self._faults: deque[tuple[bytes, Fault]] = deque()
        self._links: set[Link] = set()
        self._lock = threading.Lock()
        self._closing = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(16)
        self._threads = [threading.Thread(target=self._listen, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"unix://{self._path}"

    @property
    def armed(self) -> int:
        """How many faults have not hit a request yet."""
        return len(self._faults)

    # -- faults ---------------------------------------------------------------------------------

    def lose_reply(self, match: bytes = A_SCRIPT, *, requests: int = 1) -> None:
        def fault(link: Link, request: bytes) -> None:
            link.ask(request)
            for _ in range(requests - 1):
                link.ask(read_frame(link.requests))
            raise _Hangup

        self._faults.append((match, fault))

    def swallow_reply(self, match: bytes = A_SCRIPT) -> None:
        self._faults.append((match, lambda link, request: (link.ask(request), None)[1]))

    def cut_reply(self, match: bytes = A_SCRIPT) -> None:
        def fault(link: Link, request: bytes) -> None:
            reply = link.ask(request)
            link.client.sendall(reply[: len(reply) // 2])
            raise _Hangup

        self._faults.append((match, fault))

    def cut_request(self, match: bytes = A_SCRIPT) -> None:
        def fault(link: Link, request: bytes) -> None:
            link.server.sendall(request[: len(request) // 2])
            raise _Hangup

        self._faults.append((match, fault))

    def before(self, *words: str, match: bytes = A_SCRIPT) -> None:
        def fault(link: Link, request: bytes) -> None:
            link.ask(command(*words))
            link.client.sendall(link.ask(request))

        self._faults.append((match, fault))

    def forget(self) -> None:
        """Disarm what has not hit anything."""
        self._faults.clear()

    def hang_up(self) -> None:
        """End all connections."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.end()

    @contextmanager
    def away(self) -> Iterator[None]:
        """End all connections and let nobody connect."""
        hidden = self._path.with_suffix(".away")
        os.rename(self._path, hidden)
        try:
            self.hang_up()
            yield
        finally:
            os.rename(hidden, self._path)

    # -- at work --------------------------------------------------------------------------------

    def _listen(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._closing:
                client.close()
                return
            link = Link(client, self._upstream)
            with self._lock:
                self._links.add(link)
            thread = threading.Thread(target=self._serve, args=(link,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, link: Link) -> None:
        try:
            while request := read_frame(link.requests):
                self._handle(link, request)
        except (_Hangup, OSError, ValueError):
            pass  # one of the ends is gone
        finally:
            with self._lock:
                self._links.discard(link)
            link.close()

    def _handle(self, link: Link, request: bytes) -> None:
        if self._faults and self._faults[0][0] in request[:64]:
            _, fault = self._faults.popleft()
            fault(link, request)
        else:
            link.client.sendall(link.ask(request))

    def close(self) -> None:
        self._closing = True
        with socket.socket(socket.AF_UNIX) as last:  # ends the listening
            last.connect(str(self._path))
            self._threads[0].join(10)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
