"""The machine and process that this is."""

from __future__ import annotations

import os
import socket

from ..errors import InvalidInput


def place() -> str:
    """The machine's name and the process id, for people."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Process:
    """The process in which an object was made. A fork leaves the object's threads and connections with the parent."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def is_this(self) -> bool:
        """Whether this process made the object; False in a forked child."""
        return os.getpid() == self._pid

    def check(self, what: str) -> None:
        """Raise InvalidInput in a forked child. ``what`` names the object."""
        if not self.is_this:
            raise InvalidInput(
                f"{what} belongs to process {self._pid}, and this is process {os.getpid()}, forked from it",
                hint="Make one in this process.",
            )
