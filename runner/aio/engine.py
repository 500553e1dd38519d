"""Projections at work in tasks of one event loop. Compare `runner.sync.engine`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from ..log.append_plan import AppendResult
from ..workers.assignment import LIVE, Seat
from ..workers.pool import Crew, Runnable
from ..workers.worker import Group
from .interpreter import AsyncPort
from .store import AsyncEventStore


class AsyncEngine:
    """``live=False``: it ends when everything has caught up."""

    def __init__(self, store: AsyncEventStore, given: tuple[Runnable, ...], *, live: bool) -> None:
        self._store = store
        self._given = given
        self._live = live
        self._changed = asyncio.Event()
        self._ports: dict[Group, AsyncPort] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._crew: Crew | None = None
        self._port: AsyncPort | None = None
        self.crash: BaseException | None = None

    @property
    def seats(self) -> list[Seat[Any]]:
        return self._crew.seats if self._crew is not None else []

    async def start(self) -> None:
        store = self._store
        facts = await store.facts()
        self._crew = Crew(
            facts,
            self._given,
            store.settings,
            store.driver.clock,
            live=self._live,
            patience=store.settings.retry_for,
            notify=lambda seat: self._changed.set(),
            seat_them=self._start_group,
        )
        self._port = AsyncPort(store.driver, store.feed(facts, 0))
        steward = self._crew.steward
        if self._live:
            try:
                await self._port.run(steward.first_round())
            except BaseException:
                self.stop()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await self._port.close()
                raise
        self._tasks.append(asyncio.create_task(self._keep_house(steward.work if self._live else steward.seat_all)))

    async def wait_live(self, timeout: float | None = None) -> bool:
        return await self._wait(lambda seat: seat.state == LIVE or seat.failure is not None, timeout)

    async def wait_for(self, partition: int, position: int, timeout: float | None = None) -> bool:
        return await self._wait(lambda seat: seat.has_applied(partition, position), timeout)

    async def _wait(self, ready: Callable[[Seat[Any]], bool], timeout: float | None) -> bool:
        try:
            async with asyncio.timeout(timeout):
                while self.crash is None and not all(map(ready, self.seats)):
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
        assert self._crew is not None
        for failure in self._crew.failures:
            raise failure

    def stop(self) -> None:
        assert self._crew is not None
        self._crew.stop()
        for port in [*self._ports.values(), self._port]:
            if port is not None:
                port.wake()

    def _start_group(self, seats: list[Seat[Any]], delay: float = 0.0) -> None:
        assert self._crew is not None
        assert self._port is not None
        facts = self._crew.context.runner.facts
        port = AsyncPort(self._store.driver, self._store.feed(facts, seats[0].keys.partition))
        group = self._crew.new_group(seats, delay, port.wake, self._spin_off, self._port.wake)
        self._ports[group] = port
        self._tasks = [task for task in self._tasks if not task.done() or task.cancelled() or task.exception()]
        self._tasks.append(asyncio.create_task(self._run(group, port)))

    def _spin_off(self, seat: Seat[Any], delay: float) -> None:
        self._start_group([seat], delay)

    async def _run(self, group: Group, port: AsyncPort) -> None:
        assert self._crew is not None
        try:
            while True:
                await port.run(group.work(self._live))
                if self._crew.ended(group):
                    return
        except BaseException as crash:
            self._crew.crashed(group, crash)
            self.crash = self.crash or crash
            raise
        finally:
            del self._ports[group]
            await port.close()
            self._changed.set()

    async def _keep_house(self, work: Callable[[], Any]) -> None:
        assert self._port is not None
        try:
            await self._port.run(work())
        except BaseException as crash:
            self.crash = self.crash or crash
            self.stop()
            raise
        finally:
            await self._port.close()
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
    return sum(seat.handled for seat in engine.seats)
