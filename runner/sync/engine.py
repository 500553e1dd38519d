"""Running projections and reactors in this process: assignments, the coordinator, workers and their threads.

The coordinator claims assignments. Assignments that were claimed together and stand at the same position form a worker and catch up
together; a worker of projections that has caught up hands them to the worker of its partition that is live already, so
that in the end one thread a partition does everything, with one read, one decode and one round trip of commits a
batch. A reactor keeps a worker of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from ..errors import RunnerError
from ..log.append_plan import AppendResult
from ..workers.assignment import LIVE, Assignment
from ..workers.context import Notify
from ..workers.pool import Runnable, WorkerPool
from ..workers.worker import Worker
from .interpreter import Interpreter
from .store import EventStore


class Engine:
    """Projections at work in threads of this process. ``live=False``: they end when they have caught up."""

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
        self._pool = WorkerPool(
            store.info,
            given,
            store.settings,
            store.driver.clock,
            live=live,
            patience=store.settings.retry_for if patience is None else patience,
            notify=self._notify,
            work_on=self._start_worker,
        )
        #: What ended a thread that should not have ended, if anything did.
        self.crash: BaseException | None = None
        self._interpreter = Interpreter(store.driver, store.feed(0))
        self._lock = threading.RLock()  # a signal may call `stop` in the midst of anything
        self._workers: list[tuple[Interpreter, threading.Thread | None, Worker]] = []
        self._threads: list[threading.Thread] = []
        self._in_threads = True

    @property
    def assignments(self) -> list[Assignment[Any]]:
        """Everything to run in every partition."""
        return self._pool.assignments

    @property
    def failures(self) -> list[RunnerError]:
        """Why projections stopped."""
        return self._pool.failures

    def start(self) -> None:
        """Claim what can be had, and start the threads."""
        coordinator = self._pool.coordinator
        if self._pool.live:
            try:
                self._interpreter.run(coordinator.first_round())
            except BaseException:
                self.stop()
                self.join()
                self._interpreter.close()
                raise
        work = coordinator.work if self._pool.live else coordinator.claim_all
        thread = threading.Thread(target=self._keep_house, args=(work,), name="runner-coordinator", daemon=True)
        with self._lock:
            self._threads.append(thread)
            thread.start()

    def run_here(self) -> None:
        """Work in the calling thread, one worker after the other; for history only."""
        self._in_threads = False
        try:
            self._interpreter.run(self._pool.coordinator.claim_all())
            while self._workers and self.crash is None:
                interpreter, _, worker = self._workers.pop(0)
                self._run(worker, interpreter)
        finally:
            self._interpreter.close()
        self.check()

    def wait_live(self, timeout: float | None = None) -> bool:
        """Wait until every projection is live or has stopped; False when ``timeout`` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(
                lambda: (
                    self.crash is not None
                    or all(
                        assignment.state == LIVE or assignment.failure is not None for assignment in self.assignments
                    )
                ),
                timeout,
            )

    def wait_for(self, partition: int, position: int, timeout: float | None = None) -> bool:
        """Wait until every projection has applied a position or stopped; False when ``timeout`` was not enough."""
        with self._changed:
            return self._changed.wait_for(
                lambda: (
                    self.crash is not None
                    or all(assignment.has_applied(partition, position) for assignment in self.assignments)
                ),
                timeout,
            )

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
        """Let every worker finish and commit the batch it is at, and end."""
        self._pool.stop()
        self._wake_all()

    def check(self) -> None:
        """Raise the first failure there was, if any."""
        if self.crash is not None:
            raise self.crash
        for failure in self.failures:
            raise failure

    def _wake_all(self) -> None:
        self._interpreter.wake()
        with self._lock:
            interpreters = [interpreter for interpreter, _, _ in self._workers]
        for interpreter in interpreters:
            interpreter.wake()

    def _start_worker(self, assignments: list[Assignment[Any]], delay: float = 0.0) -> None:
        interpreter = Interpreter(self._store.driver, self._store.feed(assignments[0].keys.partition))
        worker = self._pool.new_worker(assignments, delay, interpreter.wake, self._spin_off, self._interpreter.wake)
        with self._lock:
            if not self._in_threads:
                self._workers.append((interpreter, None, worker))
                return
            name = f"runner-{assignments[0].keys.partition}"
            thread = threading.Thread(target=self._run, args=(worker, interpreter), name=name, daemon=True)
            self._workers.append((interpreter, thread, worker))
            self._threads.append(thread)
            thread.start()  # inside the lock: `join` takes what is not alive for ended

    def _spin_off(self, assignment: Assignment[Any], delay: float) -> None:
        self._start_worker([assignment], delay)

    def _run(self, worker: Worker, interpreter: Interpreter) -> None:
        try:
            while True:
                interpreter.run(worker.work(self._pool.live))
                if self._pool.ended(worker):
                    return
        except BaseException as crash:
            self._pool.crashed(worker, crash)
            self.crash = self.crash or crash
        finally:
            interpreter.close()
            with self._lock:
                self._workers = [worker for worker in self._workers if worker[0] is not interpreter]
            with self._changed:
                self._changed.notify_all()

    def _keep_house(self, work: Callable[[], Any]) -> None:
        try:
            self._interpreter.run(work())
        except BaseException as crash:
            self.crash = self.crash or crash
            self.stop()
        finally:
            self._interpreter.close()
            with self._changed:
                self._changed.notify_all()

    def _notify(self, assignment: Assignment[Any]) -> None:
        self._notify_outside(assignment)
        with self._changed:
            self._changed.notify_all()


class Following:
    """Projections that follow the log in the background, for as long as the ``with`` block lasts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def wait_live(self, timeout: float | None = None) -> bool:
        """Wait until every projection has caught up or stopped; False when ``timeout`` seconds were not enough."""
        return self._engine.wait_live(timeout)

    def wait_for(self, result: AppendResult, timeout: float | None = None) -> bool:
        """Wait until every projection has applied an append, or stopped; False when ``timeout`` was not enough."""
        return self._engine.wait_for(result.partition, result.position, timeout)

    def __enter__(self) -> Self:
        self._engine.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.stop()
        self._engine.join()
        if error is None:
            self._engine.check()
