"""Runs projections and reactors in threads: one for the coordinator, and one for each worker.

`runner.workers.pool` gives assignments to workers. `runner.aio.engine` does the same in tasks of an event loop.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from ..effects import Operation
from ..errors import RunnerError
from ..progress.lease import RunnerIdentity
from ..projections.calling import check_waiting
from ..views.reading import PATIENCE, Appended
from ..wire.blocks import TakesWith
from ..wire.host import Process
from ..wire.log import write
from ..workers.assignment import LIVE, Assignment
from ..workers.context import Notify, WorkerContext
from ..workers.coordinator import Claimed
from ..workers.pool import Runnable, WorkerPool
from ..workers.waiting import check_applied, check_live
from ..workers.worker import Worker
from .interpreter import Interpreter
from .store import EventStore


class Engine:
    """Runs projections in this process. With ``live=False`` the engine ends when they have caught up.

    ``patience``: how many seconds the engine waits during one outage of the server. Raises InvalidInput.
    """

    def __init__(
        self,
        store: EventStore,
        given: Sequence[Runnable],
        *,
        live: bool = True,
        patience: float | None = None,
        notify: Notify = lambda assignment: None,
    ) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._notify_outside = notify
        settings = store.settings
        runner = RunnerIdentity(secrets.token_hex(8), store.info, settings.lease, store.driver.place)
        patience = settings.retry_for if patience is None else patience
        context = WorkerContext(runner, settings, store.driver.clock, patience, self._notify, write, store=store)
        self._pool = WorkerPool(given, context, live=live)
        #: The first error that ended a thread; None if there was none.
        self.crash: BaseException | None = None
        self._interpreter = Interpreter(store.driver, store.feed(0))
        self._lock = threading.RLock()  # reentrant, because a signal may call `stop` at any moment
        self._at_work: dict[Worker, Interpreter] = {}
        self._threads: list[threading.Thread] = []
        self.process = Process()

    @property
    def assignments(self) -> list[Assignment[Any]]:
        """The assignments: every projection and reactor in every partition."""
        return self._pool.assignments

    @property
    def runner_id(self) -> str:
        """The random id of this runner in the store."""
        return self._pool.context.runner.id

    @property
    def failures(self) -> list[RunnerError]:
        """The errors that stopped projections."""
        return self._pool.failures

    def start(self) -> None:
        """Claim the assignments that are free, and start the threads."""
        coordinator = self._pool.coordinator
        if self._pool.live:
            try:
                try:
                    self._interpreter.run(coordinator.first_round())
                finally:  # also after an error in the middle: claimed assignments need a worker
                    self._start_workers(coordinator.take_claimed())
            except BaseException:
                self.stop()
                self.join()
                self._interpreter.close()
                raise
        work = coordinator.work if self._pool.live else coordinator.claim_all
        thread = threading.Thread(target=self._run_coordinator, args=(work,), name="runner-coordinator", daemon=True)
        with self._lock:
            self._threads.append(thread)
            thread.start()

    def run_to_end(self) -> None:
        """Catch up in the calling thread, one worker after the other. Raises the error that stopped a projection."""
        self._pool.context = replace(self._pool.context, in_threads=False)
        try:
            for one in {assignment.projection for assignment in self.assignments if not assignment.is_reactor}:
                self._interpreter.run(check_waiting(one))
            while self.crash is None and (claimed := self._interpreter.run(self._pool.coordinator.claim_all())):
                self._start_workers(claimed)
                while self._at_work and self.crash is None:
                    worker = next(iter(self._at_work))
                    self._run(worker, self._at_work[worker])
        finally:
            self._interpreter.close()
        self.check()

    def wait_live(self, timeout: float | None = None) -> bool:
        """Wait until every projection is live or has an obstacle; False when ``timeout`` seconds were not enough."""
        return self._wait(lambda one: one.state == LIVE or one.obstacle is not None, timeout)

    def wait_for(self, partition: int, position: int, timeout: float | None = None) -> bool:
        """Wait until every projection has applied a position or has an obstacle; False when ``timeout`` runs out."""
        return self._wait(lambda one: one.has_applied(partition, position), timeout)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until all threads have ended; False when ``timeout`` seconds were not enough."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                waiting = self._threads[:1]
            if not waiting:
                return True
            waiting[0].join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def stop(self) -> None:
        """Let every worker finish and commit its current batch, then end."""
        self._pool.stop()
        self._interpreter.wake()
        with self._lock:
            interpreters = list(self._at_work.values())
        for interpreter in interpreters:
            interpreter.wake()

    def check(self) -> None:
        """Raise the first failure, if there was one."""
        if self.crash is not None:
            raise self.crash
        for failure in self.failures:
            raise failure

    def _wait(self, ready: Callable[[Assignment[Any]], bool], timeout: float | None) -> bool:
        with self._changed:
            return self._changed.wait_for(
                lambda: self.crash is not None or all(map(ready, self.assignments)),
                timeout,
            )

    # -- threads ----------------------------------------------------------------------------------

    def _start_workers(self, claimed: Claimed) -> None:
        for assignments in claimed:
            self._start_worker(assignments)

    def _start_worker(self, assignments: list[Assignment[Any]], delay: float = 0.0) -> None:
        partition = assignments[0].keys.partition
        interpreter = Interpreter(self._store.driver, self._store.feed(partition))
        worker = self._pool.new_worker(assignments, delay)
        with self._lock:
            self._at_work[worker] = interpreter
            if self._pool.context.in_threads:
                args = worker, interpreter
                thread = threading.Thread(target=self._run, args=args, name=f"runner-{partition}", daemon=True)
                self._threads.append(thread)
                thread.start()  # inside the lock, because `join` would think that a thread not yet started has ended

    def _run(self, worker: Worker, interpreter: Interpreter) -> None:
        """Run a worker to its end, and act on its outcomes."""
        try:
            while True:
                outcomes = interpreter.run(worker.work(self._pool.live))
                if not outcomes and self._pool.ended(worker):
                    return
                steps = self._pool.conclude(worker, outcomes)
                for assignments, delay in steps.start:
                    self._start_worker(assignments, delay)
                for other in steps.wake:
                    self._wake(other)
                if steps.wake_coordinator:
                    self._interpreter.wake()
        except BaseException as crash:
            self._pool.crashed(worker, crash)
            self.crash = self.crash or crash
        finally:
            interpreter.close()
            with self._lock:
                del self._at_work[worker]
            self._say_changed()

    def _run_coordinator(self, work: Callable[[], Operation[Claimed]]) -> None:
        try:
            while claimed := self._interpreter.run(work()):
                self._start_workers(claimed)
        except BaseException as crash:
            self.crash = self.crash or crash
            self._start_workers(self._pool.coordinator.take_claimed())  # these workers release the leases
            self.stop()
        finally:
            self._interpreter.close()
            self._say_changed()

    def _wake(self, worker: Worker) -> None:
        with self._lock:
            interpreter = self._at_work.get(worker)
        if interpreter is not None:
            interpreter.wake()

    def _notify(self, assignment: Assignment[Any]) -> None:
        self._notify_outside(assignment)
        self._say_changed()

    def _say_changed(self) -> None:
        with self._changed:
            self._changed.notify_all()


class Following(TakesWith):
    """Projections that follow the log in the background, for as long as the ``with`` block lasts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def wait_live(self, timeout: float | None = None) -> None:
        """Wait until every projection has caught up with the log, has stopped, or was replaced by other code.

        ``timeout`` is in seconds; None waits as long as the history takes. Raises the error that stopped a projection,
        such as HandlerFailed; BuildReplaced, though the projection stands by and goes on after a rollback; WaitTimeout,
        also where another runner drives a projection all the time.
        """
        self._engine.process.check("this Following")
        live = self._engine.wait_live(timeout)
        if self._engine.crash is not None:
            raise self._engine.crash
        if not live or any(one.obstacle for one in self._engine.assignments):
            check_live(self._engine.assignments)

    def wait_for(self, result: Appended, timeout: float | None = PATIENCE) -> None:
        """Wait until every projection has applied an append, or has stopped: then their views show it.

        ``result`` is what the append returned, or an event that was read; ``timeout`` is in seconds, and None waits
        without end. Raises the error that stopped a projection earlier, such as HandlerFailed; BuildReplaced, as
        `wait_live`; WaitTimeout, also where another runner drives a projection: `View.wait_for` sees that runner's
        commits.
        """
        self._engine.process.check("this Following")
        self._engine.wait_for(result.partition, result.position, timeout)
        if self._engine.crash is not None:
            raise self._engine.crash
        check_applied(self._engine.assignments, result.partition, result.position)

    def __enter__(self) -> Self:
        self._engine.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._engine.process.is_this:
            return  # a forked child leaves the block; the threads are the parent's
        self._engine.stop()
        self._engine.join()
        if error is None:
            self._engine.check()


def catch_up(store: EventStore, projections: Sequence[Runnable]) -> int:
    """`runner.catch_up` for a synchronous store."""
    engine = Engine(store, projections, live=False)
    engine.run_to_end()
    return sum(one.handled for one in engine.assignments)
