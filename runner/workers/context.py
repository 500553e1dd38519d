"""The context of a process's workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..effects.clock import Clock
from ..progress.lease import RunnerIdentity
from ..settings import Settings
from .assignment import Assignment
from .failed_events import FailedEvent
from .outage import Outage
from .pace import SlowTurn

#: Called after each change of an assignment's state, and after each of its commits.
Notify = Callable[[Assignment[Any]], None]

#: Called with what people should hear of at once.
Tell = Callable[[FailedEvent | SlowTurn | Outage], None]


@dataclass(frozen=True)
class WorkerContext:
    """What all workers of a process share: the runner's identity, settings, clock and random numbers."""

    runner: RunnerIdentity
    settings: Settings
    clock: Clock
    #: How long the workers wait for the server in one outage, in seconds.
    patience: float
    notify: Notify = lambda assignment: None
    #: Called with each event that failed, each projection that is slow, and outages while all stands by.
    tell: Tell = lambda line: None
    #: Each worker has a thread of its own. Else a plain handler keeps all workers waiting, whichever it is called by.
    in_threads: bool = True
    #: The store, for the handlers of reactors that ask for it.
    store: object = None
