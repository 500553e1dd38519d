"""The worker pool: the assignments of a process, their coordinator, and the workers that come and go.

The coordinator claims assignments. Those that were claimed together and stand at the same position get one worker and
catch up together. A worker of projections that has caught up leaves them to the live worker of its partition. A reactor
keeps a worker of its own, and so does a projection for as long as it is slow (see `pace`).

The pool holds no thread and no task. An engine of either face runs the coordinator and the workers, and does what
`conclude` says about the outcomes that they return.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidInput, RunnerError
from ..format.keys import PartitionKeys
from ..log.info import StoreInfo
from ..projections.fingerprint import fingerprint
from ..projections.handlers import Handlers
from ..projections.projection import Projection, by_stream
from ..projections.reactor import Reactor
from .assignment import IDLE, Assignment
from .context import WorkerContext
from .coordinator import Coordinator
from .failures import refused
from .live_workers import LiveWorkers
from .outcomes import Again, CaughtUp, Lost, Outcome
from .projection_worker import ProjectionWorker
from .reactor_worker import ReactorWorker
from .worker import Worker

#: What can be run.
Runnable = Projection | Reactor


def check_runnables(info: StoreInfo, given: Sequence[Runnable]) -> None:
    """Raise InvalidInput if these projections and reactors cannot run together on a store."""
    names: set[str] = set()
    for one in given:
        if not isinstance(one, Handlers):
            raise InvalidInput(f"only Projection and Reactor objects can be run, not {type(one).__name__}: {one!r}")
        if one.name in names:
            raise InvalidInput(f"two projections are named {one.name!r}; each needs a name of its own")
        names.add(one.name)
        if isinstance(one, Projection):
            one.check_initial()
        if info.partitions > 1 and isinstance(one, Projection) and one.key is not by_stream:
            raise InvalidInput(
                f"projection {one.name!r} has a key of its own, and the store has {info.partitions} partitions: "
                "each partition would hold a part of every row",
                hint="Key it by stream, or use a store with one partition.",
            )
    if not given:
        raise InvalidInput("there is no projection to run")


def assign(given: Sequence[Runnable], partitions: Sequence[PartitionKeys]) -> list[Assignment[Any]]:
    """An assignment for each projection and reactor in each partition."""
    prints = [fingerprint(one) if isinstance(one, Projection) else ("", "") for one in given]
    return [
        Assignment(one, keys, its) for keys in partitions for one, its in zip(given, prints, strict=True)
    ]  # fmt: skip


@dataclass(slots=True)
class Steps:
    """What an engine has to do about the outcomes of a worker."""

    #: Start a worker for these assignments, after so many seconds.
    start: list[tuple[list[Assignment[Any]], float]] = field(default_factory=list)
    #: Wake these workers: assignments have come in.
    wake: list[Worker] = field(default_factory=list)
    #: Wake the coordinator: an assignment was lost.
    wake_coordinator: bool = False


class WorkerPool:
    """What both engines share. ``live=False``: the workers end when they have caught up. Raises InvalidInput."""

    def __init__(self, given: Sequence[Runnable], context: WorkerContext, *, live: bool) -> None:
        info = context.runner.info
        check_runnables(info, given)
        for one in given:
            if isinstance(one, Reactor):
                one.check_store(context.store)
        self.live = live
        self.stopping = False
        self.context = context
        #: One for each projection and reactor in each partition, those that failed or finished included.
        self.assignments: list[Assignment[Any]] = assign(given, info.keys)
        self.coordinator = Coordinator(self.assignments, context)
        self.workers: list[Worker] = []
        self._live_workers = LiveWorkers()

    def new_worker(self, assignments: list[Assignment[Any]], delay: float = 0.0) -> Worker:
        """A worker for assignments that are held; it begins after ``delay`` seconds."""
        kind = ReactorWorker if assignments[0].is_reactor else ProjectionWorker
        worker = kind(assignments[0].keys, assignments, self.context, delay=delay)
        self.workers.append(worker)
        worker.stopping = self.stopping  # read last: `stop` has set it by now, or finds the worker in the list
        return worker

    def conclude(self, worker: Worker, outcomes: Sequence[Outcome]) -> Steps:
        """What the engine has to do about the outcomes that a worker returned."""
        steps = Steps()
        for outcome in outcomes:
            if isinstance(outcome, Again):
                steps.start.append(([outcome.assignment], outcome.delay))
            elif isinstance(outcome, Lost):
                steps.wake_coordinator = True
            elif isinstance(outcome, CaughtUp) and outcome.joins:
                live = self._live_workers.hand_over(worker)
                steps.wake += [] if live is None else [live]
        return steps

    def ended(self, worker: Worker) -> bool:
        """Whether a worker that returned no outcomes has nothing left to do."""
        if not self._live_workers.end(worker):
            return False
        self.workers.remove(worker)
        return True

    def crashed(self, worker: Worker, crash: BaseException) -> None:
        """A worker ended by an error that no single assignment caused: all its assignments fail with that error."""
        self._live_workers.forget(worker)
        for assignment in worker.orphans():
            assignment.failure = as_runner_error(crash)
        self.workers.remove(worker)

    def stop(self) -> None:
        """Let the coordinator and every worker end after their present step."""
        self.stopping = self.coordinator.stopping = True
        for worker in list(self.workers):
            worker.stopping = True

    @property
    def failures(self) -> list[RunnerError]:
        """Why projections stopped, or could not be run to the end."""
        if not self.live and not self.stopping:
            for assignment in self.assignments:
                if assignment.failure is None and assignment.state != IDLE:
                    assignment.failure = refused(assignment)
        return [one.failure for one in self.assignments if one.failure is not None]


def as_runner_error(crash: BaseException) -> RunnerError:
    """The exception that ended a worker, as an error of this package."""
    return crash if isinstance(crash, RunnerError) else RunnerError(f"the runner failed: {crash!r}")
