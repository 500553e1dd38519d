"""A loopback proxy that stands between a store and its server and does, on command, what networks do.

It hands on one request of a connection at a time, so that a fault hits exactly the request it was meant for. These
wait for the next request that holds what they match, a script run unless another is named::

    proxy.lose_reply()              the server has executed the next script, the client never hears of it
    proxy.lose_reply(requests=2)    the same for the request behind it too
    proxy.lose_reply(reset=True)    the same, but the connection ends with a reset
    proxy.swallow_reply()           the same, but the connection stays open, and silent from then on
    proxy.cut_reply(after=7)        7 bytes of the reply come (half of them unless told), then the connection ends
    proxy.cut_request(after=7)      7 bytes of the request reach the server, which executes nothing
    proxy.hold()                    the request is kept, until it is delivered late: see `Held`
    proxy.copy()                    the request is executed, and kept to be delivered once more: see `Copy`
    proxy.before("SCRIPT", "FLUSH") a command of someone else runs right before the next script
    proxy.meanwhile(call)           something else happens right before the next script, or right after it

These hold for as long as their block lasts, and these two happen at once::

    proxy.away()                    nobody can connect, and nobody is connected
    proxy.blackhole()               whatever is sent is discarded, both ways; on connections that were there, for ever
    proxy.slow(slice_size, pause)   everything comes in slices, a byte at a time unless told, with pauses in seconds
    proxy.delayed(seconds)          every reply comes that much later

    proxy.hang_up()                 all connections end
    proxy.reset()                   all connections are reset, what was under way is lost
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

#: What the head of a request must hold for a fault to hit it: a script is run.
A_SCRIPT = b"EVALSHA"

#: How much of a request is searched for what a fault matches: the words up to and with the digest of a script.
HEAD = 96

#: A request that nobody delivers is forgotten after this many seconds.
LONGEST_HOLD = 30.0

#: Closing a socket that lingers for no time discards what it holds and resets the connection.
NO_LINGER = struct.pack("ii", 1, 0)

#: Where a server listens: a Unix socket, or host and port.
Place = Path | tuple[str, int]


class _Hangup(Exception):
    """A fault ends the connection."""


def read_frame(stream: BinaryIO) -> bytes:
    """The bytes of one request or reply of RESP2; empty at the end of the stream. Raises OSError when it is cut."""
    line = stream.readline()
    if not line:
        return b""
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the other end is gone")
    kind, rest = line[:1], line[1:]
    if kind == b"$" and int(rest) >= 0:
        body = stream.read(int(rest) + 2)
        if len(body) < int(rest) + 2:
            raise ConnectionError("the other end is gone")
        return line + body
    if kind == b"*" and int(rest) > 0:
        parts = []
        for _ in range(int(rest)):
            parts.append(read_frame(stream))
            if not parts[-1]:
                raise ConnectionError("the other end is gone")
        return line + b"".join(parts)
    return line


def command(*words: str) -> bytes:
    """A request of RESP2."""
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _connect(place: Place) -> socket.socket:
    if isinstance(place, tuple):
        return socket.create_connection(place)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(place))
    except BaseException:
        connection.close()
        raise
    return connection


class Link:
    """One client's way to the server: requests go up, replies come down."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.requests = client.makefile("rb")
        self._replies = server.makefile("rb")
        #: Nothing gets through any more, either way, and neither end is told.
        self.dead = False
        #: Requests get through, and no reply: what follows a lost piece of a stream is never delivered before it.
        self.mute = False
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        """Have the server execute a request; its reply."""
        self.server.sendall(request)
        return self.answer()

    def answer(self) -> bytes:
        """The server's next reply."""
        reply = read_frame(self._replies)
        if not reply:
            raise ConnectionError("the server is gone")
        return reply

    def end(self, *, reset: bool = False) -> None:
        """Wake whoever reads from either end, who then closes. With ``reset`` the client is not told before that."""
        try:
            if reset:
                self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self.client.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
        except OSError:
            pass  # it is closed already
        try:
            self.server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        for thing in (self.requests, self._replies, self.client, self.server):
            thing.close()


