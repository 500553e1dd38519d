"""Projections at work in tasks of one event loop. Compare `runner.sync.engine`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from ..log.append_plan import AppendResult
from ..workers.assignment import LIVE, Assignment
from ..workers.pool import Runnable, WorkerPool
from ..workers.worker import Worker
from .interpreter import AsyncInterpreter
from .store import AsyncEventStore


class AsyncEngine:
    """``live=False``: it ends when everything has caught up."""

    def __init__(self, store: AsyncEventStore, given: tuple[Runnable, ...], *, live: bool) -> None:
        self._store = store
        self._given = given
        self._live = live
        self._changed = asyncio.Event()
        self._interpreters: dict[Worker, AsyncInterpreter] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._pool: WorkerPool | None = None
        self._interpreter: AsyncInterpreter | None = None
        self.crash: BaseException | None = None

    @property
    def assignments(self) -> list[Assignment[Any]]:
        return self._pool.assignments if self._pool is not None else []

    async def start(self) -> None:
        store = self._store
        info = await store.info()
        self._pool = WorkerPool(
            info,
            self._given,
            store.settings,
            store.driver.clock,
            live=self._live,
            patience=store.settings.retry_for,
            notify=lambda assignment: self._changed.set(),
            work_on=self._start_worker,
        )
        self._interpreter = AsyncInterpreter(store.driver, store.feed(0))
        coordinator = self._pool.coordinator
        if self._live:
            try:
                await self._interpreter.run(coordinator.first_round())
            except BaseException:
                self.stop()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await self._interpreter.close()
                raise
        self._tasks.append(
            asyncio.create_task(self._keep_house(coordinator.work if self._live else coordinator.claim_all))
        )

    async def wait_live(self, timeout: float | None = None) -> bool:
        return await self._wait(lambda assignment: assignment.state == LIVE or assignment.failure is not None, timeout)

    async def wait_for(self, partition: int, position: int, timeout: float | None = None) -> bool:
        return await self._wait(lambda assignment: assignment.has_applied(partition, position), timeout)

    async def _wait(self, ready: Callable[[Assignment[Any]], bool], timeout: float | None) -> bool:
        try:
            async with asyncio.timeout(timeout):
                while self.crash is None and not all(map(ready, self.assignments)):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def join(self) -> None:
        """Wait until all tasks have ended; raise the first failure."""
        while self._tasks:
            tasks, self._tasks = self._tasks, []
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
            except asyncio.CancelledError:  # which has cancelled those that were waited for; others began meanwhile
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                raise
        if self.crash is not None:
            raise self.crash
        assert self._pool is not None
        for failure in self._pool.failures:
            raise failure

    def stop(self) -> None:
        assert self._pool is not None
        self._pool.stop()
        for interpreter in [*self._interpreters.values(), self._interpreter]:
            if interpreter is not None:
                interpreter.wake()

    def _start_worker(self, assignments: list[Assignment[Any]], delay: float = 0.0) -> None:
        assert self._pool is not None
        assert self._interpreter is not None
        interpreter = AsyncInterpreter(self._store.driver, self._store.feed(assignments[0].keys.partition))
        worker = self._pool.new_worker(assignments, delay, interpreter.wake, self._spin_off, self._interpreter.wake)
        self._interpreters[worker] = interpreter
        self._tasks = [task for task in self._tasks if not task.done() or task.cancelled() or task.exception()]
        self._tasks.append(asyncio.create_task(self._run(worker, interpreter)))

    def _spin_off(self, assignment: Assignment[Any], delay: float) -> None:
        self._start_worker([assignment], delay)

    async def _run(self, worker: Worker, interpreter: AsyncInterpreter) -> None:
        assert self._pool is not None
        try:
            while True:
                await interpreter.run(worker.work(self._live))
                if self._pool.ended(worker):
                    return
        except BaseException as crash:
            self._pool.crashed(worker, crash)
            self.crash = self.crash or crash
            raise
        finally:
            del self._interpreters[worker]
            await interpreter.close()
            self._changed.set()

    async def _keep_house(self, work: Callable[[], Any]) -> None:
        assert self._interpreter is not None
        try:
            await self._interpreter.run(work())
        except BaseException as crash:
            self.crash = self.crash or crash
            self.stop()
            raise
        finally:
            await self._interpreter.close()
            self._changed.set()


class AsyncFollowing:
    """Projections that follow the log in the background, for as long as the ``async with`` block lasts."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def wait_live(self, timeout: float | None = None) -> bool:
        """Wait until every projection has caught up or stopped; False when ``timeout`` seconds were not enough."""
        return await self._engine.wait_live(timeout)

    async def wait_for(self, result: AppendResult, timeout: float | None = None) -> bool:
        """Wait until every projection has applied an append, or stopped; False when ``timeout`` was not enough."""
        return await self._engine.wait_for(result.partition, result.position, timeout)

    async def __aenter__(self) -> Self:
        await self._engine.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.stop()
        try:
            await self._engine.join()
        except Exception:
            if error is None:
                raise


async def async_catch_up(store: AsyncEventStore, *projections: Runnable) -> int:
    """`runner.catch_up` for an asynchronous store."""
    engine = AsyncEngine(store, projections, live=False)
    await engine.start()
    await engine.join()
    return sum(assignment.handled for assignment in engine.assignments)
