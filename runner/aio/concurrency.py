"""User code beside an event loop's own work, a bounded number of calls at a time. Compare `runner.sync.concurrency`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..effects import Begin, Invoke, UserCodeEffect, UserCodeOperation, drive_async


async def call(effect: Invoke, pool: ThreadPoolExecutor | None = None) -> Any:
    """Call user code. A function that is no coroutine function runs in a thread, so it does not hold the loop up."""
    if inspect.iscoroutinefunction(effect.function):
        return effect.function(*effect.args)
    return await asyncio.get_running_loop().run_in_executor(pool, effect.function, *effect.args)


#: An operation that was begun.
Work = asyncio.Task[None]


class Tasks:
    """Runs operations in tasks beside the one that began them."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    async def begin(self, what: Begin) -> list[Work]:
        """Begin operations, at most as many at a time as ``what`` allows; `finish` waits for what is returned."""
        pool = self._pool = self._pool or ThreadPoolExecutor(what.limit, "runner-effects")
        room = asyncio.Semaphore(what.limit)

        async def bounded(operation: UserCodeOperation[None]) -> None:
            async with room:
                await _run(operation, pool)

        return [asyncio.create_task(bounded(operation)) for operation in what.operations]

    async def finish(self, work: Sequence[Work], timeout: float) -> bool:
        """Wait up to ``timeout`` seconds; False where not all have ended. Raises what one of them raised."""
        if not work:
            return True
        done, waiting = await asyncio.wait(work, timeout=timeout)
        for task in done:
            task.result()
        return not waiting

    def close(self) -> None:
        """End the threads that functions were called in, each after its call."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)


async def _run(operation: UserCodeOperation[None], pool: ThreadPoolExecutor) -> None:
    async def perform(effect: UserCodeEffect) -> Any:
        return await call(effect, pool) if isinstance(effect, Invoke) else await effect.awaitable

    await drive_async(operation, perform)
