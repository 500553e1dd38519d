"""Real servers for the fault matrix: started, frozen, killed, damaged, demoted and promoted by a test.

A server lives in a directory of its own, with a Unix socket for its clients and, where it is asked for, a port of
the loopback interface, which replicas and Sentinel need. It is a child of the test's process and is killed with it,
whatever way that ends.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import redis
from accounts import PATIENCE, reached
from redis.backoff import NoBackoff
from redis.retry import Retry

from runner import EventStore, Settings
from runner.embedded.server import find_binary
from runner.testing import TEST_SETTINGS

#: Whose binary is run: the product's own choice (RUNNER_SERVER_BINARY is honoured), or Debian's package.
EMBEDDED, DEBIAN = "embedded", "debian"

#: What the product asks of a server.
SOUND = {"appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction"}

#: For tests in which the server stays away longer than an append is patient.
IMPATIENT = Settings(block=0.05, retry_for=0.2, heartbeat=0.1, socket_timeout=1.0)

#: For tests in which an append must last through an outage by itself.
PATIENT = replace(TEST_SETTINGS, retry_for=PATIENCE)

_libc = ctypes.CDLL(None)


def binary(whose: str = EMBEDDED) -> str:
    """The path of a server's binary; skips the test where there is none."""
    if whose == EMBEDDED:
        return find_binary()
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("needs Debian's redis-server; CI installs it")
    return found


