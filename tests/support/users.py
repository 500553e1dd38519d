"""Another user of this machine, in whose name a test does what it must be safe from."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from forking import in_child

#: A user who owns nothing: `nobody`.
STRANGER = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def as_stranger(work: Callable[[], object]) -> str:
    """What ``work`` returns in a process of another user, as text, or the traceback of its error."""

    def done() -> str:
        os.setgroups([])
        os.setgid(STRANGER)
        os.setuid(STRANGER)
        return str(work())

    return in_child(done)
