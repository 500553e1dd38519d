"""The machine and process that this is."""

from __future__ import annotations

import os
import socket


def place() -> str:
    """The machine's name and the process id, for people."""
    return f"{socket.gethostname()}:{os.getpid()}"
