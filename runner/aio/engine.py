"""Runs projections and reactors in tasks of one event loop. Compare `runner.sync.engine`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from ..effects import Operation
from ..errors import RunnerError
from ..progress.lease import RunnerIdentity
from ..views.reading import PATIENCE, Appended
from ..wire.blocks import TakesAsyncWith
from ..wire.log import write
from ..workers.assignment import LIVE, Assignment
from ..workers.context import Notify, WorkerContext
from ..workers.coordinator import Claimed
from ..workers.pool import Runnable, WorkerPool
from ..workers.waiting import check_applied, check_live
from ..workers.worker import Worker
from .interpreter import AsyncInterpreter
from .store import AsyncEventStore


class AsyncEngine:
    """Runs projections in this event loop. With ``live=False`` the engine ends when they have caught up.

    ``patience``: how many seconds the engine waits during one outage of the server. `start` raises InvalidInput.
    """

    def __init__(
        self,
        store: AsyncEventStore,
        given: Sequence[Runnable],
        *,
        live: bool = True,
        patience: float | None = None,
        notify: Notify = lambda assignment: None,
    ) -> None:
        self._store = store
        self._given = given
        self._live = live
        self._patience = store.settings.retry_for if patience is None else patience
        self._notify_outside = notify
        self._changed = asyncio.Event()
        self._at_work: dict[Worker, AsyncInterpreter] = {}
        self._tasks: list[asyncio.Task[None]] = []
        #: The first error that ended a task; None if there was none.
        self.crash: BaseException | None = None
        # `start` makes these, because they need an open store.
        self._opened: tuple[WorkerPool, AsyncInterpreter] | None = None

    @property
    def assignments(self) -> list[Assignment[Any]]:
        """The assignments: every projection and reactor in every partition."""
        return self._opened[0].assignments if self._opened is not None else []

    @property
    def runner_id(self) -> str:
        """The random id of this runner in the store; empty before the start."""
        return self._opened[0].context.runner.id if self._opened is not None else ""

    @property
    def failures(self) -> list[RunnerError]:
        """The errors that stopped projections."""
        return self._opened[0].failures if self._opened is not None else []

    async def start(self) -> None:
        """Claim the assignments that are free, and start the tasks."""
        store, settings = self._store, self._store.settings
        info = await store.info()
        runner = RunnerIdentity(secrets.token_hex(8), info, settings.lease, store.driver.place)
        context = WorkerContext(
            runner, settings, store.driver.clock, self._patience, self._notify, write, in_threads=False, store=store
        )
        pool = WorkerPool(self._given, context, live=self._live)
        self._opened = pool, AsyncInterpreter(store.driver, store.feed(0))
        if self._live:
            try:
                try:
                    await self._interpreter.run(pool.coordinator.first_round())
                finally:  # also after an error in the middle: claimed assignments need a worker
                    self._start_workers(pool.coordinator.take_claimed())
            except BaseException:
                self.stop()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await self._interpreter.close()
                raise
        work = pool.coordinator.work if self._live else pool.coordinator.claim_all
        self._tasks.append(asyncio.create_task(self._run_coordinator(work)))

    async def run_to_end(self) -> None:
        """Catch up. Raises the error that stopped a projection."""
        await self.start()
        await self.join()
        self.check()

    async def wait_live(self, timeout: float | None = None) -> bool:
        """Wait until every projection is live or has an obstacle; False when ``timeout`` seconds were not enough."""
        return await self._wait(lambda one: one.state == LIVE or one.obstacle is not None, timeout)

    async def wait_for(self, partition: int, position: int, timeout: float | None = None) -> bool:
        """Wait until every projection has applied a position or has an obstacle; False when ``timeout`` runs out."""
        return await self._wait(lambda one: one.has_applied(partition, position), timeout)

    async def join(self, timeout: float | None = None) -> bool:
        """Wait until all tasks have ended; False when ``timeout`` seconds were not enough, and then the tasks go on."""
        clock = asyncio.get_running_loop().time
        deadline = None if timeout is None else clock() + timeout
        while self._tasks:
            try:
                left = None if deadline is None else max(0.0, deadline - clock())
                done, _ = await asyncio.wait(self._tasks, timeout=left)
            except asyncio.CancelledError:  # the caller will not call `join` again
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                raise
            for task in done:
                if not task.cancelled():
                    task.exception()  # marks the error as seen by asyncio; `crash` holds it
            self._tasks = [task for task in self._tasks if task not in done]
            if self._tasks and deadline is not None and clock() >= deadline:
                return False
        return True

    def stop(self) -> None:
        """Let every worker finish and commit its current batch, then end."""
        self._pool.stop()
        for interpreter in [*self._at_work.values(), self._interpreter]:
            interpreter.wake()

    def check(self) -> None:
        """Raise the first failure, if there was one."""
        if self.crash is not None:
            raise self.crash
        for failure in self.failures:
            raise failure

    @property
    def _pool(self) -> WorkerPool:
        assert self._opened is not None, "the engine is not started"
        return self._opened[0]

    @property
    def _interpreter(self) -> AsyncInterpreter:
        assert self._opened is not None, "the engine is not started"
        return self._opened[1]

    async def _wait(self, ready: Callable[[Assignment[Any]], bool], timeout: float | None) -> bool:
        try:
            async with asyncio.timeout(timeout):
                while self.crash is None and not all(map(ready, self.assignments)):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    # -- tasks ------------------------------------------------------------------------------------

    def _start_workers(self, claimed: Claimed) -> None:
        for assignments in claimed:
            self._start_worker(assignments)

    def _start_worker(self, assignments: list[Assignment[Any]], delay: float = 0.0) -> None:
        feed = self._store.feed(assignments[0].keys.partition)
        interpreter = AsyncInterpreter(self._store.driver, feed)
        worker = self._pool.new_worker(assignments, delay)
        self._at_work[worker] = interpreter
        self._tasks = [task for task in self._tasks if not task.done() or task.cancelled() or task.exception()]
        self._tasks.append(asyncio.create_task(self._run(worker, interpreter)))

    async def _run(self, worker: Worker, interpreter: AsyncInterpreter) -> None:
        """Run a worker to its end, and act on its outcomes."""
        try:
            while True:
                outcomes = await interpreter.run(worker.work(self._live))
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
            raise
        finally:
            del self._at_work[worker]
            await interpreter.close()
            self._changed.set()

    async def _run_coordinator(self, work: Callable[[], Operation[Claimed]]) -> None:
        try:
            while claimed := await self._interpreter.run(work()):
                self._start_workers(claimed)
        except BaseException as crash:
            self.crash = self.crash or crash
            self._start_workers(self._pool.coordinator.take_claimed())  # these workers release the leases
            self.stop()
            raise
        finally:
            await self._interpreter.close()
            self._changed.set()

    def _wake(self, worker: Worker) -> None:
        if worker in self._at_work:
            self._at_work[worker].wake()

    def _notify(self, assignment: Assignment[Any]) -> None:
        self._notify_outside(assignment)
        self._changed.set()


class AsyncFollowing(TakesAsyncWith):
    """Projections that follow the log in the background, for as long as the ``async with`` block lasts."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def wait_live(self, timeout: float | None = None) -> None:
        """Wait until every projection has caught up with the log, has stopped, or was replaced by other code.

        ``timeout`` is in seconds; None waits as long as the history takes. Raises the error that stopped a projection,
        such as HandlerFailed; BuildReplaced, though the projection stands by and goes on after a rollback; WaitTimeout,
        also where another runner drives a projection all the time.
        """
        live = await self._engine.wait_live(timeout)
        if self._engine.crash is not None:
            raise self._engine.crash
        if not live or any(one.obstacle for one in self._engine.assignments):
            check_live(self._engine.assignments)

    async def wait_for(self, result: Appended, timeout: float | None = PATIENCE) -> None:
        """Wait until every projection has applied an append, or has stopped: then their views show it.

        ``result`` is what the append returned, or an event that was read; ``timeout`` is in seconds, and None waits
        without end. Raises the error that stopped a projection earlier, such as HandlerFailed; BuildReplaced, as
        `wait_live`; WaitTimeout, also where another runner drives a projection: `AsyncView.wait_for` sees that runner's
        commits.
        """
        await self._engine.wait_for(result.partition, result.position, timeout)
        if self._engine.crash is not None:
            raise self._engine.crash
        check_applied(self._engine.assignments, result.partition, result.position)

    async def __aenter__(self) -> Self:
        await self._engine.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.stop()
        await self._engine.join()
        if error is None:
            self._engine.check()


async def async_catch_up(store: AsyncEventStore, projections: Sequence[Runnable]) -> int:
    """`runner.catch_up` for an asynchronous store."""
    engine = AsyncEngine(store, projections, live=False)
    await engine.run_to_end()
    return sum(one.handled for one in engine.assignments)
