"""Calls of user code beside an event loop's work, a bounded number at a time. Compare `runner.sync.concurrency`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..effects import Begin, Invoke, UserCodeEffect, UserCodeOperation, UserCodeRaised, drive_async
from ..effects.user_code import CONTROL, call

#: An operation that was begun.
Work = asyncio.Task[None]


class Tasks:
    """Runs operations in tasks of their own."""

    def __init__(self) -> None:
        self._user_code: AsyncUserCode | None = None
        self._begun: list[Work] = []

    async def begin(self, what: Begin) -> list[Work]:
        """Begin operations, at most as many at a time as ``what`` allows. `finish` waits for the returned ones."""
        user_code = self._user_code = self._user_code or AsyncUserCode(what.limit)
        room = asyncio.Semaphore(what.limit)

        async def bounded(operation: UserCodeOperation[None]) -> None:
            async with room:
                await drive_async(operation, user_code.perform)

        self._begun = [asyncio.create_task(bounded(operation)) for operation in what.operations]
        return self._begun

    async def finish(self, work: Sequence[Work], timeout: float) -> bool:
        """Wait up to ``timeout`` seconds; False if one has not ended. Raises the error of one that failed."""
        if not work:
            return True
        done, waiting = await asyncio.wait(work, timeout=timeout)
        for task in done:
            task.result()
        return not waiting

    def close(self) -> None:
        """Cancel the operations that have not ended, and end the threads, each after its current call."""
        for task in self._begun:
            task.cancel()
        if self._user_code is not None:
            self._user_code.close()


class AsyncUserCode:
    """Calls user code: coroutine functions in this loop, other functions in threads, where they do not block it."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._pool: ThreadPoolExecutor | None = None

    async def perform(self, effect: UserCodeEffect) -> Any:
        """Call a function, or wait for an awaitable; raises what they raise, or UserCodeRaised."""
        task = asyncio.current_task()
        try:
            return await self._perform(effect)
        except CONTROL as raised:
            if _is_to_end(task):
                raise
            raise UserCodeRaised(raised) from raised

    async def _perform(self, effect: UserCodeEffect) -> Any:
        if not isinstance(effect, Invoke):
            return await effect.awaitable
        if inspect.iscoroutinefunction(effect.function):
            return effect.function(*effect.args)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._limit, "runner-effects")
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, effect.function, *effect.args)

    def close(self) -> None:
        """End the threads, each after its current call."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None


def _is_to_end(task: asyncio.Task[Any] | None) -> bool:
    """Whether the task was cancelled from outside, or is being closed: then no user code has raised."""
    try:
        return task is None or task.cancelling() > 0 or asyncio.current_task() is not task
    except RuntimeError:  # the event loop has ended
        return True
