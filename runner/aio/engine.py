"""Projections at work in tasks of one event loop. Compare `runner.engine`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from ..engine import LiveGroups, as_runner_error, take_seats
from ..group import LIVE, Group, Seat
from ..log.appending import AppendResult
from ..projection import Projection
from .store import AsyncEventStore
from .subscribing import AsyncPort


class AsyncEngine:
    """``live=False``: it ends when everything has caught up."""

    def __init__(self, store: AsyncEventStore, projections: tuple[Projection, ...], *, live: bool) -> None:
        self._store = store
        self._projections = projections
        self._live = live
        self._groups_live = LiveGroups()
        self._changed = asyncio.Event()
        self._workers: list[tuple[Group, AsyncPort]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.seats: list[Seat] = []

    async def start(self) -> None:
        store = self._store
        facts = await store.facts()
        for seats in await store.run(take_seats(facts, self._projections)):
            self.seats += seats
            port = AsyncPort(store.driver, store.feed(facts, seats[0].keys.partition))
            group = Group(
                seats[0].keys,
                seats,
                store.settings,
                clock=time.monotonic,
                notify=lambda seat: self._changed.set(),
                patience=store.settings.retry_for,
                hand_over=lambda group, port=port: self._groups_live.hand_over(group, port.wake),  # type: ignore[misc]
            )
            self._workers.append((group, port))
        self._tasks = [asyncio.create_task(self._run(group, port)) for group, port in self._workers]

    async def wait_live(self, timeout: float | None = None) -> bool:
        return await self._wait(lambda seat: seat.state == LIVE or seat.failure is not None, timeout)

    async def wait_for(self, partition: int, position: int, timeout: float | None = None) -> bool:
        return await self._wait(lambda seat: seat.has_applied(partition, position), timeout)

    async def _wait(self, ready: Callable[[Seat], bool], timeout: float | None) -> bool:
        try:
            async with asyncio.timeout(timeout):
                while not all(map(ready, self.seats)):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def join(self) -> None:
        """Wait until all tasks have ended; raise the first failure."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for seat in self.seats:
            if seat.failure is not None:
                raise seat.failure

    def stop(self) -> None:
        for group, port in self._workers:
            group.stopping = True
            port.wake()

    async def _run(self, group: Group, port: AsyncPort) -> None:
        try:
            while True:
                await port.run(group.work(self._live))
                if self._groups_live.end(group):
                    return
        except BaseException as crash:
            self._groups_live.forget(group)
            for seat in group.seats:
                seat.failure = seat.failure or as_runner_error(crash)
            raise
        finally:
            self._changed.set()
            await port.close()


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


async def async_catch_up(store: AsyncEventStore, *projections: Projection) -> int:
    """`runner.catch_up` for an asynchronous store."""
    engine = AsyncEngine(store, projections, live=False)
    await engine.start()
    await engine.join()
    return sum(seat.handled for seat in engine.seats)
