"""A Sentinel that watches a primary of the lab and replaces it when it is told to."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from accounts import PATIENCE, reached
from lab import DEBIAN, Server, binary, die_with_parent, free_port

#: What it calls the primary and its replicas.
GROUP = "lab"

#: How often it looks, in milliseconds; its own 10 s between looks at a server are for production.
HASTE = {"INFO-PERIOD": 100, "PING-PERIOD": 100, "ASK-PERIOD": 100, "PUBLISH-PERIOD": 100}


class Sentinel:
    """A process of ``redis-server --sentinel``; a majority of one."""

    def __init__(self, directory: Path, primary: Server, *, looks: bool = True) -> None:
        """``looks``: whether it is told to look at its servers often."""
        self.port = free_port()
        self._password: str | None = None
        directory.mkdir()
        configuration = directory / "conf"
        configuration.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {directory}\nsentinel monitor {GROUP} 127.0.0.1 {primary.port} 1\n"
        )
        with open(directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                [binary(DEBIAN), str(configuration), "--sentinel"], stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        assert reached(self._answers)
        if looks:
            self._do("SENTINEL", "DEBUG", *(word for pair in HASTE.items() for word in pair))

    def replace_primary(self) -> None:
        """A planned failover, from the order until a replica is the primary."""
        before = self._primary()

        def replaced() -> bool:
            busy = b"failover_in_progress" in self._flags()  # asked first: once it is over, the primary is another
            if self._primary() != before:
                return True
            if not busy:
                self._order()
            return False

        assert reached(replaced)

    def tell(self, **options: object) -> None:
        """SENTINEL SET: options of the service."""
        for name, value in options.items():
            self._do("SENTINEL", "SET", GROUP, name.replace("_", "-"), value)

    def require(self, password: str) -> None:
        """Let in only who has the password."""
        self._do("ACL", "SETUSER", "default", "resetpass", f">{password}")
        self._password = password

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def _order(self) -> None:
        """It is refused while too little is known of the replica, and can be given up for that later."""
        try:
            self._do("SENTINEL", "FAILOVER", GROUP)
        except redis.ResponseError:
            pass

    def _flags(self) -> bytes:
        flat = self._do("SENTINEL", "MASTER", GROUP)
        return bytes(flat[flat.index(b"flags") + 1])

    def _primary(self) -> int:
        return int(self._do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP)[1])

    def _answers(self) -> bool:
        try:
            return bool(self._do("PING"))
        except redis.ConnectionError:
            return False

    def _do(self, *command: object) -> Any:
        with redis.Redis(host="127.0.0.1", port=self.port, password=self._password, protocol=2) as client:
            return client.execute_command(*command)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)
