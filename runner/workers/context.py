"""What surrounds the assignments of a process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..effects.clock import Clock
from ..progress.lease import RunnerIdentity
from ..settings import Settings
from .assignment import Assignment

#: Called at each change of an assignment's state, and when a batch of it is committed.
Notify = Callable[[Assignment], None]  # type: ignore[type-arg]


@dataclass(frozen=True)
class Context:
    """What surrounds the assignments of a process: who it is, how it waits, and where it has time and chance from."""

    runner: RunnerIdentity
    settings: Settings
    clock: Clock
    notify: Notify
    #: Bounds one outage of the server, in seconds.
    patience: float