def die_with_parent() -> None:
    """In a child before it becomes a server: on Linux it is killed with the thread that started it."""
    if sys.platform == "linux":
        _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server process in ``directory``. Options are those of its configuration file, as ``appendfsync="no"``."""

    def __init__(self, directory: Path, *, whose: str = EMBEDDED, port: int = 0, **options: object) -> None:
        self.directory = directory
        self.socket = Path(str(options.get("unixsocket", directory / "socket")))
        self.port = port
        self._binary = binary(whose)
        self._options = {**SOUND, **{name.replace("_", "-"): value for name, value in options.items()}}
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(exist_ok=True)
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server does not run"
        return self._process.pid

    # -- coming and going -----------------------------------------------------------------------

    def launch(self, **options: object) -> None:
        """Start the process and do not wait; ``options`` are for this time only."""
        assert self._process is None, "it runs already"
        once = {name.replace("_", "-"): value for name, value in options.items()}
        chosen = {"dir": self.directory, "unixsocket": self.socket, "port": self.port, "bind": "127.0.0.1"}
        words = [f"--{name}={value}" for name, value in {**chosen, **self._options, **once}.items()]
        arguments = [part for word in words for part in word.split("=", 1)]
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                [self._binary, *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent
            )

    def start(self, **options: object) -> None:
        """Start the process and wait for its first answer."""
        self.launch(**options)
        assert reached(self.answers), self.last_words

    def answers(self) -> bool:
        """Whether it takes commands; fails at once for a process that has ended."""
        assert self._process is not None
        assert self._process.poll() is None, self.last_words
        try:
            return bool(self.do("PING"))
        except redis.ConnectionError:  # BusyLoadingError is one
            return False

    def refuses_to_start(self) -> str:
        """Start it, see that it ends by itself, and return its last words."""
        self.launch()
        assert self._process is not None
        assert self._process.wait(PATIENCE) != 0
        self._process = None
        return self.last_words

    def kill(self) -> None:
        """SIGKILL: no last write, no goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: an orderly end."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """An orderly end and a new beginning."""
        self.stop()
        self.start()

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)  # a frozen one must hear it
        process.wait(PATIENCE)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @property
    def last_words(self) -> str:
        return "\n".join((self.directory / "log").read_text(errors="replace").splitlines()[-6:])

    # -- another client -------------------------------------------------------------------------

    def client(self) -> redis.Redis:
        once = Retry(NoBackoff(), 0)
        return redis.Redis(unix_socket_path=str(self.socket), protocol=2, retry=once, socket_timeout=None)

    def do(self, *command: object) -> Any:
        """What another client does: one command on a connection of its own."""
        with self.client() as client:
            return client.execute_command(*(str(word) if isinstance(word, Path) else word for word in command))

    def config(self, **options: object) -> None:
        """CONFIG SET, all at once."""
        flat = [part for name, value in options.items() for part in (name.replace("_", "-"), value)]
        self.do("CONFIG", "SET", *flat)

    def info(self, section: str) -> dict[str, Any]:
        return dict(self.do("INFO", section))

    # -- its files ------------------------------------------------------------------------------

    @property
    def tail(self) -> Path:
        """The file of the append-only directory that commands are added to."""
        [file] = (self.directory / "appendonlydir").glob("*.incr.aof")
        return file

    def lose_power(self, keep: int) -> None:
        """Kill it, and cut its last file to the first ``keep`` bytes: what had reached the disk."""
        file = self.tail
        self.kill()
        os.truncate(file, keep)

    # -- replication ----------------------------------------------------------------------------

    def follow(self, primary: Server) -> None:
        """Become a replica, and wait until it hears what ``primary`` does: a link that is up need not carry yet."""
        self.do("REPLICAOF", "127.0.0.1", primary.port)
        assert reached(lambda: self.info("replication").get("master_link_status") == "up"), self.last_words
        primary.do("PUBLISH", "lab", "replicas are sent this")
        assert reached(lambda: self.is_in_step_with(primary))

    def is_in_step_with(self, primary: Server) -> bool:
        return self.offset() == primary.offset()

    def offset(self) -> int:
        """How far its copy of the replication stream reaches."""
        info = self.info("replication")
        return int(info["slave_repl_offset" if info["role"] == "slave" else "master_repl_offset"])

    def cut_link(self) -> None:
        """Stay a replica with what it has, and hear nothing more: its primary is where nobody listens."""
        self.do("REPLICAOF", "127.0.0.1", free_port())
        assert reached(lambda: self.info("replication")["master_link_status"] == "down")

    def promote(self) -> None:
        self.do("REPLICAOF", "NO", "ONE")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class Lab:
    """The servers of one test; all are gone after it. Its directory has a short path, as sockets need one."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self._stack = stack

    def server(
        self, name: str = "a", *, files: Path | None = None, cut_at: int | None = None, **options: Any
    ) -> Server:
        """A server; with ``files`` on a copy of another's directory, of whose last file ``cut_at`` bytes are left."""
        directory = self.directory / name
        if files is not None:
            shutil.copytree(files / "appendonlydir", directory / "appendonlydir")
            [tail] = directory.glob("appendonlydir/*.incr.aof")
            os.truncate(tail, tail.stat().st_size if cut_at is None else cut_at)
        return self._stack.enter_context(Server(directory, **options))

    def pair(self, **options: Any) -> tuple[Server, Server]:
        """A primary and its replica, in step."""
        primary = self.server("primary", port=free_port(), **options)
        replica = self.server("replica", port=free_port(), repl_diskless_sync_delay=0, **options)
        primary.config(repl_diskless_sync_delay=0)
        replica.follow(primary)
        return primary, replica

    def store(self, url: str, settings: Settings = TEST_SETTINGS, **options: Any) -> EventStore:
        return self._stack.enter_context(EventStore.open(url, settings=settings, **options))

    def door(self, server: Server) -> Door:
        return Door(self.directory / "door", server)


class Door:
    """An address that clients keep while the server behind it changes, as a service name does in production."""

    def __init__(self, path: Path, server: Server) -> None:
        self._path = path
        self.server = server
        path.symlink_to(server.socket)

    @property
    def url(self) -> str:
        return f"unix://{self._path}"

    def lead_to(self, server: Server) -> None:
        """From now on whoever connects reaches ``server``; connections that are open stay where they are."""
        following = self._path.with_suffix(".next")
        following.symlink_to(server.socket)
        following.replace(self._path)
        self.server = server


@contextmanager
def lab() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="lab-") as directory, ExitStack() as stack:
        yield Lab(Path(directory), stack)
