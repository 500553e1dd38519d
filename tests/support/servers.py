"""Servers of a test's own, plain ones and replicas, that can be frozen, thawed, killed and stopped."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from accounts import reached

#: No waiting for further replicas, and no snapshots.
OPTIONS = ("--save", "", "--repl-diskless-sync-delay", "0", "--bind", "127.0.0.1")


@dataclass
class Server:
    """A server process. A frozen one keeps its connections and answers nothing."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        return self.process.pid

    def do(self, *command: Any) -> Any:
        """Run one command, on a connection of its own."""
        with redis.Redis(port=self.port, protocol=2, socket_timeout=5, decode_responses=True) as client:
            return client.execute_command(*command)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it as an operator would."""
        self.thaw()
        self.process.terminate()
        self.process.wait()


@contextmanager
def server(
    *options: str, replica_of: Server | None = None, binary: str = "redis-server", port: int | None = None
) -> Iterator[Server]:
    """A server on a free port, with a directory that goes with it; a replica is in step when the block begins."""
    found = shutil.which(binary)
    if found is None:
        pytest.skip(f"there is no {binary} on this machine")
    if replica_of is not None:
        options = (*options, "--replicaof", f"127.0.0.1 {replica_of.port}")
    with tempfile.TemporaryDirectory(prefix="runner-test-") as directory:
        port = port or free_port()
        command = [found, "--port", str(port), "--dir", directory, *OPTIONS, *options]
        started = Server(subprocess.Popen(command, stdout=subprocess.DEVNULL), port)
        try:
            assert reached(lambda: _is_up(started)), f"{binary} did not start"
            if replica_of is not None:
                assert reached(lambda: _in_step(started, replica_of)), "the replica did not load"
            yield started
        finally:
            started.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_up(started: Server) -> bool:
    assert started.process.poll() is None, "the server ended; is its port taken?"
    try:
        return bool(started.do("PING"))
    except redis.ConnectionError:
        return False


def _in_step(replica: Server, primary: Server) -> bool:
    """Whether both sides say so: the primary does when it has heard from the replica after its loading."""
    replicas = [each for each in primary.do("INFO", "replication").values() if isinstance(each, dict)]
    online = any(each.get("port") == replica.port and each.get("state") == "online" for each in replicas)
    return online and replica.do("INFO", "replication")["master_link_status"] == "up"