class Held:
    """A request that is on its way for longer than its sender waits."""

    def __init__(self) -> None:
        self._taken = threading.Event()
        self._deliver = threading.Event()
        self._answered = threading.Event()
        self._reply: bytes | None = None

    def taken(self, timeout: float) -> bool:
        """Wait until there is such a request; False when none came within ``timeout`` seconds."""
        return self._taken.wait(timeout)

    def deliver(self, timeout: float = 5.0) -> bytes | None:
        """Let the server execute it now; its reply, None where the connection to the server was lost meanwhile."""
        self._deliver.set()
        self._answered.wait(timeout)
        return self._reply

    def release(self) -> None:
        """The same without waiting for the reply."""
        self._deliver.set()

    def pass_through(self, link: Link, request: bytes) -> None:
        self._taken.set()
        self._deliver.wait(LONGEST_HOLD)
        try:
            self._reply = link.ask(request)
        finally:
            self._answered.set()
        if not link.mute:
            link.client.sendall(self._reply)  # mostly the client has left


class Copy:
    """A request that was executed, and that the network still has."""

    def __init__(self, upstream: Place) -> None:
        self._upstream = upstream
        self._request = b""

    def deliver(self) -> bytes:
        """Let the server execute it once more; its reply."""
        assert self._request, "no request was copied"
        with _connect(self._upstream) as server, server.makefile("rb") as replies:
            server.sendall(self._request)
            return read_frame(replies)

    def pass_through(self, link: Link, request: bytes) -> None:
        self._request = request
        reply = link.ask(request)
        if not link.mute:
            link.client.sendall(reply)


#: Does what a fault does with a request.
Fault = Callable[[Link, bytes], None]


