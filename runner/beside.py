"""Operations that run beside another one, a bounded number at a time: in threads, or in tasks of an event loop.

They may yield `Invoke` and `Await` (see `runner.requests`), and hand their results over in objects they share.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from typing import Any

from .requests import Await, Begin, Effect, Invoke, Operation, drive, drive_async
from .wire.sync import Waiter


class Threads:
    """Runs operations in threads, which are kept for the next ones."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, what: Begin) -> list[Future[None]]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(what.limit, "runner-effects")
        return [self._pool.submit(_run, operation) for operation in what.operations]

    def finish(self, work: Sequence[Future[None]], timeout: float) -> bool:
        done, waiting = wait_for_futures(work, timeout)
        for future in done:
            future.result()
        return not waiting

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def _run(operation: Operation[None]) -> None:
    waiter = Waiter()

    def perform(effect: Effect) -> Any:
        if isinstance(effect, Invoke):
            return effect.function(*effect.args)
        assert isinstance(effect, Await), f"{effect} cannot be done beside another operation"
        return waiter.wait(effect.awaitable)

    try:
        drive(operation, perform)
    finally:
        waiter.close()


class Tasks:
    """Runs operations in tasks; functions that are not coroutines run in threads, so they do not hold the loop up."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    async def begin(self, what: Begin) -> list[asyncio.Task[None]]:
        pool = self._pool = self._pool or ThreadPoolExecutor(what.limit, "runner-effects")
        room = asyncio.Semaphore(what.limit)

        async def bounded(operation: Operation[None]) -> None:
            async with room:
                await _run_async(operation, pool)

        return [asyncio.create_task(bounded(operation)) for operation in what.operations]

    async def finish(self, work: Sequence[asyncio.Task[None]], timeout: float) -> bool:
        if not work:
            return True
        done, waiting = await asyncio.wait(work, timeout=timeout)
        for task in done:
            task.result()
        return not waiting

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False)


async def _run_async(operation: Operation[None], pool: ThreadPoolExecutor) -> None:
    async def perform(effect: Effect) -> Any:
        if isinstance(effect, Invoke):
            if inspect.iscoroutinefunction(effect.function):
                return effect.function(*effect.args)
            return await asyncio.get_running_loop().run_in_executor(pool, effect.function, *effect.args)
        assert isinstance(effect, Await), f"{effect} cannot be done beside another operation"
        return await effect.awaitable

    await drive_async(operation, perform)
