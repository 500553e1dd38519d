"""Calls of user code in threads, a bounded number at a time. Async handlers run on an event loop of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from typing import Any

from ..effects import Begin, CannotWait, Invoke, UserCodeEffect, UserCodeOperation, drive
from ..effects.user_code import call

#: An operation that was begun.
Work = Future[None]


class Threads:
    """Runs operations in threads, and keeps the threads for later operations."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, what: Begin) -> list[Work]:
        """Begin operations, at most as many at a time as ``what`` allows. `finish` waits for the returned ones."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(what.limit, "runner-effects")
        return [self._pool.submit(_run, operation) for operation in what.operations]

    def finish(self, work: Sequence[Work], timeout: float) -> bool:
        """Wait up to ``timeout`` seconds; False if one has not ended. Raises the error of one that failed."""
        done, waiting = wait_for_futures(work, timeout)
        for future in done:
            future.result()
        return not waiting

    def close(self) -> None:
        """Wait for the operations that were begun, and end the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def _run(operation: UserCodeOperation[None]) -> None:
    user_code = UserCode()
    try:
        drive(operation, user_code.perform)
    finally:
        user_code.close()


class UserCode:
    """Calls user code in this thread. Async handlers run on an event loop that this object makes."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def perform(self, effect: UserCodeEffect) -> Any:
        """Call a function, or wait for an awaitable; raises what they raise, UserCodeRaised or CannotWait."""
        if isinstance(effect, Invoke):
            return call(effect.function, *effect.args)
        if asyncio._get_running_loop() is not None:
            if isinstance(effect.awaitable, Coroutine):
                effect.awaitable.close()
            raise CannotWait
        if self._runner is None:
            self._runner = asyncio.Runner()
        return call(self._runner.run, _as_coroutine(effect.awaitable))

    def close(self) -> None:
        """End the event loop. The next async handler gets a new one."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None


async def _as_coroutine(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