class Proxy:
    """Hands on to the server at ``upstream``; a thread for each client.

    It listens at a Unix socket in ``directory``, or, where there is none, at a port of the loopback interface.
    """

    def __init__(self, upstream: Place, directory: Path | None = None) -> None:
        self._upstream = upstream
        self._faults: deque[tuple[bytes, Fault]] = deque()
        self._held: list[Held] = []
        self._links: set[Link] = set()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._refusing = False
        self._swallowing = False
        self._slices: tuple[int, float] | None = None
        self._delay = 0.0
        self._path = None if directory is None else directory / "proxy"
        if self._path is None:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self._path))
            self._listener.listen(64)
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    @property
    def place(self) -> Place:
        """Where it listens."""
        if self._path is not None:
            return self._path
        host, port = self._listener.getsockname()
        return str(host), int(port)

    @property
    def url(self) -> str:
        place = self.place
        return f"unix://{place}" if isinstance(place, Path) else f"redis://{place[0]}:{place[1]}"

    @property
    def armed(self) -> int:
        """How many faults have not hit a request yet."""
        return len(self._faults)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._links)

    # -- faults that wait for a request ---------------------------------------------------------

    def lose_reply(self, match: bytes = A_SCRIPT, *, requests: int = 1, reset: bool = False) -> None:
        def fault(link: Link, request: bytes) -> None:
            link.ask(request)
            for _ in range(requests - 1):
                link.ask(read_frame(link.requests))
            link.end(reset=reset)
            raise _Hangup

        self._arm(match, fault)

    def swallow_reply(self, match: bytes = A_SCRIPT) -> None:
        def fault(link: Link, request: bytes) -> None:
            link.mute = True
            link.ask(request)

        self._arm(match, fault)

    def cut_reply(self, match: bytes = A_SCRIPT, *, after: int | None = None) -> None:
        def fault(link: Link, request: bytes) -> None:
            reply = link.ask(request)
            if not link.mute:
                link.client.sendall(reply[: len(reply) // 2 if after is None else after])
            raise _Hangup

        self._arm(match, fault)

    def cut_request(self, match: bytes = A_SCRIPT, *, after: int | None = None) -> None:
        def fault(link: Link, request: bytes) -> None:
            link.server.sendall(request[: len(request) // 2 if after is None else after])
            raise _Hangup

        self._arm(match, fault)

    def hold(self, match: bytes = A_SCRIPT) -> Held:
        held = Held()
        self._held.append(held)
        self._arm(match, held.pass_through)
        return held

    def copy(self, match: bytes = A_SCRIPT) -> Copy:
        copy = Copy(self._upstream)
        self._arm(match, copy.pass_through)
        return copy

    def before(self, *words: str, match: bytes = A_SCRIPT) -> None:
        def fault(link: Link, request: bytes) -> None:
            link.ask(command(*words))
            self._send_down(link, link.ask(request))

        self._arm(match, fault)

    def meanwhile(self, call: Callable[[], object], match: bytes = A_SCRIPT, *, executed: bool = False) -> None:
        """Do something right before a request is executed; with ``executed``, right before its reply is handed on."""

        def fault(link: Link, request: bytes) -> None:
            if not executed:
                call()
            reply = link.ask(request)
            if executed:
                call()
            self._send_down(link, reply)

        self._arm(match, fault)

    def forget(self) -> None:
        """Disarm what has not hit anything."""
        self._faults.clear()

    def _arm(self, match: bytes, fault: Fault) -> None:
        self._faults.append((match, fault))

    # -- faults that come over all connections --------------------------------------------------

    def hang_up(self) -> None:
        """End all connections."""
        for link in self._all_links():
            link.end()

    def reset(self) -> None:
        """Reset all connections: both ends lose what was under way."""
        for link in self._all_links():
            link.end(reset=True)

    @contextmanager
    def away(self) -> Iterator[None]:
        """End all connections and let nobody connect (over TCP: hang up on whoever does)."""
        hidden = None if self._path is None else self._path.with_suffix(".away")
        if self._path is not None and hidden is not None:
            os.rename(self._path, hidden)
        self._refusing = True
        try:
            self.hang_up()
            yield
        finally:
            self._refusing = False
            if self._path is not None and hidden is not None:
                os.rename(hidden, self._path)

    @contextmanager
    def blackhole(self) -> Iterator[None]:
        """Discard whatever is sent. Who connected before the end of the block never hears from the server again."""
        self._swallowing = True
        try:
            for link in self._all_links():
                link.dead = True
            yield
        finally:
            self._swallowing = False

    @contextmanager
    def slow(self, slice_size: int = 1, pause: float = 0.0) -> Iterator[None]:
        """Requests and replies come in slices of so many bytes."""
        self._slices = slice_size, pause
        try:
            yield
        finally:
            self._slices = None

    @contextmanager
    def delayed(self, seconds: float) -> Iterator[None]:
        """Replies come later."""
        self._delay = seconds
        try:
            yield
        finally:
            self._delay = 0.0

    def _all_links(self) -> list[Link]:
        with self._lock:
            return list(self._links)

    # -- at work --------------------------------------------------------------------------------

    def _listen(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._closing.is_set():
                client.close()
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            with self._lock:
                self._threads.add(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if not self._refusing:
                self._serve_link(Link(client, _connect(self._upstream)))
        except OSError:
            pass  # there is no server
        finally:
            client.close()
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _serve_link(self, link: Link) -> None:
        with self._lock:
            self._links.add(link)
            link.dead = self._swallowing
        try:
            if self._closing.is_set():
                return
            while request := read_frame(link.requests):
                if not link.dead:
                    self._handle(link, request)
        except (_Hangup, OSError, ValueError):
            pass  # one of the ends is gone
        finally:
            with self._lock:
                self._links.discard(link)
            link.close()

    def _handle(self, link: Link, request: bytes) -> None:
        fault = self._fault_for(request)
        if fault is not None:
            fault(link, request)
            return
        self._send(link.server, request)
        self._send_down(link, link.answer())

    def _fault_for(self, request: bytes) -> Fault | None:
        if not self._faults:
            return None
        with self._lock:
            if self._faults and self._faults[0][0] in request[:HEAD]:
                return self._faults.popleft()[1]
        return None

    def _send_down(self, link: Link, reply: bytes) -> None:
        if self._delay:
            self._closing.wait(self._delay)
        if not (link.dead or link.mute):
            self._send(link.client, reply)

    def _send(self, end: socket.socket, frame: bytes) -> None:
        if self._slices is None:
            end.sendall(frame)
            return
        size, pause = self._slices
        for place in range(0, len(frame), size):
            end.sendall(frame[place : place + size])
            if pause and self._slices is not None:
                self._closing.wait(pause)

    def close(self) -> None:
        self._closing.set()
        _connect(self.place).close()  # ends the listening
        self._listening.join(10)
        self._listener.close()
        for held in self._held:
            held.release()
        self.hang_up()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
