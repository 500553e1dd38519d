"""The worker pool: makes workers, knows the live one of each partition, and ends them."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..effects.clock import Clock
from ..errors import InvalidInput, RunnerError
from ..log.info import StoreInfo
from ..progress.lease import RunnerIdentity
from ..projections.handlers import Handlers
from ..projections.projection import Projection, by_stream
from ..projections.reactor import Reactor
from ..settings import Settings
from .assignment import IDLE, Assignment
from .context import Context, Notify
from .coordinator import Coordinator, refused
from .projection_worker import ProjectionWorker
from .reactor_worker import ReactorWorker
from .worker import Worker

#: What can be run.
Runnable = Projection | Reactor


def check_runnables(info: StoreInfo, given: Sequence[Runnable]) -> None:
    """Raise InvalidInput for projections and reactors that cannot run together on a store."""
    names: set[str] = set()
    for one in given:
        if not isinstance(one, Handlers):
            raise InvalidInput(f"only Projection and Reactor objects can be run, not {type(one).__name__}: {one!r}")
        if one.name in names:
            raise InvalidInput(f"two projections are named {one.name!r}; each needs a name of its own")
        names.add(one.name)
        if info.partitions > 1 and isinstance(one, Projection) and one.key is not by_stream:
            raise InvalidInput(
                f"projection {one.name!r} has a key of its own, and the store {info.partitions} partitions: "
                "each partition would hold a part of every row",
                hint="Key it by stream, or use a store with one partition.",
            )
    if not given:
        raise InvalidInput("there is no projection to run")


class LiveWorkers:
    """Which worker is the live one of each partition. Groups ask it where to hand their projections over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[int, tuple[Worker, Callable[[], None]]] = {}

    def hand_over(self, worker: Worker, wake: Callable[[], None]) -> bool:
        """Become the live worker, or move into the one there is: then True, and ``worker`` has no projections left."""
        with self._lock:
            found = self._live.setdefault(worker.keys.partition, (worker, wake))
            if found[0] is worker:
                return False
            assignments, worker.assignments = worker.assignments, []
            found[0].take_in(assignments)
            found[1]()
            return True

    def end(self, worker: Worker) -> bool:
        """Stop being the live worker; False when projections have come in meanwhile and must be served first."""
        with self._lock:
            if worker.take_newcomers():
                return False
            self._forget(worker)
            return True

    def forget(self, worker: Worker) -> None:
        """A worker that failed takes nobody in any more; whoever is on the way in fails with it."""
        with self._lock:
            worker.take_newcomers()
            self._forget(worker)

    def _forget(self, worker: Worker) -> None:
        if self._live.get(worker.keys.partition, (None,))[0] is worker:
            del self._live[worker.keys.partition]


class WorkerPool:
    """What both kinds of engine share: the assignments, the coordinator, and how workers are made and end."""

    def __init__(
        self,
        info: StoreInfo,
        given: Sequence[Runnable],
        settings: Settings,
        clock: Clock,
        *,
        live: bool,
        patience: float,
        notify: Notify,
        work_on: Callable[[list[Assignment[Any]]], None],
    ) -> None:
        check_runnables(info, given)
        self.live = live
        self.stopping = False
        runner = RunnerIdentity(secrets.token_hex(8), info, settings.lease)
        self.context = Context(
            runner, settings, clock, notify, patience
        )  # fmt: skip
        #: Everything to run in every partition, whatever becomes of it.
        self.assignments: list[Assignment[Any]] = [Assignment(one, keys) for keys in info.keys for one in given]
        self.coordinator = Coordinator(self.assignments, self.context, work_on)
        self.live_workers = LiveWorkers()
        self.workers: list[Worker] = []

    def new_worker(
        self,
        assignments: list[Assignment[Any]],
        delay: float,
        wake: Callable[[], None],
        spin_off: Callable[[Assignment[Any], float], None],
        on_loss: Callable[[], None],
    ) -> Worker:
        """A worker for assignments that are held."""
        alone = assignments[0].alone
        worker = (ReactorWorker if alone else ProjectionWorker)(
            assignments[0].keys,
            assignments,
            self.context,
            hand_over=(lambda worker: False) if alone else (lambda worker: self.live_workers.hand_over(worker, wake)),
            spin_off=spin_off,
            on_loss=on_loss,
            delay=delay,
        )
        self.workers.append(worker)
        worker.stopping = self.stopping  # looked at last: `stop` finds the worker, or has been called before this
        return worker

    def ended(self, worker: Worker) -> bool:
        """Whether a worker has nothing left to do."""
        if not self.live_workers.end(worker):
            return False
        self.workers.remove(worker)
        return True

    def crashed(self, worker: Worker, crash: BaseException) -> None:
        """A worker ended as none should."""
        self.live_workers.forget(worker)
        for assignment in worker.assignments:
            assignment.failure = assignment.failure or as_runner_error(crash)
        self.workers.remove(worker)

    def stop(self) -> None:
        """Let the coordinator and every worker end after what they are at."""
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
        return [assignment.failure for assignment in self.assignments if assignment.failure is not None]


def as_runner_error(crash: BaseException) -> RunnerError:
    """What ended a worker, as an error of this package."""
    return crash if isinstance(crash, RunnerError) else RunnerError(f"the runner failed: {crash!r}")
