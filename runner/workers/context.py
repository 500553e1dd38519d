"""What surrounds the assignments of a process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..effects.clock import Clock
from ..progress.lease import RunnerIdentity
from ..settings import Settings
from .assignment import Assignment

#: Told of each change of an assignment's state, and of each batch of it that is committed.
Notify = Callable[[Assignment[Any]], None]


@dataclass(frozen=True)
class WorkerContext:
    """What all workers of a process share: who they are for the store, their settings, time and chance."""

    runner: RunnerIdentity
    settings: Settings
    clock: Clock
    #: How long one outage of the server is waited for, in seconds.
    patience: float
    notify: Notify = lambda assignment: None
